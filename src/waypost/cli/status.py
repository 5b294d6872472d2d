"""`waypost status`: whether the service runs, and how queue, mailboxes, disk and certificate are."""

from __future__ import annotations

import json
import os
import shutil
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from waypost.cli.frame import config_option, json_option, print_json, printable, run_with_storage
from waypost.cli.queue.entry_text import json_of_stats
from waypost.cli.queue.looking import summary
from waypost.cli.times import iso_time, now, span_text

if TYPE_CHECKING:
    from waypost.config.settings import Settings, Tls
    from waypost.storage import Account, Bus, QueueStats, Storage

_DAY = 86_400_000_000
_SOON = 14  # days before a certificate's end that are worth a word


@click.command()
@config_option
@json_option
def status(settings: Settings, as_json: bool) -> None:
    """Show whether the service runs, and what it does."""
    when = now()

    async def work(storage: Storage, bus: Bus) -> tuple[QueueStats, list[Account]]:
        return await storage.queue.stats(now=when), await storage.directory.accounts()

    # Before the storage is opened: then this process may no longer read the certificate.
    certificate = None if settings.tls is None else _certificate(settings.tls, when)
    stats, accounts = run_with_storage(settings, work)
    found = {
        "service": service_of(settings.data),
        "queue": json_of_stats(stats),
        "accounts": {
            "count": len(accounts),
            "disabled": sum(account.disabled for account in accounts),
            "usage": sum(account.usage for account in accounts),
        },
        "disk": _disk(settings.data),
        "certificate": certificate,
    }
    if as_json:
        print_json({"running": found["service"] is not None, **found})
        return
    for name, words in _lines(found, summary(stats, when), when):
        click.echo(f"{name:<12} {printable(words)}")


def service_of(data: Path) -> dict[str, Any] | None:
    """Return what the running service says of itself; None when none runs."""
    try:
        said = json.loads((data / "run" / "service.json").read_text())
    except (OSError, ValueError):
        return None
    return said if isinstance(said, dict) and _alive(said.get("pid")) else None


def _alive(pid: object) -> bool:
    """True when this process lives, and is a Waypost: after a restart of the machine the number may be another's."""
    if not isinstance(pid, int) or pid <= 0:
        return False
    try:
        return b"waypost" in Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return False


def _disk(data: Path) -> dict[str, int]:
    """Return octets: of the disk, and of what the storage takes of it."""
    disk = shutil.disk_usage(data)
    taken = {"database": 0, "segments": 0}
    for path in data.glob("waypost.db*"):
        taken["database"] += _size(path)
    for path in (data / "segments").iterdir():
        taken["segments"] += _size(path)
    return {"free": disk.free, "total": disk.total, **taken}


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except FileNotFoundError:  # it went meanwhile
        return 0


def _certificate(tls: Tls, when: int) -> dict[str, Any]:
    """Return when the certificate of the listeners ends, or what is wrong with it."""
    from cryptography import x509

    try:
        ends = x509.load_pem_x509_certificate(tls.certificate.read_bytes()).not_valid_after_utc
    except OSError as error:
        return {"path": str(tls.certificate), "problem": os.strerror(error.errno or 0)}
    except ValueError:
        return {"path": str(tls.certificate), "problem": "it holds no certificate in PEM form"}
    expires = int(ends.timestamp()) * 1_000_000
    return {"path": str(tls.certificate), "expires": iso_time(expires), "days": (expires - when) // _DAY}


def _lines(found: dict[str, Any], queue: str, when: int) -> list[tuple[str, str]]:
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
        ("accounts", f"{accounts['count']}{disabled}; {rounded_size(accounts['usage'])} in their mailboxes"),
        (
            "storage",
            f"{rounded_size(disk['segments'])} of messages, {rounded_size(disk['database'])} of database; "
            f"{rounded_size(disk['free'])} of {rounded_size(disk['total'])} free on the disk",
        ),
        ("certificate", _certificate_words(found["certificate"])),
    ]


def _service_words(service: dict[str, Any] | None, when: int) -> str:
    if service is None:
        return "not running"
    started = int(datetime.fromisoformat(service["started"]).timestamp()) * 1_000_000
    since = span_text(when - started)
    workers = service.get("workers") or ()
    return (
        f"running for {since}, version {service.get('version')}, process {service.get('pid')}, "
        f"{len(workers)} {'worker' if len(workers) == 1 else 'workers'}"
    )


def _certificate_words(certificate: dict[str, Any] | None) -> str:
    if certificate is None:
        return "none: no [tls] in the configuration"
    if "problem" in certificate:
        return f"{certificate['path']}: {certificate['problem']}"
    days = certificate["days"]
    if days < 0:
        return f"EXPIRED at {certificate['expires']}"
    return f"{'ends soon: ' if days < _SOON else ''}valid for {days} days, until {certificate['expires']}"
