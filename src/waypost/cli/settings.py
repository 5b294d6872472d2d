"""`waypost settings`: the settings for an account in a mail program (RFC 8314, RFC 6409)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import click

from waypost.cli.addresses import address_key
from waypost.cli.frame import config_option, fail, json_option, print_json, run_with_storage
from waypost.cli.terminal import echo, echo_wrapped, print_table

if TYPE_CHECKING:
    from collections.abc import Sequence

    from waypost.config.settings import Settings
    from waypost.storage import Account, Bus, Storage


@dataclass(frozen=True, slots=True)
class Offer:
    """One server setting: `purpose` is sending or reading, `protocol` SMTP or POP3, `tls` as mail programs call it."""

    purpose: str
    protocol: str
    port: int
    tls: str


def offers_of(settings: Settings) -> Sequence[Offer]:
    """Return the listeners of a configuration that mail programs can use, the best for each purpose first.

    A listener on a loopback address serves this machine alone, and is left out.
    """
    from waypost.config.listener_protocols import Clients, ListenerProtocol

    found = {(each.protocol, each.port) for each in settings.listeners if not each.address.is_loopback}
    people = ((Clients.SENDERS, "sending"), (Clients.READERS, "reading"))
    return [
        Offer(purpose, protocol.speaks, port, "TLS from the start (SSL/TLS)" if protocol.implicit_tls else "STARTTLS")
        for clients, purpose in people
        for protocol in sorted(ListenerProtocol, key=lambda each: not each.implicit_tls)  # RFC 8314 section 3
        if protocol.clients is clients
        for port in sorted(port for offered, port in found if offered is protocol)
    ]


def print_settings(address: str, hostname: str, offers: Sequence[Offer]) -> None:
    """Print the settings to type into a mail program."""
    print_table(
        ("for", "protocol", "server", "port", "security"),
        [(offer.purpose, offer.protocol, hostname, offer.port, offer.tls) for offer in offers],
    )
    echo()
    user = f"The user name is {address}, for sending and for reading; the password is the account's."
    echo_wrapped(user, hanging=0)
    echo('Where a program asks for the kind of login, "normal password" is right.')


@click.command()
@click.argument("address")
@config_option
@json_option
def settings(settings: Settings, address: str, as_json: bool) -> None:
    """Print the settings for a mail program: server, ports, security and user name."""
    key = address_key(address)
    offers = offers_of(settings)

    async def work(storage: Storage, bus: Bus) -> Account | None:
        return await storage.directory.account(key)

    if run_with_storage(settings, work) is None:
        fail(f"there is no account {key}; waypost account list shows all")
    if not offers:
        protocols = "submissions, submission, pop3s or pop3"
        fail(f"{settings.path}: no listener that others can reach serves mail programs: {protocols}")
    if as_json:
        print_json(
            {
                "user": key,
                "server": settings.hostname,
                "offers": [
                    {"for": each.purpose, "protocol": each.protocol.lower(), "port": each.port, "security": each.tls}
                    for each in offers
                ],
            }
        )
        return
    print_settings(key, settings.hostname, offers)
