"""`waypost domain`: the domains that are hosted here, by the configuration, with their numbers of accounts."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

import click

from waypost.cli.frame import config_option, json_option, print_json, run_with_storage
from waypost.cli.groups import CommandGroup
from waypost.cli.terminal import echo, print_table

if TYPE_CHECKING:
    from waypost.config.settings import Settings
    from waypost.storage import Bus, Storage


_IN_THE_FILE = "the domains stand in `domains` of waypost.toml; change that, then: waypost check && waypost reload"
_HINTS = dict.fromkeys(("add", "new", "create", "remove", "delete", "rm", "rename"), _IN_THE_FILE)


@click.group(cls=CommandGroup, hints=_HINTS)
def domain() -> None:
    """The domains that are hosted here."""


@domain.command("list")
@config_option
@json_option
def list_domains(settings: Settings, as_json: bool) -> None:
    """List the hosted domains, with how many accounts and aliases each has."""
    accounts, aliases = run_with_storage(settings, _count)
    rows = [(name, accounts[name], aliases[name]) for name in settings.domains]
    if as_json:
        print_json([{"domain": name, "accounts": people, "aliases": others} for name, people, others in rows])
    elif not rows:
        echo("No domain is hosted here: this host only sends.")
    else:
        print_table(("domain", "accounts", "aliases"), rows)


async def _count(storage: Storage, bus: Bus) -> tuple[Counter[str], Counter[str]]:
    accounts = await storage.directory.accounts()
    aliases = await storage.directory.aliases()
    return (
        Counter(each.address.rpartition("@")[2] for each in accounts),
        Counter(each.address.rpartition("@")[2] for each in aliases),
    )
