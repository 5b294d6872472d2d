"""The queue of the embedded engine. Every statement costs by what it returns, never by the size of the queue."""

import logging
from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Any

import apsw

from waypost.message.trace import Micros, format_trace_id
from waypost.storage.entry_words import damaged_error, set_aside_event
from waypost.storage.errors import Damaged, NotFound
from waypost.storage.outage import Outage, with_outage
from waypost.storage.queue import (
    EntryId,
    FailedRound,
    Filter,
    Lease,
    Outcome,
    Overdue,
    Pacing,
    PlannedPage,
    QueueEntry,
    QueueStats,
    Replanned,
)
from waypost.storage.sqlite.beside import Beside
from waypost.storage.sqlite.commit.batch import Batch
from waypost.storage.sqlite.commit.halving import in_halves
from waypost.storage.sqlite.commit.writer import Writer
from waypost.storage.sqlite.locks import Numbers
from waypost.storage.sqlite.queue.aside import NOT_ASIDE, set_aside, set_unreadable_aside
from waypost.storage.sqlite.queue.changes import Changes
from waypost.storage.sqlite.queue.clock import PlannedTimes
from waypost.storage.sqlite.queue.listing import COLUMNS, COUNTS_FROM, ENTRIES, OUTAGE, Listing, entry_from, outage_from
from waypost.storage.sqlite.queue.pacing import note_pacing, pacing_text, read_pacing
from waypost.storage.sqlite.queue.rounds import Rounds
from waypost.storage.sqlite.queue.settle import settlings
from waypost.storage.sqlite.queue.waking import USED_PRIORITIES, give_back, readable, set_wakes
from waypost.storage.sqlite.reading import Reading
from waypost.storage.sqlite.rows import text
from waypost.storage.sqlite.upkeep.remaking import require_destinations

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
_NEXT_EPOCH = """
INSERT INTO counter (name, value) VALUES ('lease', 1) ON CONFLICT (name) DO UPDATE SET value = value + 1
RETURNING value"""
_LEASE = """
UPDATE destination SET owner = :owner, lease_until = :until, again_at = 0, epoch = :epoch
WHERE name IN (SELECT value FROM json_each(:names))"""
_LEASE_FREE = f"{_LEASE} AND wake <= :now AND (owner IN (-1, :owner) OR lease_until < :now) RETURNING name"
_RENEW = """
UPDATE destination SET lease_until = :until
FROM (SELECT value->>0 AS name, value->>1 AS epoch FROM json_each(:leases)) AS held
WHERE destination.name = held.name AND destination.epoch = held.epoch AND owner >= 0
RETURNING destination.name, destination.epoch"""

# What is due, one priority after the other, the highest first, and each in the order of the index: a sort would have to
# read all that is due for the few that are wanted.
_SET_ASIDE = "UPDATE entry SET state = 1, last_error = ? WHERE id = ?"
_GIVE_ALL_BACK = "UPDATE destination SET owner = -1, lease_until = 0 WHERE owner = ?"
_REST = "UPDATE destination SET owner = -1, lease_until = 0, wake = ? WHERE name = ? AND epoch = ? AND owner >= 0"
_GIVE_ONE_BACK = "UPDATE destination SET owner = -1, lease_until = 0 WHERE name = ? AND owner = ?"
_OWNED = "SELECT CAST(name AS BLOB) FROM destination WHERE owner = :owner"
_NEXT_DUE = "SELECT min(wake) FROM destination WHERE owner = -1 AND wake IS NOT NULL"
_LOOK_AGAIN = 5_000_000  # microseconds, where that can't be read
_OUTAGE = f"SELECT {OUTAGE} FROM destination AS d WHERE name = ? AND failed_at > 0"
_FROM_USED = f"""
FROM used CROSS JOIN entry {{join}}
WHERE destination = :name AND state = 0 AND entry.priority = used.priority AND next_attempt <= :now
  AND entry.id NOT IN (SELECT value FROM json_each(:exclude)) AND {NOT_ASIDE}
LIMIT :limit"""
_DUE = f"""
{USED_PRIORITIES}
SELECT {COLUMNS} {_FROM_USED.format(join="CROSS JOIN message ON message.id = entry.message")}"""
# From the index alone, whatever has become of the rows.
_DUE_IDS = f"{USED_PRIORITIES} SELECT entry.id {_FROM_USED.format(join='')}"
_HUNG = 3600 * 1_000_000  # a live process whose lease expired this long ago is presumed hung


class SqliteQueue:
    """Store and forward, on disk."""

    def __init__(self, writer: Writer, reading: Reading, beside: Beside, numbers: Numbers) -> None:
        self._writer = writer
        self._reading = reading
        self._numbers = numbers
        self._listing = Listing(beside)
        self._changes = Changes(writer)
        self._rounds = Rounds(writer, reading)
        self._planned = PlannedTimes(writer, reading)
        self._unread = False  # the last look at destinations found none that can be read
        self._told: set[str] = set()  # statements that failed on a damaged page, which is logged once

    async def claim_destinations(
        self,
        owner: int,
        *,
        now: Micros,
        lease: Micros,
        limit: int,
        wanted: Sequence[str] = (),
        only_wanted: bool = False,
    ) -> list[Lease]:
        """Lease due destinations without a live owner, wanted ones first or only those.

        What is damaged holds up no other.
        """
        statements = ((_WANTED,) if wanted else ()) + (() if only_wanted else (_CLAIMABLE, _EXPIRED))
        # Most calls find nothing: ask without the writer's lock first.
        if limit <= 0:
            return []
        self._unread = False
        if not self._claimable(self._reading, owner, now, 1, wanted, statements):
            if not self._unread:
                return []
            try:
                await self._writer.call(require_destinations)  # the writer makes the table anew
            except Damaged as error:
                self._tell_once("claims", error)
                return []

        def claim(connection: apsw.Connection) -> list[Lease]:
            names = readable(connection, self._claimable(Reading(connection), owner, now, limit, wanted, statements))
            epoch = _next_epoch(connection)
            values = {"owner": owner, "until": now + lease, "epoch": epoch, "names": text(sorted(names))}
            connection.execute(_LEASE, values).fetchall()
            return [Lease(name, epoch) for name in names]

        try:
            return await self._writer.call(claim)
        except Damaged as error:
            self._tell_once("claims", error)
        found = self._claimable(self._reading, owner, now, limit, wanted, statements)
        return await self._claim_in_halves(found, owner, now=now, lease=lease)

    async def _claim_in_halves(self, found: Sequence[bytes], owner: int, *, now: Micros, lease: Micros) -> list[Lease]:
        """Lease what can be, though the row of another destination is damaged, or the one that counts claims."""
        try:
            epoch = await self._writer.call(_next_epoch)
        except Damaged:
            epoch = now  # larger than any count

        def claim(connection: apsw.Connection, names: Sequence[bytes]) -> list[Lease]:
            chosen = sorted(readable(connection, names))
            values = {"owner": owner, "until": now + lease, "epoch": epoch, "names": text(chosen), "now": now}
            return [Lease(name, epoch) for (name,) in connection.execute(_LEASE_FREE, values).fetchall()]

        parts, _ = await in_halves(self._writer, found, claim)
        return [claimed for part in parts for claimed in part]

    def _claimable(
        self,
        reading: Reading,
        owner: int,
        now: Micros,
        limit: int,
        wanted: Sequence[str],
        statements: Sequence[str],
    ) -> list[bytes]:
        found: dict[bytes, None] = {}
        free = {-1: True, owner: True}
        values = {"now": now, "limit": limit, "names": text(wanted)}
        for statement in statements:
            if len(found) < limit:
                for name, holder, lease_until in self._of(reading, statement, values):
                    if lease_until < now - _HUNG or self._is_free(holder, free):
                        found[name] = None
        return list(found)[:limit]

    def _of(self, reading: Reading, statement: str, values: dict[str, Any]) -> list[Any]:
        """Return destinations; where the index of what is due is damaged, those that the table itself gives."""
        try:
            rows = reading.rows(statement, values)
        except Damaged as error:
            self._tell_once(statement, error)
            try:
                return reading.rows(statement.replace("FROM destination", "FROM destination NOT INDEXED"), values)
            except Damaged:
                self._unread = True
                return []
        self._told.discard(statement)
        return rows

    def _tell_once(self, what: str, error: Damaged) -> None:
        if what not in self._told:
            self._told.add(what)
            fields = {"error": str(error)}
            log.error("destinations can't all be read: run `waypost storage check`", extra={"fields": fields})

    def _is_free(self, holder: int, known: dict[int, bool]) -> bool:
        """False for a process that lives: it could not renew its lease, and may know what it could not write down.

        Another one that took its destination would send the same messages again.
        """
        if holder not in known:
            known[holder] = not self._numbers.lives(holder)
        return known[holder]

    async def renew(self, leases: Sequence[Lease], *, until: Micros) -> list[Lease]:
        """Extend leases; returns those that still hold."""
        held = [[lease.destination, lease.epoch] for lease in _in_order(leases)]
        values = {"until": until, "leases": text(held)}
        return await self._writer.call(lambda connection: [Lease(*row) for row in connection.execute(_RENEW, values)])

    async def release(self, leases: Sequence[Lease], *, not_before: Micros = 0, pacing: Sequence[Pacing] = ()) -> None:
        """Give destinations back, with the time at which they are due next."""
        noted = pacing_text(pacing)

        def release(connection: apsw.Connection, some: Sequence[Lease]) -> None:
            for lease in some:
                give_back(connection, lease, not_before, noted)

        def rest(connection: apsw.Connection, some: Sequence[Lease]) -> None:
            for lease in some:
                connection.execute(_REST, (not_before, lease.destination, lease.epoch)).fetchall()

        _, refused = await in_halves(self._writer, _in_order(leases), release)
        await in_halves(self._writer, refused, rest)  # its entries can't be read: nobody may own it for ever

    async def wake(self, destinations: Sequence[str]) -> None:
        """Let destinations be claimed when their entries are due."""
        await in_halves(self._writer, sorted(destinations), set_wakes)

    async def note_pacing(self, pacing: Mapping[Lease, Sequence[Pacing]]) -> None:
        """Keep how destinations are paced."""
        await self._writer.call(lambda connection: note_pacing(connection, pacing))

    async def pacing(self, destination: str) -> list[Pacing]:
        """Return how a destination was paced when it was looked at last."""
        return read_pacing(self._reading, destination)

    async def release_all(self, owner: int) -> None:
        """Give back every lease of a worker. One that can't be written is left to expire."""

        def release(connection: apsw.Connection, owners: Sequence[int]) -> None:
            connection.execute(_GIVE_ALL_BACK, owners).fetchall()

        def release_some(connection: apsw.Connection, names: Sequence[bytes]) -> None:
            for name in readable(connection, names):
                connection.execute(_GIVE_ONE_BACK, (name, owner)).fetchall()

        _, refused = await in_halves(self._writer, [owner], release)
        if refused:
            names = sorted(name for (name,) in self._of(self._reading, _OWNED, {"owner": owner}))
            await in_halves(self._writer, names, release_some)

    async def due(  # hot: bench/relay
        self, lease: Lease, *, now: Micros, limit: int, exclude: Sequence[EntryId] = ()
    ) -> list[QueueEntry]:
        """Return due entries, highest priority first, then longest due."""
        values = {"name": lease.destination, "now": now, "exclude": text(exclude), "limit": limit}
        try:
            rows = self._reading.rows(_DUE, values)
        except Damaged as error:
            rows = await self._due_one_by_one(values, str(error))
        found = [entry_from(row, lease) for row in rows]
        if found and (outage := self._outage_of(lease.destination)) is not None:
            found = [with_outage(entry, outage, row[COUNTS_FROM]) for entry, row in zip(found, rows, strict=True)]
        damaged = [entry for entry in found if entry.damage is not None]
        if damaged:
            await self._set_aside(damaged, now)
            found = [entry for entry in found if entry.damage is None]
        return found

    async def _due_one_by_one(self, values: dict[str, Any], problem: str) -> list[Any]:
        """Read due entries though one of them can't be: that one is set aside. Raises `Damaged` for their index."""
        rows: list[Any] = []
        for (entry,) in self._reading.rows(_DUE_IDS, values):
            try:
                row = self._reading.row(ENTRIES + "WHERE entry.id = ?", (entry,))
            except Damaged:
                await set_unreadable_aside(self._writer, entry, problem, values["now"])
                continue
            if row is not None:
                rows.append(row)
        return rows

    async def _set_aside(self, damaged: Sequence[QueueEntry], now: Micros) -> None:
        """Hold entries whose rows can't be read: a person decides about them, and the others go on."""

        def hold(connection: apsw.Connection) -> None:
            batch = Batch(connection)
            for entry in sorted(damaged, key=lambda entry: entry.id):
                damage = entry.damage or ""
                connection.execute(_SET_ASIDE, (damaged_error(damage), entry.id)).fetchall()
                batch.events([set_aside_event(entry.trace, now, damage)])
            set_wakes(connection, (entry.destination for entry in damaged))
            batch.flush()

        for entry in damaged:
            fields = {"trace": format_trace_id(entry.trace), "entry": entry.id, "destination": entry.destination}
            log.error("queue entry damaged", extra={"fields": {**fields, "problem": entry.damage}})
        await self._writer.call(hold)

    def _outage_of(self, destination: str) -> Outage | None:
        row = self._reading.row(_OUTAGE, (destination,))
        return None if row is None else outage_from(row)

    async def next_due(self, *, now: Micros) -> Micros | None:
        """Return when the next unowned destination is due."""
        try:
            found = self._reading.value(_NEXT_DUE)
        except Damaged:  # told by the claim
            return now + _LOOK_AGAIN
        return None if found is None else int(found)

    async def settle(self, outcomes: Sequence[Outcome]) -> list[Lease]:
        """Write outcomes; they share a commit with whatever else waits. Returns the leases that were lost."""
        operations = settlings(outcomes)
        if len(operations) == 1:
            late = [await self._writer.write(operations[0])]
        else:
            late = await self._writer.write_all(operations)
        return list(dict.fromkeys(lease for lost in late for lease in lost or ()))

    async def fail(self, failed: FailedRound) -> Micros | None:
        """Count a failed round for all that waited, in one row; return when they are tried again."""
        return await self._rounds.count(failed)

    async def overdue(
        self, destination: str, *, now: Micros, notice: Micros, expire: Micros, after: object = None
    ) -> Overdue:
        """Return a page of the due entries whose senders may have to be told."""
        return self._rounds.overdue(destination, now=now, notice=notice, expire=expire, after=after)

    async def set_aside(self, outcome: Outcome, *, problem: str, now: Micros) -> None:
        """Let an entry leave the road whose outcome is refused each time."""
        await set_aside(self._writer, outcome, problem, now)

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
        return await self._listing.count(which, now)

    async def stats(self, *, now: Micros, largest: int = 20) -> QueueStats:
        """Return the queue in figures."""
        return await self._listing.stats(now, largest)

    async def retry(self, entries: Sequence[EntryId], *, now: Micros) -> int:
        """Make ready entries due now."""
        return await self._changes.retry(entries, now)

    async def hold(self, entries: Sequence[EntryId], *, now: Micros) -> int:
        """Hold entries."""
        return await self._changes.hold(entries, now)

    async def unhold(self, entries: Sequence[EntryId], *, now: Micros) -> int:
        """Release held entries, due now or when their sender wants it."""
        return await self._changes.unhold(entries, now)

    async def delete(self, entries: Sequence[EntryId], *, now: Micros) -> int:
        """Delete entries without telling anybody."""
        return await self._changes.delete(entries, now)

    async def planned(self, *, later_than: Sequence[Micros], after: EntryId = 0) -> PlannedPage:
        """Return a page of the ready entries that are tried later than a time."""
        return self._planned.later_than(later_than, after)

    async def replan(self, attempts: Sequence[Replanned]) -> int:
        """Try ready entries at other times; in steps, so that nobody waits long."""
        return await self._planned.move(attempts)

    async def end_rests(self, *, later_than: Micros) -> None:
        """Wake the destinations that would rest longer than until a time."""
        await self._planned.end_rests(later_than)

    async def shorten_leases(self, *, until: Micros) -> None:
        """Let no lease end later than at a time."""
        await self._planned.shorten_leases(until)


def _next_epoch(connection: apsw.Connection) -> int:
    return int(connection.execute(_NEXT_EPOCH).get)


def _in_order(leases: Sequence[Lease]) -> list[Lease]:
    return sorted(leases, key=lambda lease: lease.destination)
