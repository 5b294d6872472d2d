"""Housekeeping: the space of deleted messages comes back, and what a crash left behind goes.

Each step is safe to break off anywhere: rows never point at bytes that are not durable (or have copies, `copies.py`),
and a file goes only when no row needs it. It is for one process at a time; the others go on writing.
"""

import asyncio
import contextlib
import logging
import os
import zlib
from collections.abc import Callable, Sequence
from pathlib import Path

import apsw

from waypost.disk.files import is_folder
from waypost.disk.folders import sync_folder
from waypost.message.trace import Micros, TraceId, format_trace_id
from waypost.storage.sqlite.commit.batch import Batch
from waypost.storage.sqlite.commit.copies import restore
from waypost.storage.sqlite.commit.operation import Operation
from waypost.storage.sqlite.commit.writer import Writer
from waypost.storage.sqlite.reading import Reading
from waypost.storage.sqlite.rows import text
from waypost.storage.sqlite.segments.arriving import ARRIVING, ArrivingFile
from waypost.storage.sqlite.segments.lost import lost_folder, put_aside
from waypost.storage.sqlite.segments.reader import SegmentReader
from waypost.storage.sqlite.segments.segments import (
    HEADER,
    abandoned,
    record_header,
    remove_abandoned,
    segment_path,
)
from waypost.storage.sqlite.upkeep.keeping import removing

log = logging.getLogger(__name__)

_EMPTY_ONES = """
SELECT id, size FROM segment WHERE sealed = 1 AND live <= 0
AND NOT EXISTS (SELECT 1 FROM message WHERE message.segment = segment.id) LIMIT 1000"""
_FORGET = "DELETE FROM segment WHERE id IN (SELECT value FROM json_each(?))"
_HALF_DEAD = """
SELECT id, size, live FROM segment INDEXED BY segment_half_dead
WHERE sealed = 1 AND live > 0 AND size > live * 2 AND size > :smallest
AND id NOT IN (SELECT value FROM json_each(:left_out)) ORDER BY live LIMIT 8"""
_RECORDS = "SELECT count(*) FROM message WHERE segment = ?"
_KNOWN = "SELECT id FROM segment WHERE id BETWEEN ? AND ?"
_SUFFIX = ".seg"
_LIVING = "SELECT id, offset, length, crc FROM message WHERE segment = ? ORDER BY offset LIMIT ?"
_MOVE = """
UPDATE message SET segment = :fresh, offset = moved.new
FROM (SELECT value->>0 AS id, value->>1 AS old, value->>2 AS new FROM json_each(:moved)) AS moved
WHERE message.id = moved.id AND +message.segment = :segment AND message.offset = moved.old
RETURNING length"""
_COPIED_AT_ONCE = 5000  # records of one file
_MOVED_AT_ONCE = 500  # rows that one commit changes: more would keep the writers of all processes waiting
_COPIED_AT_MOST = 512 << 20  # octets in one round of the housekeeping; then others have the disk for a while
_SWEPT_AT_ONCE = 2000  # files

_Row = tuple[int, int, int, int]  # trace, offset, length, crc
_Moved = tuple[int, int, int]  # trace, old offset, new offset


class Housekeeping:
    """Gives space back: empty segments are removed, half-empty ones are copied and then removed."""

    def __init__(self, writer: Writer, reading: Reading, data: Path, now: Callable[[], Micros]) -> None:
        self._writer = writer
        self._reading = reading
        self._now = now
        self._data = data
        self._lost: Path | None = None  # where this process puts segments aside
        self._folder = data / "segments"
        self._damaged: set[int] = set()

    async def seal_abandoned(self) -> int:
        """Seal segments whose process is gone: nobody appends to them any more; returns how many."""

        def seal(connection: apsw.Connection, segment: int) -> int:
            # Asked again with the writers' lock held: a segment gets its row and its locked file under it.
            path = segment_path(self._folder, segment)
            if not abandoned(path):
                return 0
            restore(connection, self._folder, [segment])
            size = 0
            with contextlib.suppress(FileNotFoundError):
                size = path.stat().st_size
            connection.execute("UPDATE segment SET sealed = 1, size = ? WHERE id = ?", (size, segment)).fetchall()
            return 1

        sealed = 0
        for (segment,) in self._reading.rows("SELECT id FROM segment WHERE sealed = 0"):
            if abandoned(segment_path(self._folder, segment)):  # one a commit: its copies may be many octets
                sealed += await self._writer.call(lambda connection, segment=segment: seal(connection, segment))  # type: ignore[misc]
        return sealed

    async def remove_empty(self) -> int:
        """Remove sealed segments that no row needs; returns how many. A backup that runs may still need them.

        The file goes first, and its row when that is durable: a file without a row was never ours (`lost.py`).
        """
        loop = asyncio.get_running_loop()
        removed = 0
        with removing(self._data) as allowed:
            while allowed:
                found = self._reading.rows(_EMPTY_ONES)
                if not found:
                    break
                await loop.run_in_executor(None, self._remove, found)
                await self._forget([segment for segment, _ in found])
                removed += len(found)
        return removed

    async def _forget(self, segments: Sequence[int]) -> None:
        gone = text(list(segments))
        await self._writer.call(lambda connection: connection.execute(_FORGET, (gone,)).fetchall())

    def _remove(self, segments: Sequence[tuple[int, int]]) -> None:
        """Remove files durably; one that is not as it was left holds what others wrote, and is put aside."""
        for segment, size in segments:
            path = segment_path(self._folder, segment)
            with contextlib.suppress(FileNotFoundError):
                if path.stat().st_size == size:
                    path.unlink()
                else:
                    self._put_aside(path, "a segment is not of the size with which it was closed")
        sync_folder(self._folder)

    async def compact(self, *, smallest: int = 1 << 20) -> int:
        """Copy what still lives out of segments that are more than half dead; returns the octets given back."""
        with removing(self._data) as allowed:
            if not allowed:  # a backup runs: what is copied now would only take more room
                return 0
        given_back = copied = 0
        dense: set[int] = set()
        while copied < _COPIED_AT_MOST:
            values = {"smallest": smallest, "left_out": text(sorted(self._damaged | dense))}
            found = self._reading.rows(_HALF_DEAD, values)
            if not found:
                break
            for segment, size, live in found:
                if size <= 2 * (live + self._reading.value(_RECORDS, (segment,)) * HEADER.size):
                    dense.add(segment)  # of tiny messages: its copy would be half dead by this count again, for ever
                    continue
                if await self._move(segment):
                    given_back += size - live
                else:
                    self._damaged.add(segment)
                copied += live
            await self.remove_empty()  # its room may be needed for the next
        return given_back

    async def _move(self, segment: int) -> bool:
        """Copy the living records of a segment into fresh ones, durably, and point the rows at them.

        Records may be deleted meanwhile: only rows that still are where they were are changed. Damaged records
        are left for a person to see: False then.
        """
        while True:
            rows: list[_Row] = self._reading.rows(_LIVING, (segment, _COPIED_AT_ONCE))
            if not rows:
                return True
            file = ArrivingFile(self._folder)
            try:
                moved = await file.in_thread(self._copy, segment, file, rows)
                for start in range(0, len(moved), _MOVED_AT_ONCE):
                    await self._writer.write(_moving(segment, file, moved[start : start + _MOVED_AT_ONCE], start == 0))
            finally:
                file.close()
            if len(moved) < len(rows):
                return False

    def _copy(self, segment: int, file: ArrivingFile, rows: list[_Row]) -> list[_Moved]:
        """Copy the records that are whole; in another thread."""
        reader = SegmentReader(self._folder, keep=1)
        moved: list[_Moved] = []
        try:
            for trace, offset, length, crc in rows:
                try:
                    data = reader.read(segment, offset, length)
                except OSError as error:
                    _tell_damaged(trace, segment, str(error))
                    continue
                if len(data) != length or zlib.crc32(data) != crc:
                    _tell_damaged(trace, segment, "not the octets that were stored")
                    continue
                moved.append((trace, offset, file.size + HEADER.size))
                file.write(record_header(TraceId(trace), length, crc) + data)
            if moved:
                file.finish()
            return moved
        finally:
            reader.close()

    async def sweep(self) -> int:
        """Remove half messages that a crash left, and put segments aside that no row knows; returns how many."""
        half, segments = await asyncio.get_running_loop().run_in_executor(None, self._files)
        gone = sum(map(remove_abandoned, half))
        for start in range(0, len(segments), _SWEPT_AT_ONCE):
            gone += self._sweep(segments[start : start + _SWEPT_AT_ONCE])
            await asyncio.sleep(0)  # others have their turn
        return gone

    def _files(self) -> tuple[list[Path], list[int]]:
        """List half messages, and the numbers of segments in order; in another thread."""
        half: list[Path] = []
        segments: list[int] = []
        with os.scandir(self._folder) as found:
            for entry in found:
                if entry.name.startswith(ARRIVING):
                    half.append(self._folder / entry.name)
                elif entry.name.endswith(_SUFFIX) and (stem := entry.name.removesuffix(_SUFFIX)).isdigit():
                    segments.append(int(stem))
        segments.sort()
        return half, segments

    def _sweep(self, segments: Sequence[int]) -> int:
        # Asked after the listing: a segment's row is there before its file has its name.
        known = {segment for (segment,) in self._reading.rows(_KNOWN, (segments[0], segments[-1]))}
        gone = 0
        for number in segments:
            # Were its messages needed, only its row would be lost: `storage check` says so.
            if number not in known and not self._needed(number) and abandoned(path := self._path(number)):
                self._put_aside(path, "the database does not know this segment: it may hold mail of another time")
                gone += 1
        return gone

    def _path(self, segment: int) -> Path:
        return segment_path(self._folder, segment)

    def _put_aside(self, path: Path, why: str) -> None:
        """Move a file to `lost/`, where nothing is ever removed."""
        with contextlib.suppress(FileNotFoundError):
            if self._lost is None or not is_folder(self._lost):
                self._lost = lost_folder(self._data, "unknown", self._now())
            fields = {"segment": path.name, "reason": why, "now": str(put_aside(path, self._lost))}
            sync_folder(self._lost)
            log.critical("segment put aside", extra={"fields": fields})

    def _needed(self, segment: int) -> bool:
        return self._reading.value("SELECT 1 FROM message WHERE segment = ? LIMIT 1", (segment,)) is not None


def _moving(segment: int, file: ArrivingFile, moved: list[_Moved], first: bool) -> Operation:
    """Return the operation that points rows at their copies; the first of a file places it."""

    def point(batch: Batch) -> None:
        batch.flush()
        values = {"fresh": file.number, "segment": segment, "moved": text(moved)}
        live = sum(length for (length,) in batch.connection.execute(_MOVE, values).fetchall())
        batch.grow(file.number, size=file.size, live=live, sealed=True)
        batch.grow(segment, live=-live)

    return Operation(point, files=(file,) if first else ())


def _tell_damaged(trace: int, segment: int, problem: str) -> None:
    fields = {"trace": format_trace_id(TraceId(trace)), "segment": segment, "problem": problem}
    log.error("message damaged on disk", extra={"fields": fields})
