"""The queue of the embedded engine. Every statement costs by what it returns, never by the size of the queue."""

from collections.abc import AsyncIterator, Sequence
from typing import Any

import apsw

from waypost.message.trace import Micros, TraceId
from waypost.storage.bus import Notice
from waypost.storage.errors import NotFound
from waypost.storage.journal import Event, Station
from waypost.storage.queue import (
    DestinationStats,
    EntryId,
    EntryState,
    Filter,
    Outcome,
    QueueEntry,
    QueueStats,
)
from waypost.storage.sqlite.batch import Batch
from waypost.storage.sqlite.rows import encode, envelope_from, recipients_from, recipients_text
from waypost.storage.sqlite.spool import notices_of
from waypost.storage.sqlite.writer import Writer

_STATES = (EntryState.READY, EntryState.HELD)
_NOBODY = -1
_PAGE = 500

_COLUMNS = """
SELECT entry.id, message, destination, recipients, state, priority, queued_at, next_attempt, last_attempt,
       attempts, waited, delay_notified, last_error, envelope, length + length(head), account
FROM entry JOIN message ON message.id = entry.message """

_CLAIMABLE = """
SELECT name FROM destination WHERE owner = -1 AND wake <= :now ORDER BY wake LIMIT :limit"""
_EXPIRED = """
SELECT name FROM destination WHERE owner >= 0 AND lease_until < :now AND wake <= :now LIMIT :limit"""
_WANTED = """
SELECT name FROM destination
WHERE name IN (SELECT value FROM json_each(:names)) AND wake <= :now
  AND (owner = -1 OR lease_until < :now) LIMIT :limit"""
_LEASE = """
UPDATE destination SET owner = :owner, lease_until = :until
WHERE name IN (SELECT value FROM json_each(:names))"""
_RENEW = """
UPDATE destination SET lease_until = :until
WHERE owner = :owner AND name IN (SELECT value FROM json_each(:names)) RETURNING name"""

# The earliest attempt of a destination: the index gives it for each priority in use.
_EARLIEST = """
WITH RECURSIVE used (priority) AS (
    SELECT max(priority) FROM entry WHERE destination = :name AND state = 0
    UNION ALL
    SELECT (SELECT max(priority) FROM entry
            WHERE destination = :name AND state = 0 AND priority < used.priority)
    FROM used WHERE used.priority IS NOT NULL)
SELECT min((SELECT min(next_attempt) FROM entry
            WHERE destination = :name AND state = 0 AND priority = used.priority)) FROM used"""
_PRIORITIES = """
WITH RECURSIVE used (priority) AS (
    SELECT max(priority) FROM entry WHERE destination = :name AND state = 0
    UNION ALL
    SELECT (SELECT max(priority) FROM entry
            WHERE destination = :name AND state = 0 AND priority < used.priority)
    FROM used WHERE used.priority IS NOT NULL)
SELECT priority FROM used WHERE priority IS NOT NULL"""
_DUE = (
    _COLUMNS
    + """
WHERE destination = :name AND state = 0 AND priority = :priority AND next_attempt <= :now
  AND entry.id NOT IN (SELECT value FROM json_each(:exclude))
ORDER BY next_attempt LIMIT :limit"""
)


def entry_from(row: tuple[Any, ...]) -> QueueEntry:
    """Return the entry of a row of `_COLUMNS`."""
    return QueueEntry(
        id=row[0],
        trace=TraceId(row[1]),
        destination=row[2],
        recipients=recipients_from(row[3]),
        state=_STATES[row[4]],
        priority=row[5],
        queued_at=row[6],
        next_attempt=row[7],
        last_attempt=row[8],
        attempts=row[9],
        waited=row[10],
        delay_notified=bool(row[11]),
        last_error=row[12],
        envelope=envelope_from(row[13]),
        size=row[14],
        account=row[15],
    )


def _json(values: Sequence[Any]) -> str:
    return encode(list(values)).decode()


def _where(which: Filter, now: Micros) -> tuple[str, dict[str, Any]]:
    parts: list[str] = []
    values: dict[str, Any] = {}

    def add(sql: str, name: str, value: Any) -> None:
        parts.append(sql)
        values[name] = value

    if which.entry is not None:
        add("entry.id = :entry", "entry", which.entry)
    if which.trace is not None:
        add("message = :trace", "trace", which.trace)
    if which.domain is not None:
        add("destination = :domain", "domain", which.domain)
    if which.state is not None:
        add("state = :state", "state", _STATES.index(which.state))
    if which.older_than is not None:
        add("queued_at <= :before", "before", now - which.older_than)
    if which.newer_than is not None:
        add("queued_at >= :after", "after", now - which.newer_than)
    if which.error is not None:
        add("instr(lower(coalesce(last_error, '')), lower(:error))", "error", which.error)
    if which.sender is not None:
        if which.sender.startswith("@"):
            add("reverse_path LIKE '%' || :sender", "sender", which.sender)
        else:
            add("reverse_path = :sender COLLATE NOCASE", "sender", which.sender)
    return " AND ".join(parts) or "true", values


class Settle:
    """One outcome: an operation of a group commit."""

    def __init__(self, outcome: Outcome) -> None:
        self._outcome = outcome

    def prepare(self, batch: Batch) -> None:
        """Hand over the octets of the reports."""
        for report in self._outcome.reports:
            batch.add_bytes(report)

    def stage(self, batch: Batch) -> None:
        """Add the rows: first what keeps the message alive, then what lets it go."""
        outcome = self._outcome
        for report in outcome.reports:
            batch.message(report)
        if outcome.deliveries or outcome.forwards:
            size, received = batch.connection.execute(
                "SELECT length + length(head), received_at FROM message WHERE id = ?", (outcome.trace,)
            ).fetchone() or (0, 0)
            batch.deliveries(outcome.trace, outcome.deliveries, size, received)
            batch.entries(outcome.trace, outcome.forwards, received)
            batch.add_refs(outcome.trace, len(outcome.deliveries) + len(outcome.forwards))
        deferral = outcome.deferral
        if deferral is None:
            batch.delete_entry(outcome.entry)
        else:
            batch.update_entry(
                [
                    outcome.entry,
                    recipients_text(deferral.remaining),
                    deferral.next_attempt,
                    deferral.waited,
                    deferral.attempts,
                    deferral.last_attempt,
                    deferral.last_error,
                    int(deferral.delay_notified),
                ]
            )
        batch.events(list(outcome.events))

    def result(self) -> None:
        """Nothing to return."""

    def notices(self) -> Sequence[Notice]:
        """Tell who waits for what the reports and forwards made."""
        notices = [notice for report in self._outcome.reports for notice in notices_of(report)]
        notices += [Notice("mailbox", str(delivery.mailbox)) for delivery in self._outcome.deliveries]
        return notices + [Notice("destination", entry.destination) for entry in self._outcome.forwards]


class SqliteQueue:
    """Store and forward, on disk."""

    def __init__(self, writer: Writer, reading: apsw.Connection) -> None:
        self._writer = writer
        self._reading = reading

    async def claim_destinations(
        self, owner: int, *, now: Micros, lease: Micros, limit: int, wanted: Sequence[str] = ()
    ) -> list[str]:
        """Lease due destinations without a live owner, wanted ones first."""
        # Most calls find nothing: ask without the writer's lock first.
        if limit <= 0 or not self._claimable(self._reading, now, 1, wanted):
            return []

        def claim(connection: apsw.Connection) -> list[str]:
            names = self._claimable(connection, now, limit, wanted)
            values = {"owner": owner, "until": now + lease, "names": _json(names)}
            connection.execute(_LEASE, values).fetchall()
            return names

        return await self._writer.call(claim)

    @staticmethod
    def _claimable(connection: apsw.Connection, now: Micros, limit: int, wanted: Sequence[str]) -> list[str]:
        found: dict[str, None] = {}
        values = {"now": now, "limit": limit, "names": _json(wanted)}
        for statement in (_WANTED, _CLAIMABLE, _EXPIRED) if wanted else (_CLAIMABLE, _EXPIRED):
            if len(found) < limit:
                found.update((name, None) for (name,) in connection.execute(statement, values))
        return list(found)[:limit]

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
        values = {"name": destination, "now": now, "exclude": _json(exclude)}
        found: list[QueueEntry] = []
        for (priority,) in self._reading.execute(_PRIORITIES, values).fetchall():
            if len(found) < limit:
                rows = self._reading.execute(_DUE, {**values, "priority": priority, "limit": limit - len(found)})
                found.extend(entry_from(row) for row in rows)
        return found

    async def next_due(self, *, now: Micros) -> Micros | None:
        """Return when the next unowned destination is due."""
        found = self._reading.execute("SELECT min(wake) FROM destination WHERE owner = -1 AND wake IS NOT NULL").get
        return None if found is None else int(found)

    async def settle(self, outcomes: Sequence[Outcome]) -> None:
        """Write outcomes; they share a commit with whatever else waits."""
        if len(outcomes) == 1:
            await self._writer.write(Settle(outcomes[0]))
        elif outcomes:
            await self._writer.write_all([Settle(outcome) for outcome in outcomes])

    async def get(self, entry: EntryId) -> QueueEntry:
        """Return one entry. Raises `NotFound`."""
        row = self._reading.execute(_COLUMNS + "WHERE entry.id = ?", (entry,)).fetchone()
        if row is None:
            raise NotFound(f"no queue entry {entry}")
        return entry_from(tuple(row))

    async def entries(self, which: Filter, *, now: Micros) -> AsyncIterator[QueueEntry]:
        """Yield matching entries by id, page by page."""
        where, values = _where(which, now)
        sql = f"{_COLUMNS} WHERE {where} AND entry.id > :last ORDER BY entry.id LIMIT {_PAGE}"
        last = 0
        while True:
            rows = self._reading.execute(sql, {**values, "last": last}).fetchall()
            for row in rows:
                yield entry_from(tuple(row))
            if len(rows) < _PAGE:
                return
            last = rows[-1][0]

    async def count(self, which: Filter, *, now: Micros) -> int:
        """Return how many entries match."""
        where, values = _where(which, now)
        join = "JOIN message ON message.id = entry.message" if which.sender else ""
        return int(self._reading.execute(f"SELECT count(*) FROM entry {join} WHERE {where}", values).get)

    async def stats(self, *, now: Micros, largest: int = 20) -> QueueStats:
        """Return the queue in figures, from indexes alone."""
        entries, held, due = self._reading.execute(
            "SELECT count(*), coalesce(sum(state = 1), 0), coalesce(sum(state = 0 AND next_attempt <= ?), 0) "
            "FROM entry INDEXED BY entry_due",
            (now,),
        ).fetchone() or (0, 0, 0)
        oldest = self._reading.execute("SELECT queued_at FROM entry ORDER BY id LIMIT 1").get
        destinations = int(self._reading.execute("SELECT count(*) FROM destination").get)
        rows = self._reading.execute(
            "SELECT destination, count(*), sum(state) FROM entry INDEXED BY entry_due "
            "GROUP BY destination ORDER BY 2 DESC, 1 LIMIT ?",
            (largest,),
        ).fetchall()
        return QueueStats(entries, held, due, destinations, oldest, [self._destination_stats(*row) for row in rows])

    def _destination_stats(self, name: str, entries: int, held: int) -> DestinationStats:
        first = self._reading.execute(
            "SELECT queued_at, last_error FROM entry WHERE destination = ? ORDER BY state, priority, next_attempt "
            "LIMIT 1",
            (name,),
        ).fetchone()
        wake = self._reading.execute("SELECT wake FROM destination WHERE name = ?", (name,)).get
        oldest, error = first or (0, None)
        return DestinationStats(name, entries, held, oldest, wake, error)

    async def retry(self, entries: Sequence[EntryId], *, now: Micros) -> int:
        """Make ready entries due now."""
        return await self._change(entries, "UPDATE entry SET next_attempt = :now {where} AND state = 0", now, None)

    async def hold(self, entries: Sequence[EntryId], *, now: Micros) -> int:
        """Hold entries."""
        return await self._change(entries, "UPDATE entry SET state = 1 {where} AND state = 0", now, "held")

    async def unhold(self, entries: Sequence[EntryId], *, now: Micros) -> int:
        """Release held entries, due now."""
        return await self._change(
            entries, "UPDATE entry SET state = 0, next_attempt = :now {where} AND state = 1", now, "released"
        )

    async def _change(self, entries: Sequence[EntryId], sql: str, now: Micros, action: str | None) -> int:
        values = {"ids": _json(entries), "now": now}
        statement = sql.format(where="WHERE id IN (SELECT value FROM json_each(:ids))")

        def change(connection: apsw.Connection) -> tuple[int, list[str]]:
            rows = connection.execute(statement + " RETURNING message, destination", values).fetchall()
            names = list(dict.fromkeys(name for _, name in rows))
            for name in names:
                _set_wake(connection, name, 0, None)
            if action:
                batch = Batch(connection, lambda octets, own: 0)
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
            batch = Batch(connection, lambda octets, own: 0)
            for entry, message, name in rows:
                batch.delete_entry(entry)
                batch.events([Event(TraceId(message), now, Station.DELETED, {"destination": name})])
            batch.flush()
            for name in dict.fromkeys(name for _, _, name in rows):
                _set_wake(connection, name, 0, None)
            return len(rows)

        return await self._writer.call(delete)

    async def clock_stepped(self, *, now: Micros, longest_wait: Micros) -> int:
        """Pull back attempts that are planned later than the schedule explains."""
        latest = now + longest_wait

        def pull(connection: apsw.Connection) -> tuple[int, list[str]]:
            rows = connection.execute(
                "UPDATE entry SET next_attempt = :now WHERE state = 0 AND next_attempt > :latest AND NOT EXISTS "
                "(SELECT 1 FROM message WHERE message.id = entry.message AND envelope->>6 > :now) "
                "RETURNING destination",
                {"now": now, "latest": latest},
            ).fetchall()
            backed_off = connection.execute(
                "SELECT name FROM destination WHERE not_before > ? OR lease_until > ?", (latest, latest)
            ).fetchall()
            connection.execute("UPDATE destination SET lease_until = min(lease_until, ?)", (latest,))
            names = list(dict.fromkeys([*(name for (name,) in rows), *(name for (name,) in backed_off)]))
            for name in names:
                _set_wake(connection, name, 0, None)
            return len(rows), names

        changed, _ = await self._writer.call(pull, lambda done: [Notice("destination", name) for name in done[1]])
        return changed


def _set_wake(connection: apsw.Connection, name: str, not_before: Micros, owner: int | None) -> None:
    """Compute when a destination is due next; forget it when nothing waits. `owner` gives its lease back."""
    if owner is not None:
        connection.execute(
            "UPDATE destination SET owner = -1, lease_until = 0 WHERE name = ? AND owner = ?", (name, owner)
        )
    earliest = connection.execute(_EARLIEST, {"name": name}).get
    if earliest is None and connection.execute("SELECT 1 FROM entry WHERE destination = ?", (name,)).get is None:
        connection.execute("DELETE FROM destination WHERE name = ?", (name,))
        return
    wake = None if earliest is None else max(int(earliest), not_before)
    connection.execute("UPDATE destination SET wake = ?, not_before = ? WHERE name = ?", (wake, not_before, name))
