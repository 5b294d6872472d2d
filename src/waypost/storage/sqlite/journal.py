"""The journal of the embedded engine. Its rows stand in the order in which things happened, so old ones stand first."""

import logging

import apsw

from waypost.journal import Event
from waypost.message.trace import Micros, TraceId, earliest_id, format_trace_id
from waypost.storage.errors import Damaged
from waypost.storage.sqlite.beside import Beside
from waypost.storage.sqlite.commit.writer import Writer
from waypost.storage.sqlite.reading import Reading
from waypost.storage.sqlite.rows import events_from

log = logging.getLogger(__name__)

_NEWEST = """
SELECT max((SELECT coalesce(max(id), 0) FROM message), (SELECT coalesce(max(message), 0) FROM journal))"""
_DELETE_EVENTS = """
DELETE FROM journal WHERE id IN (
    SELECT id FROM journal WHERE id < :end AND time < :before
    AND NOT EXISTS (SELECT 1 FROM entry WHERE entry.message = journal.message)
    ORDER BY id LIMIT :limit)"""
_ROW_FROM = "SELECT id, time FROM journal WHERE id >= ? ORDER BY id LIMIT 1"
_LARGEST = 1 << 62
_DELETE_NAMES = """
DELETE FROM message_name WHERE (message_id, message) IN (
    SELECT message_id, message FROM message_name AS old INDEXED BY message_name_of_message
    WHERE message < :newest AND NOT EXISTS (SELECT 1 FROM journal WHERE journal.message = old.message)
    LIMIT :limit)"""


class SqliteJournal:
    """Reads what happened to each message, and forgets it in time."""

    def __init__(self, writer: Writer, reading: Reading, beside: Beside) -> None:
        self._writer = writer
        self._reading = reading
        self._beside = beside

    async def of(self, trace: TraceId) -> list[Event]:
        """Return the events of one message, oldest first."""
        rows = await self._beside.rows(
            "SELECT CAST(events AS BLOB) FROM journal WHERE message = ? ORDER BY id", (trace,)
        )
        found: list[Event] = []
        for (events,) in rows:
            try:
                found += events_from(trace, events)
            except Damaged as error:  # the others still tell something
                fields = {"trace": format_trace_id(trace), "problem": str(error)}
                log.error("journal row damaged", extra={"fields": fields})
        return found

    async def find_message_id(self, message_id: str) -> list[TraceId]:
        """Return the messages with this Message-ID header field, oldest first."""
        rows = await self._beside.rows(
            "SELECT message FROM message_name WHERE message_id = ? ORDER BY message", (message_id,)
        )
        return [TraceId(trace) for (trace,) in rows]

    async def newest(self) -> TraceId:
        """Return the largest trace id in use, 0 if there is none."""
        return TraceId(self._reading.value(_NEWEST))

    async def expire(self, before: Micros, limit: int = 10_000) -> int:
        """Drop old events of messages that no longer wait in the queue, and names of messages without events."""
        values = {"before": before, "limit": limit, "end": self._end(before), "newest": earliest_id(before)}

        def expire(connection: apsw.Connection) -> int:
            connection.execute(_DELETE_EVENTS, values).fetchall()
            gone = int(connection.changes())
            connection.execute(_DELETE_NAMES, values).fetchall()
            return max(gone, int(connection.changes()))

        return await self._writer.call(expire)

    def _end(self, before: Micros) -> int:
        """Return an id behind the old rows, by bisection: no index of times is needed, and no scan of young rows.

        Where the clock stepped, rows are only roughly in order: some are then dropped somewhat later.
        """
        low = self._bound("min", 0)
        high = self._bound("max", _LARGEST) + 1
        while low < high:
            middle = (low + high) // 2
            found = self._row_from(middle, high)
            if found is not None and found[1] < before:
                low = found[0] + 1
            else:
                high = middle
        return low

    def _bound(self, which: str, unreadable: int) -> int:
        """Return the smallest or the largest id, or another number where its page is damaged."""
        try:
            return int(self._reading.value(f"SELECT {which}(id) FROM journal") or 0)
        except Damaged:
            return unreadable

    def _row_from(self, first: int, end: int) -> tuple[int, Micros] | None:
        """Return id and time of the first row from an id on, or of one soon after it if a page is damaged."""
        step = 0
        while first + step < end:
            try:
                return self._reading.row(_ROW_FROM, (first + step,))
            except Damaged:
                step = step * 2 or 1
        return None
