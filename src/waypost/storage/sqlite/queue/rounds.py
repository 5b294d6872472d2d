"""Writing a failed round of a whole destination: one row and one event, whatever waits for it.

It also finds the entries that must be handled one by one, because their senders are to be told. It reads a page at a
time.
"""

import apsw
import msgspec

from waypost.message.trace import Micros
from waypost.storage.outage import looked_at, tried_again_at, with_round
from waypost.storage.queue import EntryId, FailedRound, Overdue
from waypost.storage.sqlite.commit.batch import Batch
from waypost.storage.sqlite.commit.writer import Writer
from waypost.storage.sqlite.queue.listing import ENTRIES, entry_from
from waypost.storage.sqlite.queue.waking import USED_PRIORITIES
from waypost.storage.sqlite.reading import Reading
from waypost.storage.sqlite.rows import DELIVER_BY, points_from, points_text, text

_PAGE = 500

# The entry that came due last, of those that the round counts for.
_YOUNGEST = f"""
{USED_PRIORITIES}
SELECT max((SELECT max(next_attempt) FROM entry
            WHERE destination = :name AND state = 0 AND priority = used.priority AND next_attempt <= :at)) FROM used"""
_POINTS = "SELECT outage FROM destination WHERE name = ?"
_NOTE = "UPDATE destination SET failed_at = ?, again_at = ?, failure = ?, outage = ? WHERE name = ?"
_WAITING = f"""
SELECT entry.id, entry.priority, next_attempt, waited, coalesce(last_attempt, queued_at), delay_notified,
       CASE WHEN json_valid(envelope) THEN envelope->>'$[{DELIVER_BY}][0]' END
FROM entry CROSS JOIN message ON message.id = entry.message
WHERE destination = :name AND state = 0 AND (entry.priority, next_attempt, entry.id) > (:priority, :next, :id)
  AND next_attempt <= :now
ORDER BY entry.priority, next_attempt, entry.id LIMIT :page"""
_SOME = ENTRIES + "WHERE entry.id IN (SELECT value FROM json_each(?)) ORDER BY entry.id"


class _Cursor(msgspec.Struct, frozen=True):
    """Where a page ended."""

    priority: int = -(1 << 62)
    next_attempt: Micros = 0
    entry: EntryId = 0


class Rounds:
    """Failed rounds of destinations."""

    def __init__(self, writer: Writer, reading: Reading) -> None:
        self._writer = writer
        self._reading = reading

    async def count(self, failed: FailedRound) -> Micros | None:
        """Write a round; return when those that waited are tried again, None when the lease was lost.

        Raises `StorageError`.
        """

        def count(connection: apsw.Connection) -> Micros | None:
            name = failed.lease.destination
            batch = Batch(connection)
            if not batch.holds(failed.lease):
                batch.events(failed.told(None))
                batch.flush()
                return None
            points = with_round(points_from(connection.execute(_POINTS, (name,)).get), failed.at, failed.longest_wait)
            youngest = connection.execute(_YOUNGEST, {"name": name, "at": failed.at}).get
            again_at = tried_again_at(failed, points, youngest)
            values = (failed.at, again_at, failed.error, points_text(points), name)
            connection.execute(_NOTE, values).fetchall()
            batch.events(failed.told(again_at))
            batch.flush()
            return again_at

        return await self._writer.call(count)

    def overdue(
        self, destination: str, *, now: Micros, notice: Micros, expire: Micros, after: object = None
    ) -> Overdue:
        """Return a page of the entries that may have to be told of or given up. Raises `StorageError`."""
        cursor = after if isinstance(after, _Cursor) else _Cursor()
        values = {
            "name": destination,
            "now": now,
            "page": _PAGE,
            "priority": cursor.priority,
            "next": cursor.next_attempt,
            "id": cursor.entry,
        }
        rows = self._reading.rows(_WAITING, values)
        chosen: list[EntryId] = []
        look: Micros | None = None
        for entry, _, _, waited, since, notified, deadline in rows:
            due = looked_at(
                since=since,
                waited=waited,
                notified=bool(notified),
                deadline=deadline,
                now=now,
                notice=notice,
                expire=expire,
            )
            if due <= now:
                chosen.append(entry)
            elif look is None or due < look:
                look = due
        found = self._reading.rows(_SOME, (text(chosen),)) if chosen else []
        entries = [entry for entry in map(entry_from, found) if entry.damage is None]
        end = _Cursor(rows[-1][1], rows[-1][2], rows[-1][0]) if len(rows) == _PAGE else None
        return Overdue(entries, look, end)
