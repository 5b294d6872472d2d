"""Looking at the queue as a whole: filtered entries, counts and figures, for the command line and for metrics."""

from array import array
from collections.abc import AsyncIterator
from typing import Any

from waypost.message.envelope import Envelope, Recipient
from waypost.message.trace import Micros, TraceId
from waypost.storage.errors import Damaged
from waypost.storage.outage import Outage, with_outage
from waypost.storage.queue import DestinationStats, EntryState, Filter, Lease, QueueEntry, QueueStats
from waypost.storage.sqlite.beside import Beside
from waypost.storage.sqlite.reading import Reading
from waypost.storage.sqlite.rows import envelope_from, points_from, recipients_from, text

STATES = (EntryState.READY, EntryState.HELD)
_PAGE = 500
_PLACE = slice(16, 21)

COLUMNS = """entry.id, message, destination, CAST(recipients AS BLOB), state, entry.priority, queued_at, next_attempt,
       last_attempt, attempts, waited, delay_notified, CAST(last_error AS BLOB), CAST(envelope AS BLOB),
       length + length(head), account, segment, offset, length, crc, head, counts_from,
       entry.not_before, CAST(entry.source AS BLOB)"""
"""What `entry_from` reads; near the end is where the message is, as `SqliteMessage` wants it."""
COUNTS_FROM = 21
_NOT_BEFORE = 22
_SOURCE = 23
_OUTAGE_FROM = 24
"""Where a row says from when on failed rounds count for the entry."""
OUTAGE = "d.failed_at, d.again_at, CAST(d.failure AS BLOB), d.outage"
"""What `outage_from` reads."""
_TABLES = "FROM entry JOIN message ON message.id = entry.message LEFT JOIN destination AS d ON d.name = destination "
ENTRIES = f"SELECT {COLUMNS}, {OUTAGE} {_TABLES}"
# What failed rounds of its destination say of an entry is younger than its own last attempt.
_ERROR = "coalesce(iif(state = 0 AND d.failed_at > coalesce(last_attempt, queued_at - 1), d.failure, last_error), '')"

# The table in the order of its ids: one pass over all pages.
_PAGE_OF_ALL = ENTRIES + "WHERE entry.id > :last AND {where} ORDER BY entry.id LIMIT :page"
# A few entries out of many: their ids from an index, once, and then pages of them.
_IDS = "SELECT id FROM entry WHERE {key} ORDER BY id"
_PAGE_OF_IDS = ENTRIES + "WHERE entry.id IN (SELECT value FROM json_each(:ids)) AND {where} ORDER BY entry.id"

_FIGURES = """
SELECT count(*), coalesce(sum(state = 1), 0), coalesce(sum(state = 0 AND next_attempt <= ?), 0)
FROM entry INDEXED BY entry_due"""
# Due by their own time, but their destination has failed, and is left alone for a while.
_RESTING = """
SELECT coalesce(sum((SELECT count(*) FROM entry INDEXED BY entry_due
    WHERE destination = d.name AND state = 0 AND next_attempt <= min(d.failed_at, :now))), 0)
FROM destination AS d WHERE failed_at > 0 AND again_at > :now"""
_LARGEST = """
SELECT destination, count(*), sum(state), min(id) FROM entry INDEXED BY entry_due
GROUP BY destination ORDER BY 2 DESC, 1 LIMIT ?"""

_OLDEST = f"""
SELECT queued_at, CAST({_ERROR} AS BLOB) FROM entry LEFT JOIN destination AS d ON d.name = destination
WHERE entry.id = ?"""


def entry_from(row: tuple[Any, ...], lease: Lease | None = None) -> QueueEntry:
    """Return the entry of a row of `COLUMNS`; where it can't be read, one without recipients that says so."""
    try:
        entry = _entry(row, recipients_from(row[3]), envelope_from(row[13]), None, lease)
    except Damaged as error:
        return _entry(row, (), Envelope(None), str(error), lease)
    if len(row) > _OUTAGE_FROM and row[_OUTAGE_FROM]:
        return with_outage(entry, outage_from(row[_OUTAGE_FROM:]), row[COUNTS_FROM])
    return entry


def outage_from(row: tuple[Any, ...]) -> Outage:
    """Return the outage of a row of `OUTAGE`."""
    failed_at, again_at, failure, points = row
    return Outage(failed_at, again_at, _words(failure) or "", points_from(points))


def _entry(
    row: tuple[Any, ...],
    recipients: tuple[Recipient, ...],
    envelope: Envelope,
    damage: str | None,
    lease: Lease | None,
) -> QueueEntry:
    return QueueEntry(
        id=row[0],
        trace=TraceId(row[1]),
        destination=row[2],
        recipients=recipients,
        state=STATES[bool(row[4])],
        priority=row[5],
        queued_at=row[6],
        next_attempt=row[7],
        last_attempt=row[8],
        attempts=row[9],
        waited=row[10],
        delay_notified=bool(row[11]),
        last_error=_words(row[12]),
        envelope=envelope,
        size=row[14],
        account=row[15],
        source=_words(row[_SOURCE]),
        damage=damage,
        not_before=row[_NOT_BEFORE],
        lease=lease,
        hint=row[_PLACE],
    )


_ANY_OF_ENTRIES = "id IN (SELECT value FROM json_each(:entries))"


def where_of(which: Filter, now: Micros) -> tuple[str, dict[str, Any]]:
    """Return the condition of a filter, and its values. `message` is needed for a sender."""
    parts: list[str] = []
    values: dict[str, Any] = {}

    def add(sql: str, name: str, value: Any) -> None:
        parts.append(sql)
        values[name] = value

    if which.entry is not None:
        add("entry.id = :entry", "entry", which.entry)
    if which.entries:
        add(f"entry.{_ANY_OF_ENTRIES}", "entries", text(list(which.entries)))
    if which.trace is not None:
        add("message = :trace", "trace", which.trace)
    if which.domain is not None:
        add("destination = :domain", "domain", which.domain)
    if which.state is not None:
        add("state = :state", "state", STATES.index(which.state))
    if which.older_than is not None:
        add("queued_at <= :before", "before", now - which.older_than)
    if which.newer_than is not None:
        add("queued_at >= :after", "after", now - which.newer_than)
    if which.error is not None:
        add(f"instr(lower({_ERROR}), lower(:error))", "error", which.error)
    if which.sender is not None:
        side = "substr(reverse_path, -length(:sender))" if which.sender.startswith("@") else "reverse_path"
        add(f"{side} = :sender COLLATE NOCASE", "sender", which.sender)
    return " AND ".join(parts) or "true", values


def _words(octets: bytes | None) -> str | None:
    """Return words of a row, whatever has become of them."""
    return None if octets is None else octets.decode("utf-8", "replace")


class Listing:
    """Reads the queue, beside the event loop. Nothing here costs more than one pass over an index or the table."""

    def __init__(self, beside: Beside) -> None:
        self._beside = beside

    async def entries(self, which: Filter, now: Micros) -> AsyncIterator[QueueEntry]:
        """Yield matching entries by id."""
        where, values = where_of(which, now)
        key = "id = :entry" if which.entry is not None else "message = :trace" if which.trace is not None else ""
        key = key or (_ANY_OF_ENTRIES if which.entries else "")
        key = key or ("destination = :domain" if which.domain is not None else "")
        pages = self._pages_of_ids(key, where, values) if key else self._pages_of_all(where, values)
        async for page in pages:
            for row in page:
                yield entry_from(row)

    async def _pages_of_all(self, where: str, values: dict[str, Any]) -> AsyncIterator[list[tuple[Any, ...]]]:
        sql = _PAGE_OF_ALL.format(where=where)
        last = 0
        while page := await self._beside.rows(sql, {**values, "last": last, "page": _PAGE}):
            yield page
            last = page[-1][0]

    async def _pages_of_ids(self, key: str, where: str, values: dict[str, Any]) -> AsyncIterator[list[tuple[Any, ...]]]:
        ids = await self._beside.run(
            lambda reading: array("q", (row[0] for row in reading.rows(_IDS.format(key=key), values)))
        )
        sql = _PAGE_OF_IDS.format(where=where)
        for start in range(0, len(ids), _PAGE):
            yield await self._beside.rows(sql, {**values, "ids": text(list(ids[start : start + _PAGE]))})

    async def count(self, which: Filter, now: Micros) -> int:
        """Return how many entries match."""
        where, values = where_of(which, now)
        tables = "FROM entry" if which.sender is None and which.error is None else _TABLES
        return await self._beside.run(
            lambda reading: int(reading.value(f"SELECT count(*) {tables} WHERE {where}", values))
        )

    async def stats(self, now: Micros, largest: int) -> QueueStats:
        """Return the queue in figures of one moment, from indexes and a row of each of the largest destinations."""
        return await self._beside.run(lambda reading: _stats(reading, now, largest))


def _stats(reading: Reading, now: Micros, largest: int) -> QueueStats:
    with reading.moment():
        entries, held, due = reading.row(_FIGURES, (now,)) or (0, 0, 0)
        oldest = reading.value("SELECT queued_at FROM entry ORDER BY id LIMIT 1")
        destinations = int(reading.value("SELECT count(DISTINCT destination) FROM entry"))
        found = [_destination(reading, *row) for row in reading.rows(_LARGEST, (largest,))]
        due -= int(reading.value(_RESTING, {"now": now}))
    return QueueStats(entries, held, due, destinations, oldest, found)


def _destination(reading: Reading, name: str, entries: int, held: int, oldest_id: int) -> DestinationStats:
    """Ids grow with time, so the smallest one is of the entry that waits longest."""
    oldest, error = reading.row(_OLDEST, (oldest_id,)) or (0, None)
    wake = reading.value("SELECT wake FROM destination WHERE name = ?", (name,))
    return DestinationStats(name, entries, held, oldest, wake, _words(error) or None)
