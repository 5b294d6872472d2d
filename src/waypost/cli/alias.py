"""`waypost alias`: addresses that stand for others, groups, and catch-alls. A running service sees changes at once."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from waypost.cli.addresses import address_key, alias_key, must_be_hosted, target_text
from waypost.cli.frame import config_option, fail, json_option, print_json, run_with_storage
from waypost.cli.groups import CommandGroup
from waypost.cli.terminal import echo, echo_wrapped, print_table, table_width, terminal_width

if TYPE_CHECKING:
    from waypost.config.settings import Settings
    from waypost.storage import Alias, Bus, Storage


@click.group(cls=CommandGroup)
def alias() -> None:
    """Aliases: addresses that stand for one or more others. "@example.org" is the catch-all of a domain."""


@alias.command()
@click.argument("address")
@click.argument("targets", metavar="TARGET...", nargs=-1, required=True)
@config_option
def add(settings: Settings, address: str, targets: tuple[str, ...]) -> None:
    """Make an alias that leads to each TARGET, or add the targets to one that exists."""
    from waypost.delivery.book import address_book
    from waypost.message.address import Address
    from waypost.storage import Alias

    key = alias_key(address)
    must_be_hosted(key, settings)
    wanted = tuple(map(target_text, targets))
    if key in map(address_key, wanted):
        fail(f"{key} can't lead to itself")

    async def work(storage: Storage, bus: Bus) -> tuple[Alias, list[str]]:
        before = await storage.directory.alias(key)
        circle = await _circle(storage, key, wanted)
        if circle:
            fail(f"aliases would lead {key} to itself: {' -> '.join(circle)}; nothing was changed")
        known = before.targets if before else ()
        made = Alias(key, tuple({address_key(target): target for target in (*known, *wanted)}.values()))
        await storage.directory.set_alias(made)
        book = address_book(settings, storage.directory)
        reached = {target: await book.resolve(Address.parse(target)) for target in wanted}
        return made, [target for target, who in reached.items() if not (who.somebody or who.disabled or who.full)]

    made, nowhere = run_with_storage(settings, work)
    echo(f"{key} leads to {', '.join(made.targets)}.")
    for target in nowhere:
        echo(f"note: {target} is neither an account nor an alias yet", err=True)


async def _circle(storage: Storage, key: str, targets: tuple[str, ...]) -> list[str]:
    """Return the addresses by which aliases would lead from an address to itself; empty when they don't."""
    ways = [[key, address_key(target)] for target in targets]
    seen: set[str] = set()
    while ways:
        way = ways.pop()
        if way[-1] == key:
            return way
        if way[-1] in seen:
            continue
        seen.add(way[-1])
        found = await storage.directory.alias(way[-1])
        if found is not None:
            ways += [[*way, address_key(target)] for target in found.targets]
    return []


@alias.command("list")
@config_option
@json_option
def list_aliases(settings: Settings, as_json: bool) -> None:
    """List all aliases."""

    async def work(storage: Storage, bus: Bus) -> list[Alias]:
        return await storage.directory.aliases()

    aliases = run_with_storage(settings, work)
    if as_json:
        print_json([{"address": each.address, "targets": list(each.targets)} for each in aliases])
    elif not aliases:
        echo("There is no alias.")
    else:
        _print_list([(each.address, ", ".join(each.targets)) for each in aliases])


def _print_list(rows: list[tuple[str, str]]) -> None:
    """Print aliases as a table, or where a terminal is too narrow for all targets of one, each in a paragraph."""
    columns = ("address", "leads to")
    width = terminal_width()
    if width is None or table_width(columns, rows) <= width:
        print_table(columns, rows)
        return
    for address, targets in rows:
        echo_wrapped(f"{address} leads to {targets}", hanging=4)


@alias.command()
@click.argument("address")
@click.argument("targets", metavar="[TARGET]...", nargs=-1)
@config_option
def remove(settings: Settings, address: str, targets: tuple[str, ...]) -> None:
    """Remove an alias, or only some TARGETs of it."""
    from waypost.storage import Alias

    key = alias_key(address)
    unwanted = set(map(address_key, targets))

    async def work(storage: Storage, bus: Bus) -> tuple[str, ...]:
        found = await storage.directory.alias(key)
        if found is None:
            fail(f"there is no alias {key}")
        left = tuple(target for target in found.targets if address_key(target) not in unwanted)
        if unwanted - set(map(address_key, found.targets)):
            fail(f"{key} leads to {', '.join(found.targets)}, not to all of these")
        if unwanted and left:
            await storage.directory.set_alias(Alias(key, left))
            return left
        await storage.directory.remove_alias(key)
        return ()

    left = run_with_storage(settings, work)
    echo(f"{key} leads to {', '.join(left)}." if left else f"Removed {key}.")
