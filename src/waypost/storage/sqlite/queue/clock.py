"""Planned attempts, rests and leases that are moved after a step of the clock, or a change of the schedule.

A huge queue is looked through in pages by reading alone, and changed in small steps, so that nobody waits for it. What
is moved, and where, is decided above (`queue/clock_repair.py`).
"""

import logging
import time
from collections.abc import Sequence
from typing import Any

import apsw

from waypost.message.trace import Micros
from waypost.storage import notices
from waypost.storage.bus import Notice
from waypost.storage.errors import Damaged
from waypost.storage.queue import EntryId, PlannedAttempt, PlannedPage, Replanned
from waypost.storage.sqlite.commit.halving import give_way, in_halves
from waypost.storage.sqlite.commit.writer import Writer
from waypost.storage.sqlite.queue.changes import AT_ONCE
from waypost.storage.sqlite.queue.waking import readable, set_wakes
from waypost.storage.sqlite.reading import Reading
from waypost.storage.sqlite.rows import text

log = logging.getLogger(__name__)

_PAGE = 2000
_NEWEST = "SELECT seq FROM sqlite_sequence WHERE name = 'entry'"
_FROM = "SELECT id FROM entry WHERE id >= ? ORDER BY id LIMIT 1"
_LOOK = """
SELECT id, next_attempt, attempts, not_before FROM entry
WHERE id >= :first AND id < :end AND state = 0
  AND next_attempt > (:times ->> min(attempts, :last))"""
_MOVE = """
UPDATE entry SET next_attempt = new.moved
FROM (SELECT value->>0 AS id, value->>1 AS planned, value->>2 AS moved FROM json_each(:moved)) AS new
WHERE entry.id = new.id AND next_attempt = new.planned AND state = 0 RETURNING CAST(destination AS BLOB)"""
_RESTING = """
SELECT CAST(name AS BLOB), max(not_before, again_at) > :latest FROM destination
WHERE name > :after ORDER BY name LIMIT :page"""
_SHORTEN_LEASES = "UPDATE destination SET lease_until = min(lease_until, ?) WHERE owner >= 0"


class PlannedTimes:
    """Looks through planned times, and moves them. All methods raise `StorageError`."""

    def __init__(self, writer: Writer, reading: Reading) -> None:
        self._writer = writer
        self._reading = reading

    def later_than(self, times: Sequence[Micros], after: EntryId) -> PlannedPage:
        """Return a page of the ready entries that are planned later than the time for their number of attempts."""
        newest = int(self._reading.value(_NEWEST) or 0)
        if after >= newest:
            return PlannedPage([], None)
        first = self._next_after(after + 1)
        last = first + _PAGE - 1
        return PlannedPage(
            self._look(first, last + 1, {"times": text(list(times)), "last": len(times) - 1}),
            None if last >= newest else last,
        )

    def _next_after(self, first: EntryId) -> EntryId:
        """Skip numbers that no entry has any more."""
        try:
            return int(self._reading.value(_FROM, (first,)) or first)
        except Damaged:
            return first

    def _look(self, first: EntryId, end: EntryId, times: dict[str, Any]) -> list[PlannedAttempt]:
        """Return the late entries of a range; one that can't be read is left out, for `storage check` to tell of."""
        try:
            rows = self._reading.rows(_LOOK, {**times, "first": first, "end": end})
        except Damaged:
            if end - first == 1:
                return []
            middle = (first + end) // 2
            return self._look(first, middle, times) + self._look(middle, end, times)
        return [PlannedAttempt(*row) for row in rows]

    async def move(self, attempts: Sequence[Replanned]) -> int:
        """Move attempts, in steps; return how many were still planned as they were read."""
        in_order = sorted(attempts, key=lambda one: one.entry)
        moved = 0
        for start in range(0, len(in_order), AT_ONCE):
            began = time.monotonic()
            done, _ = await in_halves(
                self._writer, in_order[start : start + AT_ONCE], self._move, _published, patient=True
            )
            moved += sum(count for count, _ in done)
            await give_way(began)
        return moved

    @staticmethod
    def _move(connection: apsw.Connection, some: Sequence[Replanned]) -> tuple[int, list[str]]:
        values = {"moved": text([[one.entry, one.planned, one.next_attempt] for one in some])}
        names = [name for (name,) in connection.execute(_MOVE, values).fetchall()]
        return len(names), _wake(connection, names)

    async def end_rests(self, latest: Micros) -> None:
        """Wake destinations that rest longer."""
        after = b""
        while True:
            began = time.monotonic()
            values = {"latest": latest, "after": after.decode(errors="replace"), "page": _PAGE}
            try:
                rows = self._reading.rows(_RESTING, values)
            except Damaged as error:
                log.error("destinations can't be read", extra={"fields": {"error": str(error)}})
                return
            resting = [name for name, rests in rows if rests]
            for start in range(0, len(resting), AT_ONCE):
                await in_halves(self._writer, resting[start : start + AT_ONCE], self._end_rests, _published)
            if len(rows) < _PAGE:
                return
            after = rows[-1][0]
            await give_way(began)

    @staticmethod
    def _end_rests(connection: apsw.Connection, some: Sequence[bytes]) -> tuple[int, list[str]]:
        for name in sorted(readable(connection, some)):
            connection.execute("UPDATE destination SET again_at = 0 WHERE name = ?", (name,)).fetchall()
        return len(some), _wake(connection, some)

    async def shorten_leases(self, until: Micros) -> None:
        """Let no lease end later."""
        await in_halves(
            self._writer, [until], lambda connection, end: connection.execute(_SHORTEN_LEASES, end).fetchall()
        )


def _wake(connection: apsw.Connection, octets: Sequence[bytes]) -> list[str]:
    names = readable(connection, list(dict.fromkeys(octets)))
    set_wakes(connection, names)
    return names


def _published(done: tuple[int, list[str]]) -> list[Notice]:
    return notices.of_destinations(done[1])
