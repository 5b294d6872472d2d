"""What an operator does to many entries, in steps: no step holds the writers' lock for long, and a damaged entry stays
as it is without keeping the others back.
"""

import time
from collections.abc import Callable, Sequence

import apsw

from waypost.journal import Event
from waypost.message.trace import Micros, TraceId
from waypost.storage import notices
from waypost.storage.bus import Notice
from waypost.storage.entry_words import deleted_event, held_event, released_event
from waypost.storage.errors import Damaged
from waypost.storage.queue import EntryId
from waypost.storage.sqlite.commit.batch import Batch
from waypost.storage.sqlite.commit.halving import give_way, in_halves
from waypost.storage.sqlite.commit.writer import Writer
from waypost.storage.sqlite.queue.waking import set_wakes
from waypost.storage.sqlite.rows import text

AT_ONCE = 100
"""Entries that one commit changes."""
_MANY = 200  # who brings so many at once brings more

_CHOSEN = "WHERE id IN (SELECT value FROM json_each(:ids))"
_RETRY = f"UPDATE entry SET next_attempt = :now {_CHOSEN} AND state = 0 RETURNING message, destination"
_HOLD = f"UPDATE entry SET state = 1 {_CHOSEN} AND state = 0 RETURNING message, destination"
_UNHOLD = f"""
UPDATE entry SET state = 0, counts_from = :now, next_attempt = max(:now, not_before) {_CHOSEN} AND state = 1
RETURNING message, destination"""
_DELETE = f"DELETE FROM entry {_CHOSEN} RETURNING message, destination"
_FORGET_NOTES = "DELETE FROM set_aside WHERE entry IN (SELECT value FROM json_each(:ids))"

_Done = tuple[int, str]  # message, destination


class Changes:
    """Retries, holds, releases and deletes entries. All return how many changed, and raise `StorageError`."""

    def __init__(self, writer: Writer) -> None:
        self._writer = writer

    async def retry(self, entries: Sequence[EntryId], now: Micros) -> int:
        """Make ready entries due now."""
        return await self._in_steps(entries, lambda connection, ids: _change(connection, _RETRY, ids, now))

    async def hold(self, entries: Sequence[EntryId], now: Micros) -> int:
        """Hold entries."""
        return await self._in_steps(entries, lambda connection, ids: _change(connection, _HOLD, ids, now, held_event))

    async def unhold(self, entries: Sequence[EntryId], now: Micros) -> int:
        """Release held entries, due now or when their sender wants it."""
        return await self._in_steps(
            entries, lambda connection, ids: _change(connection, _UNHOLD, ids, now, released_event)
        )

    async def delete(self, entries: Sequence[EntryId], now: Micros) -> int:
        """Delete entries without telling anybody."""
        return await self._in_steps(entries, lambda connection, ids: _delete(connection, ids, now))

    async def _in_steps(
        self, entries: Sequence[EntryId], change: Callable[[apsw.Connection, Sequence[EntryId]], list[_Done]]
    ) -> int:
        changed = 0
        damaged: list[EntryId] = []
        for start in range(0, len(entries), AT_ONCE):
            began = time.monotonic()
            done, refused = await in_halves(
                self._writer, entries[start : start + AT_ONCE], change, _notices, patient=True
            )
            changed += sum(map(len, done))
            damaged += refused
            if start + AT_ONCE < len(entries) or len(entries) > _MANY:
                await give_way(began)
        if damaged and not changed:
            raise Damaged(f"queue entry {damaged[0]} is damaged: run `waypost storage check`")
        return changed


def _notices(done: Sequence[_Done]) -> list[Notice]:
    return notices.of_destinations(name for _, name in done)


def _change(
    connection: apsw.Connection,
    sql: str,
    ids: Sequence[EntryId],
    now: Micros,
    told: Callable[[TraceId, Micros], Event] | None = None,
) -> list[_Done]:
    rows: list[_Done] = connection.execute(sql, {"ids": text(sorted(ids)), "now": now}).fetchall()
    set_wakes(connection, (name for _, name in rows))
    if told is not None:
        batch = Batch(connection)
        batch.events([told(TraceId(message), now) for message, _ in rows])
        batch.flush()
    return rows


def _delete(connection: apsw.Connection, ids: Sequence[EntryId], now: Micros) -> list[_Done]:
    chosen = {"ids": text(sorted(ids))}
    rows: list[_Done] = connection.execute(_DELETE, chosen).fetchall()
    set_wakes(connection, (name for _, name in rows))
    batch = Batch(connection)
    for message, name in rows:
        batch.add_refs(message, -1)
        batch.events([deleted_event(TraceId(message), now, name)])
    batch.flush()
    connection.execute(_FORGET_NOTES, chosen).fetchall()
    return rows
