"""`waypost queue return`: gives entries up, and tells their senders so by a report (RFC 3464)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import click

from waypost.cli.frame import WORKER
from waypost.cli.queue.changing import ask, change_all, changing_options, yes_option
from waypost.cli.terminal import echo
from waypost.cli.times import now

if TYPE_CHECKING:
    from waypost.cli.queue.choosing import Choice
    from waypost.config.settings import Settings
    from waypost.storage import QueueEntry, Storage

_PAGE = 50  # a report may hold a whole message
_WORDS = "the administrator of this server gave the message up"


@click.command("return")
@changing_options
@click.option("--reason", default=_WORDS, show_default=True, help="What the senders are told, in one sentence.")
@yes_option
def give_up(settings: Settings, choice: Choice, dry_run: bool, reason: str, yes: bool) -> None:
    """Give entries up and tell their senders. Reports and other mail without a sender just go."""
    # All that the work needs is read now: later the process may be a user who can't read the program.
    from waypost.delivery.book import address_book
    from waypost.message.trace import TraceIdMaker
    from waypost.queue.outcomes import discard, return_entry
    from waypost.service.reports import make_reporter

    if not reason.isprintable() or not reason.strip():
        raise click.BadParameter("it must be one line of printable text", param_hint="--reason")
    ids = TraceIdMaker(WORKER, now)

    async def change(storage: Storage, entries: Sequence[QueueEntry]) -> int:
        book = address_book(settings, storage.directory)
        reporter = make_reporter(settings, spool=storage.spool, book=book, ids=ids, now=now)
        for entry in entries:
            if entry.damage is not None:
                echo(f"entry {entry.id} stays: {entry.damage}, so nobody could be told of it", err=True)
        whole = [entry for entry in entries if entry.damage is None]
        outcomes = [await return_entry(entry, reporter=reporter, words=reason, now=now()) for entry in whole]
        try:
            await storage.queue.settle(outcomes)
        finally:
            for outcome in outcomes:
                discard(outcome.reports)
        return len(outcomes)

    ask(settings, choice, "Return", yes, dry_run)
    change_all(settings, choice, change, doing="Returning", done="returned", dry_run=dry_run, page=_PAGE)
