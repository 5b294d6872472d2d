"""The output of `waypost init` at its end: the findings in DNS, the records to publish, the settings for a mail
program, and the next commands."""

from __future__ import annotations

import shlex
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from waypost.cli.frame import called_as
from waypost.cli.init import discovery
from waypost.cli.init.records import record_lines, records
from waypost.cli.terminal import echo, echo_wrapped

if TYPE_CHECKING:
    from waypost.config.settings import Settings, Tls


def check_dns(hostname: str, found: discovery.Machine) -> discovery.Looked:
    """Ask DNS, print its answers in plain words, and return them."""
    looked = discovery.look_up(hostname, found.addresses)
    echo("\nDNS and addresses:")
    for line in discovery.findings(hostname, found, looked):
        echo_wrapped(f"  {line}", hanging=4)
    return looked


def print_records(settings: Settings, found: discovery.Machine | None, looked: discovery.Looked | None) -> None:
    """Print the records to publish, and the other tasks that people must do."""
    from waypost.transport.public import is_public

    known = [*(found.addresses if found else ()), *(looked.forward or () if looked else ())]
    addresses = [address for address in dict.fromkeys(known) if is_public(address)]
    missing = "" if addresses else ", with this host's public address for 192.0.2.1 (and an AAAA record if it has IPv6)"
    echo()
    echo_wrapped(f"Publish in DNS{missing}:", hanging=0)
    for line in record_lines(records(settings.hostname, settings.domains, addresses)):
        echo(f"  {line}")
    echo()
    asking = f"Ask whoever gave you the address to set its PTR record (reverse name) to {settings.hostname}."
    echo_wrapped(asking, hanging=0)
    if settings.tls is not None and _is_self_signed(settings.tls):
        names = f"{settings.tls.certificate} and {settings.tls.key}"
        echo_wrapped(f"The certificate is self-signed: replace {names} by one that mail programs trust.", hanging=0)


def _is_self_signed(tls: Tls) -> bool:
    from waypost.service.machine.certificates import CertificateProblem, load_pair

    try:
        return load_pair(tls.certificate, tls.key, datetime.now(UTC)).self_signed
    except CertificateProblem:  # `waypost check` reports it with all other errors
        return False


def print_settings(settings: Settings, address: str) -> None:
    """Print the settings for an account in a mail program."""
    from waypost.cli import settings as command

    echo("\nSettings for a mail program:\n")
    command.print_settings(address, settings.hostname, command.offers_of(settings))


def print_next(config: Path, settings: Settings, *, usual: Path, account: bool, unit: bool, started: bool) -> None:
    """Print the next commands. `usual` is the configuration that commands find without --config; `account` says that an
    account exists, `unit` that the systemd unit is installed, `started` that the service runs."""
    option = "" if config == usual else f" --config {shlex.quote(str(config))}"
    calls = []
    if not account and settings.domains:
        calls.append(f"account add alice@{settings.domains[0]}{option}")
    calls.append(f"check{option}")
    if not started:
        calls.append(f"serve{option}")
    echo("\nNext:")
    for call in calls:
        echo(f"  {called_as()} {call}")
    if unit and not started:
        echo("  systemctl enable --now waypost     # instead of serve: now, and at each boot")
