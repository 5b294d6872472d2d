"""`waypost status`: whether the service runs, and the state of queue, mailboxes, disk and certificate."""

from __future__ import annotations

import contextlib
import hashlib
import os
import shutil
from collections.abc import Iterator, Sequence
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from waypost.cli.concerns import CRITICAL, NAMES, OK, SOON, UNKNOWN, Concern, concerns_of
from waypost.cli.frame import config_file, json_option, path_option, print_json, run_with_storage, settings_to_use
from waypost.cli.queue.entry_text import json_of_stats
from waypost.cli.queue.looking import summary
from waypost.cli.running import service_of
from waypost.cli.terminal import echo, echo_wrapped, printable
from waypost.cli.times import iso_time, now, span_text
from waypost.counting import counted

if TYPE_CHECKING:
    from waypost.config.settings import Settings, Tls
    from waypost.storage import Account, Bus, QueueStats, Storage

_DAY = 86_400_000_000
_NOT_RUNNING = 3  # as in `systemctl status`


@click.command()
@path_option
@json_option
@click.option("--check", is_flag=True, help="For monitors: one line, and an exit status by severity (0, 1, 2 or 3).")
def status(config: Path | None, as_json: bool, check: bool) -> None:
    """Show whether the service runs, and what it does.

    The exit status is 3 when it does not run. With --check it is 0 when all is well, 1 for a warning, 2 for a problem
    that needs help now, 3 when the state is unknown.
    """
    with _exit_status(UNKNOWN if check else 1, "the configuration can't be read" if check and not as_json else None):
        settings = settings_to_use(config_file(config))
    with _exit_status(CRITICAL if check else 1, "the storage can't be opened" if check and not as_json else None):
        found, queue = _look(settings)
    concerns = concerns_of(found, settings, now())
    severity = max((concern.severity for concern in concerns), default=OK)
    if as_json:
        print_json({"running": found["service"] is not None, **found, **_json_of(severity, concerns)})
    elif check:
        echo(printable(": ".join([NAMES[severity], "; ".join(each.words for each in concerns) or queue])))
    else:
        for name, words in _lines(found, concerns, queue, now()):
            echo_wrapped(f"{name:<12} {words}", hanging=13)
    if check:
        raise SystemExit(severity)
    if found["service"] is None:
        raise SystemExit(_NOT_RUNNING)


@contextlib.contextmanager
def _exit_status(status: int, words: str | None) -> Iterator[None]:
    """Turn a failure, which was printed on the error stream already, into an exit status and a line for monitors, which
    don't read the error stream."""
    try:
        yield
    except SystemExit as failure:
        if failure.code and words is not None:
            echo(f"{NAMES[status]}: {words}; the error stream says why")
        raise SystemExit(status if failure.code else 0) from None


def _look(settings: Settings) -> tuple[dict[str, Any], str]:
    """Return the observed facts, and the state of the queue in words."""
    when = now()

    from waypost.storage.engine.upkeep import missing_segments, sizes_of

    async def work(storage: Storage, bus: Bus) -> tuple[QueueStats, list[Account], dict[str, int], list[str]]:
        stats, accounts = await storage.queue.stats(now=when), await storage.directory.accounts()
        sizes = sizes_of(settings.data)
        return stats, accounts, sizes, missing_segments(settings.data, sizes)

    # Before the storage is opened, since afterwards this process may be unable to read the certificate.
    service = service_of(settings.data)
    certificate = None if settings.tls is None else _certificate(settings.tls, service, when)
    changed = _changed(settings.path, service)
    stats, accounts, sizes, missing = run_with_storage(settings, work)
    found = {
        "service": service,
        "queue": json_of_stats(stats),
        "accounts": {
            "count": len(accounts),
            "disabled": sum(account.disabled for account in accounts),
            "usage": sum(account.usage for account in accounts),
        },
        "disk": _disk(settings.data, sum(sizes.values())),
        "missing_segments": missing,
        "certificate": certificate,
        "configuration_changed": changed,
    }
    return found, summary(stats, when)


def _json_of(severity: int, concerns: Sequence[Concern]) -> dict[str, Any]:
    return {
        "severity": NAMES[severity].lower(),
        "concerns": [{"severity": NAMES[each.severity].lower(), "message": each.words} for each in concerns],
    }


def _changed(path: Path, service: dict[str, Any] | None) -> bool | None:
    """True when the configuration file differs from the one that the service uses; None when that is not known."""
    in_force = (service or {}).get("configuration")
    if in_force is None or in_force.get("path") != str(path.absolute()):
        return None
    try:
        return bool(hashlib.sha256(path.read_bytes()).hexdigest() != in_force.get("sha256"))
    except FileNotFoundError:
        return True
    except OSError:
        return None


def _disk(data: Path, segments: int) -> dict[str, int]:
    """Return octets: the size of the disk, its free space, and the parts that the storage uses."""
    disk = shutil.disk_usage(data)
    database = sum(map(_size, data.glob("waypost.db*")))
    return {"free": disk.free, "total": disk.total, "database": database, "segments": segments}


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except FileNotFoundError:  # the file was removed meanwhile
        return 0


def _certificate(tls: Tls, service: dict[str, Any] | None, when: int) -> dict[str, Any]:
    """Return when the certificate that the service uses ends; without a service, that of the file, or its fault.

    `stale` is true when the file holds another certificate than the service uses; `begins` is present while the
    certificate is not valid yet.
    """
    from waypost.service.processes.state import certificate_facts

    served = (service or {}).get("certificate")
    facts: dict[str, Any] = {"path": str(tls.certificate)}
    try:
        in_file = certificate_facts(tls.certificate.read_bytes())
    except OSError as error:
        in_file = None
        facts["problem"] = os.strerror(error.errno or 0)
    except ValueError:
        in_file = None
        facts["problem"] = "it holds no certificate in PEM form"
    shown = served or in_file
    if shown is not None:
        expires = int(datetime.fromisoformat(shown["expires"]).timestamp()) * 1_000_000
        facts |= {"expires": iso_time(expires), "days": (expires - when) // _DAY}
        begins = shown.get("begins")  # an older version of the service does not report it
        if begins is not None and int(datetime.fromisoformat(begins).timestamp()) * 1_000_000 > when:
            facts["begins"] = begins
    if served is not None and in_file is not None:
        facts["stale"] = served["sha256"] != in_file["sha256"]
    return facts


def _lines(found: dict[str, Any], concerns: Sequence[Concern], queue: str, when: int) -> list[tuple[str, str]]:
    from waypost.config.sizes import rounded_size

    accounts, disk = found["accounts"], found["disk"]
    disabled = f", {accounts['disabled']} disabled" if accounts["disabled"] else ""
    return [
        ("service", _service_words(found["service"], when)),
        *(
            ("listens", f"{each.get('protocol')} on {each.get('address')}")
            for each in (found["service"] or {}).get("listeners", ())
        ),
        ("queue", queue),
        (
            "accounts",
            f"{accounts['count']}{disabled}; {rounded_size(accounts['usage'])} in their mailboxes",
        ),
        (
            "storage",
            f"{rounded_size(disk['segments'])} of messages, {rounded_size(disk['database'])} of database; "
            f"{rounded_size(disk['free'])} of {rounded_size(disk['total'])} free on the disk",
        ),
        ("certificate", _certificate_words(found["certificate"])),
        *(("note", each.words) for each in concerns if not each.shown),
    ]


def _service_words(service: dict[str, Any] | None, when: int) -> str:
    if service is None:
        return "not running"
    started = int(datetime.fromisoformat(service["started"]).timestamp()) * 1_000_000
    since = span_text(when - started)
    workers = service.get("workers") or ()
    return (
        f"running for {since}, version {service.get('version')}, process {service.get('pid')}, "
        f"{counted(len(workers), 'worker')}"
    )


def _certificate_words(certificate: dict[str, Any] | None) -> str:
    if certificate is None:
        return "none: no [tls] in the configuration"
    if "days" not in certificate:
        return f"{certificate['path']}: {certificate['problem']}"
    days = certificate["days"]
    if days < 0:
        return f"EXPIRED at {certificate['expires']}"
    if "begins" in certificate:
        return f"NOT VALID before {certificate['begins']}"
    return f"{'ends soon: ' if days < SOON else ''}valid for {counted(days, 'day')}, until {certificate['expires']}"
