"""`waypost queue list`, `show` and `stats`: they change nothing."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import click

from waypost.cli.frame import config_option, fail, json_option, print_json, run_with_storage
from waypost.cli.queue.choosing import Choice, check_numbers, choosing_options
from waypost.cli.queue.entry_text import COLUMNS, json_of, json_of_stats, lines_of, paragraph_of, row_of
from waypost.cli.queue.way_out import WayOut, source_texts
from waypost.cli.terminal import echo, echo_wrapped, print_table, table_width, terminal_width
from waypost.cli.times import now, span_text
from waypost.counting import counted

if TYPE_CHECKING:
    from waypost.config.settings import Settings
    from waypost.storage import Bus, QueueEntry, QueueStats, Storage

_LIMIT = 100


@click.command("list")
@choosing_options
@click.option("--limit", type=click.IntRange(min=0), help=f"At most so many; 0: all. Default: {_LIMIT} in the table.")
@config_option
@json_option
def list_entries(settings: Settings, choice: Choice, limit: int | None, as_json: bool) -> None:
    """List entries, the oldest first."""
    when = now()
    most = (0 if as_json else _LIMIT) if limit is None else limit

    async def work(storage: Storage, bus: Bus) -> tuple[list[QueueEntry], int]:
        found: list[QueueEntry] = []
        listed = 0
        async for entry in storage.queue.entries(choice.filter, now=when):
            if most and listed >= most:
                return found, await storage.queue.count(choice.filter, now=when) - listed
            if as_json:  # printed as it is read: a million entries need no memory
                echo(("[" if not listed else ",") + "\n  " + json.dumps(json_of(entry)), nl=False)
            else:
                found.append(entry)
            listed += 1
        if as_json and not listed:
            echo("[", nl=False)
        return found, 0

    found, more = run_with_storage(settings, work)
    if as_json:
        echo("\n]")
        return
    _print(found, choice, when)
    if more > 0:
        echo(f"and {more} more; `--limit 0` lists all", err=True)


def _print(found: list[QueueEntry], choice: Choice, when: int) -> None:
    """Print a table, or where the terminal is too narrow for it, a paragraph for each entry."""
    if not found:
        echo("No entry matches." if choice.given else "The queue is empty.")
        return
    rows = [row_of(entry, when) for entry in found]
    width = terminal_width()
    if width is None or table_width(COLUMNS, rows) <= width:
        print_table(COLUMNS, rows)
        return
    for entry in found:
        first, *others = paragraph_of(entry, when)
        echo_wrapped(first, hanging=4)
        for line in others:
            echo_wrapped(f"    {line}", hanging=4)


@click.command()
@choosing_options
@config_option
@json_option
def show(settings: Settings, choice: Choice, as_json: bool) -> None:
    """Show everything about entries, by their numbers or by what they have in common."""
    when = now()
    if not choice.given:
        raise click.UsageError("Say which: entry numbers, or options such as --trace.")

    async def work(storage: Storage, bus: Bus) -> tuple[list[QueueEntry], dict[str, WayOut]]:
        await check_numbers(storage, choice)
        found = [entry async for entry in storage.queue.entries(choice.filter, now=when)]
        names = dict.fromkeys(entry.destination for entry in found)
        return found, {name: WayOut(await storage.queue.pacing(name), source_text) for name in names}

    source_text = source_texts(settings.outbound)
    found, ways = run_with_storage(settings, work)
    if as_json:
        print_json([{**json_of(entry), **ways[entry.destination].json()} for entry in found])
        return
    if not found:
        fail("no entry matches")
    for number, entry in enumerate(found):
        if number:
            echo()
        for name, value in lines_of(entry, when, ways[entry.destination]):
            echo_wrapped(f"{name:<16}{value}", hanging=16)


@click.command()
@config_option
@json_option
def stats(settings: Settings, as_json: bool) -> None:
    """Show the queue in figures, and the destinations for which most waits."""
    when = now()

    async def work(storage: Storage, bus: Bus) -> QueueStats:
        return await storage.queue.stats(now=when)

    found = run_with_storage(settings, work)
    if as_json:
        print_json(json_of_stats(found))
        return
    echo(summary(found, when))
    if found.largest:
        echo()
        print_table(
            ("destination", "entries", "held", "oldest", "next", "last error"),
            [
                (
                    each.destination,
                    each.entries,
                    each.held,
                    span_text(when - each.oldest),
                    "" if each.next_attempt is None else f"in {span_text(each.next_attempt - when)}",
                    each.last_error,
                )
                for each in found.largest
            ],
            shrink=("destination", "last error"),
        )


def summary(stats: QueueStats, when: int) -> str:
    """Return the figures in one line."""
    if not stats.entries:
        return "The queue is empty."
    oldest = f", the oldest {span_text(when - stats.oldest)} old" if stats.oldest is not None else ""
    return (
        f"{counted(stats.entries, 'entry', 'entries')} for {counted(stats.destinations, 'destination')}: "
        f"{stats.due} due, {stats.held} held{oldest}."
    )
