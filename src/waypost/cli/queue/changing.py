"""`waypost queue retry`, `hold`, `release` and `delete`: thousands of entries in pages, each page one commit."""

from __future__ import annotations

import functools
from collections.abc import Awaitable, Callable, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

import click

from waypost.cli.frame import config_option, confirm, run_with_storage
from waypost.cli.progress import load_bar, progress
from waypost.cli.queue.choosing import Choice, check_numbers, choosing_options
from waypost.cli.terminal import echo
from waypost.cli.times import now

if TYPE_CHECKING:
    from waypost.config.settings import Settings
    from waypost.storage import Bus, QueueEntry, Storage

F = TypeVar("F", bound=Callable[..., Any])
Change = Callable[["Storage", Sequence["QueueEntry"]], Awaitable[int]]
"""Changes a page of entries; returns how many it changed."""

_PAGE = 500

yes_option = click.option("--yes", is_flag=True, help="Do not ask.")


def changing_options(command: F) -> F:
    """Give a command the options of everything that changes entries; the choice is checked to say something."""

    @choosing_options
    @click.option("--all", "everything", is_flag=True, help="Every entry; needed when nothing else chooses.")
    @click.option("--dry-run", is_flag=True, help="Only say how many entries it would be.")
    @config_option
    @functools.wraps(command)
    def checked(*args: Any, choice: Choice, everything: bool, **kwargs: Any) -> Any:
        if not choice.given and not everything:
            raise click.UsageError("Say which: entry numbers, options such as --domain, or --all.")
        load_bar()
        return command(*args, choice=choice, **kwargs)

    return checked  # type: ignore[return-value]  # the same command with more options


def change_all(
    settings: Settings,
    choice: Choice,
    change: Change,
    *,
    doing: str,
    done: str,
    dry_run: bool,
    page: int = _PAGE,
    spare: Callable[[QueueEntry], bool] | None = None,
) -> None:
    """Change every chosen entry but those to `spare`, with a bar, and say how many; a dry run only counts."""
    when = now()

    async def count(storage: Storage, bus: Bus) -> int:
        await check_numbers(storage, choice)
        if spare is None or not dry_run:
            return await storage.queue.count(choice.filter, now=when)
        return sum([not spare(entry) async for entry in storage.queue.entries(choice.filter, now=when)])

    async def work(storage: Storage, bus: Bus) -> int:
        changed, seen = 0, 0
        entries: list[QueueEntry] = []
        async for entry in storage.queue.entries(choice.filter, now=when):
            if spare is not None and spare(entry):
                seen += 1
                continue
            entries.append(entry)
            if len(entries) == page:
                changed += await change(storage, entries)
                seen += len(entries)
                bar.reach(seen)
                entries = []
        if entries:
            changed += await change(storage, entries)
        return changed

    matching = run_with_storage(settings, count)
    if dry_run:
        echo(f"{entries_text(matching)} would be {done}.")
        return
    with progress(doing, matching) as bar:
        changed = run_with_storage(settings, work)
    rest = f" of {matching} that match" if changed != matching else ""
    echo(f"{entries_text(changed)}{rest} {'was' if changed == 1 else 'were'} {done}.")


def ask(settings: Settings, choice: Choice, deed: str, yes: bool, dry_run: bool) -> None:
    """Ask before something that can't be undone, naming how many entries it is."""
    if yes or dry_run:
        return
    when = now()

    async def count(storage: Storage, bus: Bus) -> int:
        await check_numbers(storage, choice)
        return await storage.queue.count(choice.filter, now=when)

    matching = run_with_storage(settings, count)
    if matching:
        confirm(f"{deed} {entries_text(matching)}? This can't be undone.", yes)


def entries_text(count: int) -> str:
    """Return `1 entry` or `7 entries`."""
    return f"{count} {'entry' if count == 1 else 'entries'}"


def held_back(choice: Choice) -> Callable[[QueueEntry], bool]:
    """Return what says that an entry stays, since its sender holds it back (RFC 4865) and nobody named it."""
    named = bool(choice.numbers) or choice.filter.trace is not None
    when = now()
    return lambda entry: not named and (entry.envelope.hold_until or 0) > when


def ids_of(entries: Sequence[QueueEntry]) -> list[int]:
    """Return the numbers of entries."""
    return [entry.id for entry in entries]


@click.command()
@changing_options
def retry(settings: Settings, choice: Choice, dry_run: bool) -> None:
    """Try entries now, whatever the schedule says. Held ones stay held.

    What its sender holds back for a time (HOLDFOR, HOLDUNTIL) stays, unless a number or --trace names it.
    """

    async def change(storage: Storage, entries: Sequence[QueueEntry]) -> int:
        return await storage.queue.retry(ids_of(entries), now=now())

    spare = held_back(choice)
    change_all(settings, choice, change, doing="Retrying", done="made due now", dry_run=dry_run, spare=spare)


@click.command()
@changing_options
def hold(settings: Settings, choice: Choice, dry_run: bool) -> None:
    """Hold entries back until they are released."""

    async def change(storage: Storage, entries: Sequence[QueueEntry]) -> int:
        return await storage.queue.hold(ids_of(entries), now=now())

    change_all(settings, choice, change, doing="Holding", done="held", dry_run=dry_run)


@click.command()
@changing_options
def release(settings: Settings, choice: Choice, dry_run: bool) -> None:
    """Let held entries go; they are tried now, or when their sender wants it (HOLDFOR, HOLDUNTIL)."""

    async def change(storage: Storage, entries: Sequence[QueueEntry]) -> int:
        return await storage.queue.unhold(ids_of(entries), now=now())

    change_all(settings, choice, change, doing="Releasing", done="released", dry_run=dry_run)


@click.command()
@changing_options
@yes_option
def delete(settings: Settings, choice: Choice, dry_run: bool, yes: bool) -> None:
    """Delete entries without a report; `return` sends reports to the senders."""

    async def change(storage: Storage, entries: Sequence[QueueEntry]) -> int:
        return await storage.queue.delete(ids_of(entries), now=now())

    ask(settings, choice, "Delete", yes, dry_run)
    change_all(settings, choice, change, doing="Deleting", done="deleted", dry_run=dry_run)
