"""After a step of the clock, or a change of the schedule: attempts that it does not explain are pulled back.

A huge queue is looked through in pages by reading alone, and changed in small steps, so that nobody waits for it.
"""

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Sequence
from typing import Any

import apsw

from waypost.message.trace import Micros
from waypost.storage.bus import Notice
from waypost.storage.errors import Damaged
from waypost.storage.queue import EntryId
from waypost.storage.sqlite.changes import AT_ONCE, HELD_UNTIL
from waypost.storage.sqlite.halving import give_way, in_halves
from waypost.storage.sqlite.reading import Reading
from waypost.storage.sqlite.rows import text
from waypost.storage.sqlite.waking import readable, set_wakes
from waypost.storage.sqlite.writer import Writer

log = logging.getLogger(__name__)

_PAGE = 2000
_NEWEST = "SELECT seq FROM sqlite_sequence WHERE name = 'entry'"
_FROM = "SELECT id FROM entry WHERE id >= ? ORDER BY id LIMIT 1"
_LATE = "state = 0 AND next_attempt > :now + (:waits ->> min(attempts, :last))"
_LOOK = f"SELECT id FROM entry WHERE id >= :first AND id < :end AND {_LATE}"
# But for mail that its sender holds back (RFC 4865).
_PULL = f"""
UPDATE entry SET next_attempt = :now + (:waits ->> min(attempts, :last))
WHERE id IN (SELECT value FROM json_each(:ids)) AND {_LATE}
  AND NOT EXISTS (SELECT 1 FROM message WHERE message.id = entry.message AND {HELD_UNTIL} > :now)
RETURNING CAST(destination AS BLOB)"""
_RESTING = """
SELECT CAST(name AS BLOB), max(not_before, again_at) > :latest FROM destination
WHERE name > :after ORDER BY name LIMIT :page"""
_SHORTEN_LEASES = "UPDATE destination SET lease_until = min(lease_until, ?) WHERE owner >= 0"


class ClockRepair:
    """Pulls planned attempts back."""

    def __init__(self, writer: Writer, reading: Reading) -> None:
        self._writer = writer
        self._reading = reading

    async def pull_back(self, *, now: Micros, waits: Sequence[Micros], longest_lease: Micros) -> int:
        """Pull back attempts, rests and leases; return how many attempts. Raises `StorageError`."""
        values = {"now": now, "waits": text(list(waits)), "last": len(waits) - 1}
        changed = 0
        waiting: list[EntryId] = []
        async for late in self._late(values):
            waiting += late
            while len(waiting) >= AT_ONCE:
                changed += await self._pull(waiting[:AT_ONCE], values)
                del waiting[:AT_ONCE]
        if waiting:
            changed += await self._pull(waiting, values)
        await self._end_rests(now + max(waits))
        await in_halves(
            self._writer,
            [now + longest_lease],
            lambda connection, until: connection.execute(_SHORTEN_LEASES, until).fetchall(),
        )
        return changed

    async def _late(self, values: dict[str, Any]) -> AsyncIterator[list[EntryId]]:
        """Yield the entries that are planned too late, page by page."""
        newest = int(self._reading.value(_NEWEST) or 0)
        first = 1
        while first <= newest:
            first = self._next_after(first)
            yield self._look(first, first + _PAGE, values)
            first += _PAGE
            await asyncio.sleep(0)  # others have their turn

    def _next_after(self, first: EntryId) -> EntryId:
        """Skip numbers that no entry has any more."""
        try:
            return int(self._reading.value(_FROM, (first,)) or first)
        except Damaged:
            return first

    def _look(self, first: EntryId, end: EntryId, values: dict[str, Any]) -> list[EntryId]:
        """Return the late entries of a range; one that can't be read is left out, for `storage check` to tell of."""
        try:
            rows = self._reading.rows(_LOOK, {**values, "first": first, "end": end})
        except Damaged:
            if end - first == 1:
                return []
            middle = (first + end) // 2
            return self._look(first, middle, values) + self._look(middle, end, values)
        return [entry for (entry,) in rows]

    async def _pull(self, entries: Sequence[EntryId], values: dict[str, Any]) -> int:
        began = time.monotonic()

        def pull(connection: apsw.Connection, ids: Sequence[EntryId]) -> tuple[int, list[str]]:
            names = [name for (name,) in connection.execute(_PULL, {**values, "ids": text(sorted(ids))}).fetchall()]
            return len(names), _wake(connection, names)

        done, _ = await in_halves(self._writer, entries, pull, _notices, patient=True)
        await give_way(began)
        return sum(count for count, _ in done)

    async def _end_rests(self, latest: Micros) -> None:
        """Wake destinations that rest longer than any schedule says."""
        after = b""
        while True:
            values = {"latest": latest, "after": after.decode(errors="replace"), "page": _PAGE}
            try:
                rows = self._reading.rows(_RESTING, values)
            except Damaged as error:
                log.error("destinations can't be read", extra={"fields": {"error": str(error)}})
                return
            resting = [name for name, rests in rows if rests]
            for start in range(0, len(resting), AT_ONCE):
                await self._wake_some(resting[start : start + AT_ONCE])
            if len(rows) < _PAGE:
                return
            after = rows[-1][0]
            await asyncio.sleep(0)

    async def _wake_some(self, names: Sequence[bytes]) -> None:
        def wake(connection: apsw.Connection, some: Sequence[bytes]) -> tuple[int, list[str]]:
            for name in sorted(readable(connection, some)):
                connection.execute("UPDATE destination SET again_at = 0 WHERE name = ?", (name,)).fetchall()
            return len(some), _wake(connection, some)

        await in_halves(self._writer, names, wake, _notices)


def _wake(connection: apsw.Connection, octets: Sequence[bytes]) -> list[str]:
    names = readable(connection, list(dict.fromkeys(octets)))
    set_wakes(connection, names)
    return names


def _notices(done: tuple[int, list[str]]) -> list[Notice]:
    return [Notice("destination", name) for name in done[1]]
