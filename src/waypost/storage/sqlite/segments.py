"""Segments: append-only files of message bytes under `data/segments/`.

A record is a fixed header (magic, trace id, length, CRC-32) and then the octets, so that a segment can be checked and
read without the database. One process appends to one open segment; a large message has a segment of its own, written
while it arrives. Nothing here knows rows: the writer joins both in one group commit.
"""

import contextlib
import os
import struct
import zlib
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from waypost.message.trace import TraceId
from waypost.storage.errors import StorageError, StorageFull

HEADER = struct.Struct("<4sQQI")
MAGIC = b"WPS1"
_FULL = frozenset({28, 122, 30, 27})  # ENOSPC, EDQUOT, EROFS, EFBIG
_IOV_MAX = 1000


@dataclass(frozen=True, slots=True)
class Location:
    """Where a message's octets are: behind the record header, at `offset` of a segment."""

    segment: int
    offset: int
    length: int
    crc: int


def storage_error(error: OSError, what: str) -> StorageError:
    """Return the storage error for an operating system's error: full or read-only disks apart."""
    words = f"{what}: {os.strerror(error.errno or 0)}"
    return StorageFull(words) if error.errno in _FULL else StorageError(words)


def segment_path(folder: Path, segment: int) -> Path:
    """Return the file of a segment."""
    return folder / f"{segment:012}.seg"


def sync_folder(folder: Path) -> None:
    """Make names in a folder durable."""
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def record_header(trace: TraceId, length: int, crc: int) -> bytes:
    """Return the header of a record."""
    return HEADER.pack(MAGIC, trace, length, crc)


class OpenSegment:
    """The segment that one process appends to. Not safe for several threads."""

    def __init__(self, folder: Path, segment: int) -> None:
        """Create the file, durably. Raises `StorageFull`, `StorageError`."""
        self.id = segment
        self.size = 0
        path = segment_path(folder, segment)
        try:
            self._fd = os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC, 0o600)
            sync_folder(folder)
        except OSError as error:
            raise storage_error(error, f"{path}: could not be made") from error

    def append(self, records: Sequence[tuple[TraceId, list[bytes]]]) -> list[Location]:
        """Append records and make them durable with one fdatasync; returns where they are.

        Raises `StorageFull` or `StorageError`; nothing is then appended (the tail is cut off again).
        """
        locations: list[Location] = []
        pieces: list[bytes] = []
        position = self.size
        for trace, parts in records:
            length, crc = 0, 0
            for part in parts:
                length += len(part)
                crc = zlib.crc32(part, crc)
            pieces.append(record_header(trace, length, crc))
            pieces.extend(parts)
            locations.append(Location(self.id, position + HEADER.size, length, crc))
            position += HEADER.size + length
        try:
            self._write(pieces)
            os.fdatasync(self._fd)
        except OSError as error:
            with contextlib.suppress(OSError):
                os.ftruncate(self._fd, self.size)
                os.lseek(self._fd, self.size, os.SEEK_SET)
            raise storage_error(error, f"segment {self.id}: could not be written") from error
        self.size = position
        return locations

    def _write(self, pieces: list[bytes]) -> None:
        for start in range(0, len(pieces), _IOV_MAX):
            part = pieces[start : start + _IOV_MAX]
            total = sum(map(len, part))
            done = os.writev(self._fd, part)
            if done < total:  # a short write: let the rest say why, or finish
                rest = memoryview(b"".join(part))[done:]
                while rest:
                    rest = rest[os.write(self._fd, rest) :]

    def close(self) -> None:
        """Close the file."""
        os.close(self._fd)


class SegmentReader:
    """Reads octets of segments; keeps some files open."""

    def __init__(self, folder: Path, *, keep: int = 64) -> None:
        self._folder = folder
        self._keep = keep
        self._files: OrderedDict[int, int] = OrderedDict()

    def pread(self, segment: int, offset: int, length: int) -> bytes:
        """Return octets of a segment. Raises `FileNotFoundError` when it is gone, `OSError` otherwise."""
        fd = self._files.get(segment)
        if fd is None:
            fd = os.open(segment_path(self._folder, segment), os.O_RDONLY | os.O_CLOEXEC)
            self._files[segment] = fd
            if len(self._files) > self._keep:
                _, oldest = self._files.popitem(last=False)
                os.close(oldest)
        else:
            self._files.move_to_end(segment)
        return os.pread(fd, length, offset)

    def forget(self, segment: int) -> None:
        """Close a segment's file, if it is open."""
        fd = self._files.pop(segment, None)
        if fd is not None:
            os.close(fd)

    def close(self) -> None:
        """Close all files."""
        for fd in self._files.values():
            os.close(fd)
        self._files.clear()
