"""Housekeeping of the embedded engine: space of deleted messages comes back, leftovers go, old events are dropped.

Each step is safe to break off anywhere: rows never point at bytes that are not durable, and a file goes only when no
row needs it.
"""

import asyncio
import contextlib
import logging
import time
from pathlib import Path

import apsw

from waypost.message.trace import TraceId, format_trace_id
from waypost.storage.sqlite.segments import OpenSegment, SegmentReader, segment_path
from waypost.storage.sqlite.writer import Writer

log = logging.getLogger(__name__)

_HALF_DEAD = """
SELECT id, live FROM segment
WHERE sealed = 1 AND live > 0 AND live * 2 < size AND size > ? ORDER BY live LIMIT 8"""
_STALE_SECONDS = 3600
_COPY_AT_ONCE = 64

_Moved = tuple[int, int, int, int]  # trace, old offset, new offset, length


class Compaction:
    """Gives space back: empty segments are removed, half-empty ones are copied and then removed."""

    def __init__(self, writer: Writer, reading: apsw.Connection, data: Path, worker: int) -> None:
        self._writer = writer
        self._reading = reading
        self._folder = data / "segments"
        self._worker = worker

    async def seal_abandoned(self, live_workers: frozenset[int]) -> None:
        """Seal segments whose process is gone: nobody appends to them any more."""
        rows = self._reading.execute("SELECT id, worker FROM segment WHERE sealed = 0").fetchall()
        abandoned = [segment for segment, worker in rows if worker not in live_workers]

        def seal(connection: apsw.Connection) -> None:
            for segment in abandoned:
                path = segment_path(self._folder, segment)
                size = path.stat().st_size if path.exists() else 0
                connection.execute("UPDATE segment SET sealed = 1, size = ? WHERE id = ?", (size, segment))

        if abandoned:
            await self._writer.call(seal)

    async def remove_empty(self) -> int:
        """Remove sealed segments that no row needs; returns how many."""

        def forget(connection: apsw.Connection) -> list[int]:
            rows = connection.execute(
                "DELETE FROM segment WHERE sealed = 1 AND live <= 0 AND NOT EXISTS "
                "(SELECT 1 FROM message WHERE message.segment = segment.id) RETURNING id"
            ).fetchall()
            return [segment for (segment,) in rows]

        if self._reading.execute("SELECT 1 FROM segment WHERE sealed = 1 AND live <= 0 LIMIT 1").get is None:
            return 0
        gone = await self._writer.call(forget)
        for segment in gone:  # the rows went first: a crash between leaves a file, which `sweep` removes
            with contextlib.suppress(FileNotFoundError):
                segment_path(self._folder, segment).unlink()
        return len(gone)

    async def compact(self, *, smallest: int = 1 << 20) -> int:
        """Copy what still lives out of segments that are more than half dead; returns the octets given back."""
        given_back = 0
        for segment, live in self._reading.execute(_HALF_DEAD, (smallest,)).fetchall():
            path = segment_path(self._folder, segment)
            with contextlib.suppress(FileNotFoundError):
                given_back += path.stat().st_size - live
            await self._move(segment)
        await self.remove_empty()
        return given_back

    async def _move(self, segment: int) -> None:
        """Copy the live records of a segment into a fresh one, durably; then point the rows at them.

        Between the two, records may be deleted: only rows that still are where they were are changed.
        """

        def new_segment(connection: apsw.Connection) -> int:
            return int(
                connection.execute(
                    "INSERT INTO segment (worker, sealed, live) VALUES (?, 1, 1) RETURNING id", (self._worker,)
                ).get
            )

        rows = self._reading.execute(
            "SELECT id, offset, length, crc FROM message WHERE segment = ? ORDER BY offset", (segment,)
        ).fetchall()
        fresh = await self._writer.call(new_segment)
        moved, size = await asyncio.get_running_loop().run_in_executor(None, self._copy, segment, fresh, rows)

        def point(connection: apsw.Connection) -> None:
            live = 0
            for trace, old, new, length in moved:
                connection.execute(
                    "UPDATE message SET segment = ?, offset = ? WHERE id = ? AND segment = ? AND offset = ?",
                    (fresh, new, trace, segment, old),
                )
                live += length * connection.changes()
            connection.execute("UPDATE segment SET size = ?, live = ? WHERE id = ?", (size, live, fresh))
            connection.execute("UPDATE segment SET live = live - ? WHERE id = ?", (live, segment))

        await self._writer.call(point)

    def _copy(self, segment: int, fresh: int, rows: list[tuple[int, int, int, int]]) -> tuple[list[_Moved], int]:
        reader = SegmentReader(self._folder, keep=1)
        target = OpenSegment(self._folder, fresh)
        moved: list[_Moved] = []
        try:
            for start in range(0, len(rows), _COPY_AT_ONCE):
                part = rows[start : start + _COPY_AT_ONCE]
                records = [(TraceId(trace), [reader.pread(segment, offset, size)]) for trace, offset, size, _ in part]
                for (trace, offset, length, crc), location in zip(part, target.append(records), strict=True):
                    if (location.length, location.crc) != (length, crc):
                        # Left where it is: `storage check` names it, and its segment is kept for a person to see.
                        fields = {"trace": format_trace_id(TraceId(trace)), "segment": segment}
                        log.error("message damaged on disk", extra={"fields": fields})
                        continue
                    moved.append((trace, offset, location.offset, length))
            return moved, target.size
        finally:
            reader.close()
            target.close()

    def sweep(self) -> int:
        """Remove files that no row knows: leftovers of a crash, older than an hour; returns how many."""
        known = {row[0] for row in self._reading.execute("SELECT id FROM segment")}
        removed = 0
        for path in self._folder.iterdir():
            number = path.stem if path.suffix == ".seg" else ""
            leftover = path.name.startswith("arriving-") or (number.isdigit() and int(number) not in known)
            with contextlib.suppress(FileNotFoundError):
                if leftover and time.time() - path.stat().st_mtime > _STALE_SECONDS:
                    path.unlink()
                    removed += 1
        return removed
