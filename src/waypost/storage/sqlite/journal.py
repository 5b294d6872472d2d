"""The journal of the embedded engine."""

import apsw

from waypost.message.trace import Micros, TraceId
from waypost.storage.journal import Event
from waypost.storage.sqlite.rows import events_from
from waypost.storage.sqlite.writer import Writer


class SqliteJournal:
    """Reads what happened to each message, and forgets it in time."""

    def __init__(self, writer: Writer, reading: apsw.Connection) -> None:
        self._writer = writer
        self._reading = reading

    async def of(self, trace: TraceId) -> list[Event]:
        """Return the events of one message, oldest first."""
        rows = self._reading.execute("SELECT events FROM journal WHERE message = ? ORDER BY id", (trace,))
        return [event for (events,) in rows for event in events_from(trace, events)]

    async def find_message_id(self, message_id: str) -> list[TraceId]:
        """Return the messages with this Message-ID header field, oldest first."""
        rows = self._reading.execute(
            "SELECT message FROM message_name WHERE message_id = ? ORDER BY message", (message_id,)
        )
        return [TraceId(trace) for (trace,) in rows]

    async def expire(self, before: Micros, limit: int = 10_000) -> int:
        """Drop old events and names of messages that no longer wait in the queue."""

        def expire(connection: apsw.Connection) -> int:
            # Rows are in the order of time, so the old ones stand first.
            rows = connection.execute(
                "DELETE FROM journal WHERE id IN (SELECT id FROM journal WHERE time < ? AND NOT EXISTS "
                "(SELECT 1 FROM entry WHERE entry.message = journal.message) ORDER BY id LIMIT ?) "
                "RETURNING message",
                (before, limit),
            ).fetchall()
            connection.executemany("DELETE FROM message_name WHERE message = ?", rows)
            return len(rows)

        return await self._writer.call(expire)
