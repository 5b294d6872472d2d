"""The queue of the embedded engine. Every statement costs by what it returns, never by the size of the queue."""

import logging
from collections.abc import AsyncIterator, Sequence
from typing import Any

import apsw

from waypost.message.trace import Micros, TraceId, format_trace_id
from waypost.storage.bus import Notice
from waypost.storage.errors import NotFound
from waypost.storage.journal import Event, Station
from waypost.storage.queue import (
    EntryId,
    Filter,
    Outcome,
    QueueEntry,
    QueueStats,
)
from waypost.storage.sqlite.batch import Batch
from waypost.storage.sqlite.listing import COLUMNS, ENTRIES, Listing, entry_from
from waypost.storage.sqlite.locks import Numbers
from waypost.storage.sqlite.reading import Reading
from waypost.storage.sqlite.rows import HOLD_UNTIL, encode
from waypost.storage.sqlite.settle import settlings
from waypost.storage.sqlite.writer import Writer

log = logging.getLogger(__name__)

_CLAIMABLE = """
SELECT CAST(name AS BLOB), owner, lease_until FROM destination
WHERE owner = -1 AND wake <= :now ORDER BY wake LIMIT :limit"""
# Not limited: a process owns some hundreds at most, and those of the living are left to them.
_EXPIRED = """
SELECT CAST(name AS BLOB), owner, lease_until FROM destination
WHERE owner >= 0 AND lease_until < :now AND wake <= :now"""
_WANTED = """
SELECT CAST(name AS BLOB), owner, lease_until FROM destination
WHERE name IN (SELECT value FROM json_each(:names)) AND wake <= :now AND (owner = -1 OR lease_until < :now)"""
_LEASE = """
UPDATE destination SET owner = :owner, lease_until = :until
WHERE name IN (SELECT value FROM json_each(:names))"""
_RENEW = """
UPDATE destination SET lease_until = :until
WHERE owner = :owner AND name IN (SELECT value FROM json_each(:names)) RETURNING name"""

# NULL where the envelope is damaged: SQLite would say "malformed JSON", and all others would wait for that one.
_HELD_UNTIL = f"CASE WHEN json_valid(envelope) THEN envelope->>{HOLD_UNTIL} END"
_UNHOLD = f"""
UPDATE entry SET state = 0, next_attempt = max(:now, coalesce(
    (SELECT {_HELD_UNTIL} FROM message WHERE message.id = entry.message), 0)) {{where}} AND state = 1"""
_SET_ASIDE = "UPDATE entry SET state = 1, last_error = ? WHERE id = ?"
_GIVE_BACK = "UPDATE destination SET owner = -1, lease_until = 0 WHERE name = ? AND owner = ?"

# The priorities that entries of a destination have, the highest first, and NULL at the end.
_USED_PRIORITIES = """
WITH RECURSIVE used (priority) AS (
    SELECT max(priority) FROM entry WHERE destination = :name AND state = 0
    UNION ALL
    SELECT (SELECT max(priority) FROM entry
            WHERE destination = :name AND state = 0 AND priority < used.priority)
    FROM used WHERE used.priority IS NOT NULL)"""
# The earliest attempt of a destination: the index gives it for each priority in use.
_EARLIEST = f"""
{_USED_PRIORITIES}
SELECT min((SELECT min(next_attempt) FROM entry
            WHERE destination = :name AND state = 0 AND priority = used.priority)) FROM used"""
# What is due, one priority after the other, the highest first, and each in the order of the index: a sort would have to
# read all that is due for the few that are wanted.
_DUE = f"""
{_USED_PRIORITIES}
SELECT {COLUMNS}
FROM used CROSS JOIN entry CROSS JOIN message ON message.id = entry.message
WHERE destination = :name AND state = 0 AND entry.priority = used.priority AND next_attempt <= :now
  AND entry.id NOT IN (SELECT value FROM json_each(:exclude))
LIMIT :limit"""


# After a step of the clock: what is planned too late, but for mail that its sender holds back (RFC 4865).
_PULL = f"""
UPDATE entry SET next_attempt = :now + (:waits ->> min(attempts, :last))
WHERE id >= :first AND id < :end AND state = 0 AND next_attempt > :now + (:waits ->> min(attempts, :last))
  AND NOT EXISTS
    (SELECT 1 FROM message WHERE message.id = entry.message AND {_HELD_UNTIL} > :now)
RETURNING CAST(destination AS BLOB)"""
_RESTING = "SELECT CAST(name AS BLOB) FROM destination WHERE not_before > :latest"
_SHORTEN_LEASES = "UPDATE destination SET lease_until = min(lease_until, ?) WHERE owner >= 0"
_PULLED_AT_ONCE = 10_000
_HUNG = 3600 * 1_000_000  # so long after its lease has run out a process that lives is believed to hang


class SqliteQueue:
    """Store and forward, on disk."""

    def __init__(self, writer: Writer, reading: Reading, numbers: Numbers) -> None:
        self._writer = writer
        self._reading = reading
        self._numbers = numbers
        self._listing = Listing(reading)

    async def claim_destinations(
        self, owner: int, *, now: Micros, lease: Micros, limit: int, wanted: Sequence[str] = ()
    ) -> list[str]:
        """Lease due destinations without a live owner, wanted ones first."""
        # Most calls find nothing: ask without the writer's lock first.
        if limit <= 0 or not self._claimable(self._reading, owner, now, 1, wanted):
            return []

        def claim(connection: apsw.Connection) -> list[str]:
            names = _readable(connection, self._claimable(Reading(connection), owner, now, limit, wanted))
            values = {"owner": owner, "until": now + lease, "names": _json(names)}
            connection.execute(_LEASE, values).fetchall()
            return names

        return await self._writer.call(claim)

    def _claimable(self, reading: Reading, owner: int, now: Micros, limit: int, wanted: Sequence[str]) -> list[bytes]:
        found: dict[bytes, None] = {}
        free = {-1: True, owner: True}
        values = {"now": now, "limit": limit, "names": _json(wanted)}
        for statement in (_WANTED, _CLAIMABLE, _EXPIRED) if wanted else (_CLAIMABLE, _EXPIRED):
            if len(found) < limit:
                for name, holder, lease_until in reading.rows(statement, values):
                    if lease_until < now - _HUNG or self._is_free(holder, free):
                        found[name] = None
        return list(found)[:limit]

    def _is_free(self, holder: int, known: dict[int, bool]) -> bool:
        """False for a process that lives: it could not renew its lease, and may know what it could not write down.

        Another one that took its destination would send the same messages again.
        """
        if holder not in known:
            known[holder] = not self._numbers.lives(holder)
        return known[holder]

    async def renew(self, owner: int, destinations: Sequence[str], *, until: Micros) -> list[str]:
        """Extend leases; returns those still owned."""
        values = {"owner": owner, "until": until, "names": _json(destinations)}
        return await self._writer.call(lambda connection: [name for (name,) in connection.execute(_RENEW, values)])

    async def release(self, owner: int, destinations: Sequence[str], *, not_before: Micros = 0) -> None:
        """Give destinations back, with the time at which they are due next."""

        def release(connection: apsw.Connection) -> None:
            for name in destinations:
                _set_wake(connection, name, not_before, owner)

        await self._writer.call(release)

    async def release_all(self, owner: int) -> None:
        """Forget every lease of a worker."""
        await self._writer.call(
            lambda connection: connection.execute(
                "UPDATE destination SET owner = -1, lease_until = 0 WHERE owner = ?", (owner,)
            ).fetchall()
        )

    async def due(
        self, destination: str, *, now: Micros, limit: int, exclude: Sequence[EntryId] = ()
    ) -> list[QueueEntry]:
        """Return due entries, highest priority first, then longest due."""
        values = {"name": destination, "now": now, "exclude": _json(exclude), "limit": limit}
        found = [entry_from(row) for row in self._reading.rows(_DUE, values)]
        damaged = [entry for entry in found if entry.damage is not None]
        if damaged:
            await self._set_aside(damaged, now)
            found = [entry for entry in found if entry.damage is None]
        return found

    async def _set_aside(self, damaged: Sequence[QueueEntry], now: Micros) -> None:
        """Hold entries whose rows can't be read: a person decides about them, and the others go on."""

        def hold(connection: apsw.Connection) -> None:
            batch = Batch(connection)
            for entry in damaged:
                told = {"action": "set aside", "problem": entry.damage}
                connection.execute(_SET_ASIDE, (f"this entry is damaged: {entry.damage}", entry.id)).fetchall()
                batch.events([Event(entry.trace, now, Station.HELD, told)])
            batch.flush()
            for name in dict.fromkeys(entry.destination for entry in damaged):
                _set_wake(connection, name, 0, None)

        for entry in damaged:
            fields = {"trace": format_trace_id(entry.trace), "entry": entry.id, "destination": entry.destination}
            log.error("queue entry damaged", extra={"fields": {**fields, "problem": entry.damage}})
        await self._writer.call(hold)

    async def next_due(self, *, now: Micros) -> Micros | None:
        """Return when the next unowned destination is due."""
        found = self._reading.value("SELECT min(wake) FROM destination WHERE owner = -1 AND wake IS NOT NULL")
        return None if found is None else int(found)

    async def settle(self, outcomes: Sequence[Outcome]) -> None:
        """Write outcomes; they share a commit with whatever else waits."""
        operations = settlings(outcomes)
        if len(operations) == 1:
            await self._writer.write(operations[0])
        elif operations:
            await self._writer.write_all(operations)

    async def get(self, entry: EntryId) -> QueueEntry:
        """Return one entry. Raises `NotFound`."""
        row = self._reading.row(ENTRIES + "WHERE entry.id = ?", (entry,))
        if row is None:
            raise NotFound(f"no queue entry {entry}")
        return entry_from(row)

    def entries(self, which: Filter, *, now: Micros) -> AsyncIterator[QueueEntry]:
        """Yield matching entries by id, page by page."""
        return self._listing.entries(which, now)

    async def count(self, which: Filter, *, now: Micros) -> int:
        """Return how many entries match."""
        return self._listing.count(which, now)

    async def stats(self, *, now: Micros, largest: int = 20) -> QueueStats:
        """Return the queue in figures."""
        return self._listing.stats(now, largest)

    async def retry(self, entries: Sequence[EntryId], *, now: Micros) -> int:
        """Make ready entries due now."""
        return await self._change(entries, "UPDATE entry SET next_attempt = :now {where} AND state = 0", now, None)

    async def hold(self, entries: Sequence[EntryId], *, now: Micros) -> int:
        """Hold entries."""
        return await self._change(entries, "UPDATE entry SET state = 1 {where} AND state = 0", now, "held")

    async def unhold(self, entries: Sequence[EntryId], *, now: Micros) -> int:
        """Release held entries, due now or when their sender wants it."""
        return await self._change(entries, _UNHOLD, now, "released")

    async def _change(self, entries: Sequence[EntryId], sql: str, now: Micros, action: str | None) -> int:
        values = {"ids": _json(entries), "now": now}
        statement = sql.format(where="WHERE id IN (SELECT value FROM json_each(:ids))")

        def change(connection: apsw.Connection) -> tuple[int, list[str]]:
            rows = connection.execute(statement + " RETURNING message, destination", values).fetchall()
            names = list(dict.fromkeys(name for _, name in rows))
            for name in names:
                _set_wake(connection, name, 0, None)
            if action:
                batch = Batch(connection)
                batch.events([Event(TraceId(message), now, Station.HELD, {"action": action}) for message, _ in rows])
                batch.flush()
            return len(rows), names

        changed, _ = await self._writer.call(change, lambda done: [Notice("destination", name) for name in done[1]])
        return changed

    async def delete(self, entries: Sequence[EntryId], *, now: Micros) -> int:
        """Delete entries without telling anybody."""

        def delete(connection: apsw.Connection) -> int:
            rows = connection.execute(
                "SELECT id, message, destination FROM entry WHERE id IN (SELECT value FROM json_each(?))",
                (_json(entries),),
            ).fetchall()
            batch = Batch(connection)
            for entry, message, name in rows:
                batch.delete_entry(entry)
                batch.events([Event(TraceId(message), now, Station.DELETED, {"destination": name})])
            batch.flush()
            for name in dict.fromkeys(name for _, _, name in rows):
                _set_wake(connection, name, 0, None)
            return len(rows)

        return await self._writer.call(delete)

    async def clock_stepped(self, *, now: Micros, waits: Sequence[Micros], longest_lease: Micros) -> int:
        """Pull back attempts that are planned later than the schedule explains; in steps, so that nobody waits long."""
        values = {"now": now, "waits": _json(waits), "last": len(waits) - 1, "latest": now + max(waits)}
        newest = int(self._reading.value("SELECT max(id) FROM entry") or 0)
        changed = 0
        for first in range(0, newest + 1, _PULLED_AT_ONCE):
            changed += await self._wake_all(_PULL, {**values, "first": first, "end": first + _PULLED_AT_ONCE})
        await self._wake_all(_RESTING, values)
        until = now + longest_lease
        await self._writer.call(lambda connection: connection.execute(_SHORTEN_LEASES, (until,)).fetchall())
        return changed

    async def _wake_all(self, sql: str, values: dict[str, Any]) -> int:
        """Run a statement that returns destinations, and compute anew when each is due; return how many rows."""

        def wake(connection: apsw.Connection) -> tuple[int, list[str]]:
            rows = connection.execute(sql, values).fetchall()
            names = _readable(connection, list(dict.fromkeys(name for (name,) in rows)))
            for name in names:
                _set_wake(connection, name, 0, None)
            return len(rows), names

        changed, _ = await self._writer.call(wake, lambda done: [Notice("destination", name) for name in done[1]])
        return changed


def _readable(connection: apsw.Connection, names: Sequence[bytes]) -> list[str]:
    """Return names of destinations; one with a flipped bit wakes nobody any more, and holds up no other."""
    found = []
    for octets in names:
        try:
            found.append(octets.decode())
        except UnicodeDecodeError:
            connection.execute("UPDATE destination SET wake = NULL WHERE CAST(name AS BLOB) = ?", (octets,)).fetchall()
            fields = {"destination": octets.decode("ascii", "backslashreplace")}
            log.error("a destination is damaged: run `waypost storage check`", extra={"fields": fields})
    return found


def _json(values: Sequence[Any]) -> str:
    return encode(list(values)).decode()


def _set_wake(connection: apsw.Connection, name: str, not_before: Micros, owner: int | None) -> None:
    """Compute when a destination is due next; forget it when nothing waits. `owner` gives its lease back.

    A destination that somebody owns stays, even with nothing waiting: else another could come to own it, too.
    """
    if owner is not None:
        connection.execute(_GIVE_BACK, (name, owner)).fetchall()
    earliest = connection.execute(_EARLIEST, {"name": name}).get
    if earliest is None and connection.execute("SELECT 1 FROM entry WHERE destination = ?", (name,)).get is None:
        connection.execute("DELETE FROM destination WHERE name = ? AND owner = -1", (name,)).fetchall()
    wake = None if earliest is None else max(int(earliest), not_before)
    connection.execute(
        "UPDATE destination SET wake = ?, not_before = ? WHERE name = ?", (wake, not_before, name)
    ).fetchall()
