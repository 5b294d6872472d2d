"""`waypost session`: lists the sessions of connected clients, and ends sessions."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from waypost.cli.addresses import address_key
from waypost.cli.frame import become_owner, config_option, confirm, fail, json_option, must_see, print_json, time_text
from waypost.cli.groups import CommandGroup
from waypost.cli.terminal import echo, print_table
from waypost.cli.workers import ask, ended, load_asking, must_be_confirmed
from waypost.counting import counted

if TYPE_CHECKING:
    from waypost.config.settings import Settings
    from waypost.service.processes.control_socket import Answers
    from waypost.service.processes.session_requests import EndSessions, Request


class _NetworkType(click.ParamType[str]):
    """An address or a network such as `192.0.2.0/24`."""

    name = "network"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        from ipaddress import ip_network

        try:
            return str(ip_network(str(value)))
        except ValueError as error:
            self.fail(f"{error}; write for example 192.0.2.7 or 192.0.2.0/24", param, ctx)


@click.group(cls=CommandGroup)
def session() -> None:
    """Sessions of connected clients. A disabled account, or a new password, ends the account's sessions by itself."""


@session.command("list")
@config_option
@json_option
def list_sessions(settings: Settings, as_json: bool) -> None:
    """List the sessions of all workers, the oldest first."""
    from waypost.service.processes.session_requests import ListSessions

    answers = _ask(settings, ListSessions())
    rows = sorted(answers.rows, key=lambda row: (row["began"], row["id"]))
    if as_json:
        print_json([{**row, "began": time_text(row["began"])} for row in rows])
    elif not rows:
        echo("Nobody is connected.")
    else:
        print_table(
            ("id", "protocol", "client", "account", "tls", "since", "state"),
            [
                (
                    row["id"],
                    row["protocol"],
                    row["peer"],
                    row["account"] or "-",
                    "yes" if row["tls"] else "no",
                    time_text(row["began"]),
                    "in a transaction" if row["busy"] else "idle",
                )
                for row in rows
            ],
            shrink=("account",),
        )
    if answers.silent:
        fail(f"no answer from {' and '.join(answers.silent)}: its sessions are not in the list")


@session.command()
@click.argument("id", required=False)
@click.option("--account", metavar="ADDRESS", help="The sessions of this account.")
@click.option("--network", type=_NetworkType(), help="The sessions of clients from here: 192.0.2.7, 2001:db8::/64.")
@click.option("--yes", is_flag=True, help="Do not ask.")
@config_option
def end(settings: Settings, id: str | None, account: str | None, network: str | None, yes: bool) -> None:
    """End sessions: the one with an ID of `waypost session list`, or those of an account or a network.

    Their clients are told why (421, -ERR), and may connect again: to keep an account out, disable it. A message that is
    being stored is answered first. Returns when all workers have confirmed, or names the one that has not.
    """
    from waypost.service.processes.session_requests import EndSessions, ListSessions

    if (id, account, network) == (None, None, None):
        raise click.UsageError("Say which: an ID, --account or --network.")
    wanted = EndSessions(id, None if account is None else address_key(account), network)
    none = f"there is no session {_words(wanted)}; waypost session list shows all"
    if not yes:
        found = sum(wanted.wants(row["id"], row["account"], row["peer"]) for row in _ask(settings, ListSessions()).rows)
        if not found:
            fail(none)
        confirm(f"End {counted(found, 'session')}?", yes)
    answers = _ask(settings, wanted)
    count = ended(answers)
    echo(f"Ended {counted(count, 'session')}.")
    must_be_confirmed(answers, "its sessions may go on")
    if not count:
        fail(none)


def _words(wanted: EndSessions) -> str:
    """Say which sessions are meant."""
    words = [] if wanted.id is None else [wanted.id]
    words += [] if wanted.account is None else [f"of {wanted.account}"]
    words += [] if wanted.network is None else [f"from {wanted.network}"]
    return " ".join(words)


def _ask(settings: Settings, request: Request) -> Answers:
    """Ask the workers, as the user that owns the data directory. Exits with 1 when no service runs."""
    import asyncio

    from waypost.cli.running import service_of

    load_asking()
    if service_of(settings.data) is None:  # before the process becomes a user that can't read the program
        must_see(settings.data)
        fail(f"no service runs on {settings.data}")
    become_owner(settings.data)
    return asyncio.run(ask(settings, request))
