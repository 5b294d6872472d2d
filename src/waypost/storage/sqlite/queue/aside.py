"""Setting a queue entry aside that storage refuses to change, though it changes others: a damaged page, mostly.

What a peer was told must not be said again, so such an entry leaves the road by the first of several ways that the
damage lets through. Each way leaves more undone than the one before; a person finds the rest by `storage check`.
"""

import logging
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import apsw
from msgspec.structs import replace

from waypost.journal import Event
from waypost.message.trace import Micros, TraceId, format_trace_id
from waypost.storage.entry_words import set_aside_error, set_aside_event
from waypost.storage.errors import Damaged
from waypost.storage.queue import EntryId, Outcome
from waypost.storage.sqlite.commit.batch import Batch
from waypost.storage.sqlite.commit.operation import Operation
from waypost.storage.sqlite.commit.writer import Writer
from waypost.storage.sqlite.queue.settle import settle_rows

log = logging.getLogger(__name__)

_HOLD = "UPDATE entry SET state = 1, last_error = ? WHERE id = ?"
_NOTE = "INSERT OR REPLACE INTO set_aside (entry, time, problem) VALUES (?, ?, ?)"
_DELETE_ENTRY = "DELETE FROM entry WHERE id = ? RETURNING message"
_LET_GO = "UPDATE message SET refs = refs - 1 WHERE id = ? AND refs > 0"

NOT_ASIDE = "entry.id NOT IN (SELECT entry FROM set_aside)"
"""A condition for entries that may be handed out."""

Way = tuple[str, Callable[[Batch], Any]]
"""What is done, in words for the log, and the doing."""


async def set_aside(writer: Writer, outcome: Outcome, problem: str, now: Micros) -> None:
    """Let an entry leave the road whose outcome is refused. Raises `StorageError` when nothing can be written."""
    await _first_that_works(writer, _ways(outcome, problem, now), outcome.entry, outcome.trace, problem)


async def set_unreadable_aside(writer: Writer, entry: EntryId, problem: str, now: Micros) -> None:
    """Let an entry leave the road whose rows can't be read at all. Raises `StorageError`."""
    ways = _holding(Outcome(entry, TraceId(0), None), problem, now)
    await _first_that_works(writer, ways, entry, None, problem)


async def _first_that_works(
    writer: Writer, ways: Iterator[Way], entry: EntryId, trace: TraceId | None, problem: str
) -> None:
    fields = {
        **({"trace": format_trace_id(trace)} if trace is not None else {}),
        "entry": entry,
        "problem": problem,
    }
    refused: Damaged | None = None
    for done, work in ways:
        try:
            await writer.write(Operation(work))
        except Damaged as error:
            refused = error
            continue
        log.error("queue entry set aside: run `waypost storage check`", extra={"fields": {**fields, "done": done}})
        return
    if refused is not None:
        raise refused


def _ways(outcome: Outcome, problem: str, now: Micros) -> Iterator[Way]:
    """Yield ways to write an outcome, from the best to the last."""
    if outcome.deferral is None and not (outcome.deliveries or outcome.forwards):
        silent = replace(outcome, events=(), reports=())
        told = set_aside_event(outcome.trace, now, problem)
        yield "removed; its message stays behind", lambda batch: _remove_entry(batch, outcome, (*outcome.events, told))
        yield "removed; the journal does not tell of it", lambda batch: settle_rows(batch, silent)
        yield "removed; its message stays behind, untold", lambda batch: _remove_entry(batch, outcome, ())
    yield from _holding(outcome, problem, now)


def _holding(outcome: Outcome, problem: str, now: Micros) -> Iterator[Way]:
    words = set_aside_error(problem)
    entry = outcome.entry
    told = set_aside_event(outcome.trace, now, problem)

    def hold(batch: Batch, events: Sequence[Event]) -> None:
        batch.flush()
        batch.connection.execute(_HOLD, (words, entry)).fetchall()
        batch.events(events)

    if outcome.trace:
        yield "held", lambda batch: hold(batch, (*outcome.events, told))
    yield "held; the journal does not tell of it", lambda batch: hold(batch, ())
    yield (
        "noted; `waypost storage check --repair` holds it",
        lambda batch: batch.connection.execute(_NOTE, (entry, now, words)).fetchall(),
    )


def _remove_entry(batch: Batch, outcome: Outcome, events: Sequence[Event]) -> None:
    """Remove the row of an entry alone; its message loses a reference, and is not removed with the last one."""
    batch.flush()
    for (message,) in batch.connection.execute(_DELETE_ENTRY, (outcome.entry,)).fetchall():
        batch.connection.execute(_LET_GO, (message,)).fetchall()
    batch.events(events)


def hold_what_was_noted(connection: apsw.Connection) -> None:
    """After a repair: hold the entries that were noted alone."""
    connection.execute(
        "UPDATE entry SET state = 1, last_error = set_aside.problem FROM set_aside WHERE entry.id = set_aside.entry"
    ).fetchall()
    connection.execute("DELETE FROM set_aside").fetchall()
