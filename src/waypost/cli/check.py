"""`waypost check`: every error of the configuration, or a summary of it in a few lines."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from waypost.cli.frame import config_file, json_option, path_option, print_json
from waypost.cli.terminal import echo, echo_wrapped, printable

if TYPE_CHECKING:
    from waypost.config.load import ConfigErrors
    from waypost.config.settings import Settings
    from waypost.service.machine.preflight import Preflight


@click.command()
@path_option
@json_option
def check(config: Path | None, as_json: bool) -> None:
    """Check the configuration, and the certificates and passwords that it names.

    Each error is one line: file, line, key, what is wrong and how to write it. The exit status is then 1.
    """
    from datetime import UTC, datetime

    from waypost.config.load import ConfigErrors, load_document
    from waypost.service.machine.preflight import preflight

    try:
        document = load_document(config_file(config))
        found = preflight(document, datetime.now(UTC))
    except ConfigErrors as errors:
        if as_json:
            print_json({"ok": False, "errors": _errors(errors)})
        else:
            for error in errors.errors:
                echo(printable(str(error)), err=True)
        raise SystemExit(1) from None
    if as_json:
        print_json({"ok": True, **_summary(document.settings, found)})
    else:
        _print_summary(document.settings, found)


def _errors(errors: ConfigErrors) -> list[dict[str, Any]]:
    return [
        {
            "file": str(error.file),
            "line": error.line,
            "key": error.key,
            "value": error.value,
            "message": error.words,
        }
        for error in errors.errors
    ]


def _summary(settings: Settings, found: Preflight) -> dict[str, Any]:
    from waypost.config.network import format_ip_and_port

    certificate = found.certificate
    return {
        "file": str(settings.path),
        "hostname": settings.hostname,
        "domains": list(settings.domains),
        "listeners": [
            {"protocol": str(each.protocol), "address": format_ip_and_port(each.address, each.port)}
            for each in settings.listeners
        ],
        "certificate": certificate
        and {
            "names": list(certificate.names),
            "expires": certificate.not_after.strftime("%Y-%m-%dT%H:%M:%SZ"),
            "self_signed": certificate.self_signed,
        },
        "data": str(settings.data),
        "notes": list(found.notes),
    }


def _print_summary(settings: Settings, found: Preflight) -> None:
    summary = _summary(settings, found)
    listeners = [f"{each['protocol']} {each['address']}" for each in summary["listeners"]]
    certificate = summary["certificate"]
    lines = [
        ("hostname", settings.hostname),
        ("domains", ", ".join(settings.domains) or "none: this host only sends"),
        ("listens on", ", ".join(listeners) or "nothing"),
        (
            "certificate",
            f"until {certificate['expires']}, for {', '.join(certificate['names']) or 'no name'}"
            if certificate
            else "none",
        ),
        ("data", str(settings.data)),
    ]
    echo_wrapped(f"{settings.path}: no errors", hanging=2)
    for name, value in lines:
        echo_wrapped(f"  {name:<12} {value}", hanging=15)
    for note in found.notes:
        echo_wrapped(f"  note: {note}", hanging=8)
