"""Copying octets of segments between folders, and reading whether they are what the rows say."""

import os
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import groupby
from operator import itemgetter
from pathlib import Path

import apsw

from waypost.counting import counted
from waypost.disk.files import exists
from waypost.message.trace import TraceId
from waypost.storage.errors import StorageError
from waypost.storage.sqlite.backup.files import Missing, reading, require_file
from waypost.storage.sqlite.segments.reader import SegmentReader
from waypost.storage.sqlite.segments.segments import Location, record_header, segment_path

_CHUNK = 1 << 20
_PAGE = 1000

Progress = Callable[[int, int], None]
"""Called with how much is done, and of how much."""

# In a damaged row a number may have become a text: such a row leads to no octets.
_SOUND = " AND ".join(f"typeof({column}) = 'integer'" for column in ("segment", "offset", "length", "crc"))
_NEEDED = f"SELECT segment, max(offset + length) FROM message WHERE {_SOUND} GROUP BY segment ORDER BY segment"
_MESSAGES = f"SELECT id, offset, length, crc FROM message WHERE segment = ? AND {_SOUND} ORDER BY offset"
_UNSOUND = f"SELECT id FROM message WHERE NOT ({_SOUND})"
_COPIES = "SELECT segment, offset, octets FROM unflushed ORDER BY segment, offset"


@dataclass(frozen=True, slots=True)
class DamagedMessage:
    """A message whose octets are not what was stored, and how."""

    trace: TraceId
    location: Location
    how: str


def needed_segments(connection: apsw.Connection) -> dict[int, int]:
    """Return the segments that messages need, and up to which octet. Raises `apsw.Error`."""
    return dict(connection.execute(_NEEDED).fetchall())


def copy_segment(source: Path, target: Path, end: int) -> int:
    """Let `target` have the octets of `source` up to `end`, durably; what it has already stays. Returns how many were
    copied. A segment that is missing or too short gives what it has. Raises `Replaced`, `OSError`."""
    try:
        have = require_file(target)
    except Missing:
        have = 0
    if have >= end:
        return 0
    try:
        with reading(source) as there:
            writing = os.open(target, os.O_WRONLY | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
            try:
                position = have
                while position < end and (data := os.pread(there, min(_CHUNK, end - position), position)):
                    _write(writing, data, position)
                    position += len(data)
                os.fsync(writing)
            finally:
                os.close(writing)
    except Missing:
        return 0
    return position - have


def write_copies(connection: apsw.Connection, folder: Path, ends: dict[int, int]) -> None:
    """Write octets into segments that the database may hold alone (`copies.py`). Raises `OSError`, `apsw.Error`."""
    for segment, rows in groupby(connection.execute(_COPIES), key=itemgetter(0)):
        if segment in ends:
            _write_at(segment_path(folder, segment), [(offset, octets) for _, offset, octets in rows])


def _write_at(path: Path, pieces: list[tuple[int, bytes]]) -> None:
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    try:
        for offset, octets in pieces:
            _write(fd, octets, offset)
        os.fsync(fd)
    finally:
        os.close(fd)


def _write(fd: int, data: bytes, position: int) -> None:
    view = memoryview(data)
    while view:
        done = os.pwrite(fd, view, position)
        position, view = position + done, view[done:]


def damaged_messages(
    connection: apsw.Connection,
    folder: Path,
    progress: Progress,
    *,
    only: set[int] | None = None,
    then: Callable[[int], None] = lambda segment: None,
) -> Iterator[DamagedMessage]:
    """Read all messages in the order of their octets, or those in some segments; yield those that are not whole.

    `then` is called with each segment, also those that were not read, while its octets are still in memory. Raises
    `apsw.Error`, and what `then` raises.
    """
    total = int(connection.execute("SELECT count(*) FROM message").get)
    reader = SegmentReader(folder, keep=4)
    done = 0
    progress(0, total)
    try:
        for (trace,) in connection.execute(_UNSOUND).fetchall():
            yield DamagedMessage(TraceId(trace), Location(0, 0, 0, 0), "has a row that can't be read")
        for segment in needed_segments(connection):
            if only is None or segment in only:
                for location, trace in _messages(connection, segment):
                    how = _damage(reader, location)
                    if how is not None:
                        yield DamagedMessage(trace, location, how)
                    done += 1
                    if not done % _PAGE:
                        progress(done, max(done, total))
            then(segment)
        progress(total, total)
    finally:
        reader.close()


def _messages(connection: apsw.Connection, segment: int) -> Iterator[tuple[Location, TraceId]]:
    for trace, offset, length, crc in connection.execute(_MESSAGES, (segment,)):
        yield Location(segment, offset, length, crc), TraceId(trace)


def mend_headers(connection: apsw.Connection, folder: Path) -> int:
    """Write record headers anew that are damaged in front of messages; return how many. Raises `OSError`."""
    reader = SegmentReader(folder, keep=4)
    mended = 0
    try:
        for segment in needed_segments(connection):
            if not exists(segment_path(folder, segment)):  # its messages are told of as damaged
                continue
            for place, trace in _messages(connection, segment):
                header = record_header(trace, place.length, place.crc)
                if reader.read(segment, place.offset - len(header), len(header)) != header:
                    _write_at(segment_path(folder, segment), [(place.offset - len(header), header)])
                    mended += 1
    finally:
        reader.close()
    return mended


def _damage(reader: SegmentReader, location: Location) -> str | None:
    found, position = 0, 0
    try:
        while position < location.length:
            wanted = min(_CHUNK, location.length - position)
            data = reader.read(location.segment, location.offset + position, wanted)
            if not data:
                return f"ends {counted(location.length - position, 'octet')} too early"
            found = zlib.crc32(data, found)
            position += len(data)
    except OSError as error:
        return f"can't be read: {os.strerror(error.errno or 0)}"
    return None if found == location.crc else "holds other octets than were stored"


def copy_message(message: DamagedMessage, source: Path, target: Path) -> bool:
    """Write one message anew into the segment of `target`, when it is whole in that of `source`. Raises `OSError`."""
    place = message.location
    reader = SegmentReader(source, keep=1)
    try:
        if require_file(segment_path(source, place.segment)) < place.offset + place.length:
            return False
        octets = reader.read(place.segment, place.offset, place.length)
    except (StorageError, OSError):
        return False
    finally:
        reader.close()
    if len(octets) != place.length or zlib.crc32(octets) != place.crc:
        return False
    header = record_header(message.trace, place.length, place.crc)
    _write_at(segment_path(target, place.segment), [(place.offset - len(header), header + octets)])
    return True
