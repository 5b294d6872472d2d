"""Segments: append-only files of message bytes under `data/segments/`.

A record is a fixed header (magic, trace id, length, CRC-32) and then the octets, so that a segment can be checked and
read without the database. One process appends to one open segment; a large message has a segment of its own, written
while it arrives. Who writes a segment holds a lock (flock) on it, so that everybody can tell whether its writer lives.
Nothing here knows rows: the writer joins both in one group commit.
"""

import errno
import fcntl
import os
import struct
import zlib
from collections.abc import Sequence
from pathlib import Path

import msgspec

from waypost.disk.files import close_quietly, try_lock
from waypost.disk.folders import sync_folder
from waypost.message.trace import TraceId
from waypost.storage.errors import StorageError, StorageFull

HEADER = struct.Struct("<4sQQI")
MAGIC = b"WPS1"
MAGIC_OF_HEAD = b"WPH1"
"""Of a record with the head of the message in front of it, whose octets went to disk before the head was known."""
_FULL = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EFBIG})
_IOV_MAX = 1000


class Location(msgspec.Struct, frozen=True):
    """Where a message's octets are: behind the record header, at `offset` of a segment."""

    segment: int
    offset: int
    length: int
    crc: int


class Appended(msgspec.Struct, frozen=True):
    """What was appended to a segment at once: where, its octets in pieces, and where each record's octets are."""

    segment: int
    offset: int
    length: int
    pieces: list[bytes]
    locations: list[Location]


def storage_error(error: OSError, what: str) -> StorageError:
    """Return the storage error for an operating system's error: full or read-only disks apart."""
    words = f"{what}: {os.strerror(error.errno or 0)}"
    return StorageFull(words) if error.errno in _FULL else StorageError(words)


def segment_path(folder: Path, segment: int) -> Path:
    """Return the file of a segment."""
    return folder / f"{segment:012}.seg"


def segment_number(path: Path) -> int | None:
    """Return the number of a segment's file; None when it is no segment."""
    return int(path.stem) if path.suffix == ".seg" and path.stem.isdigit() else None


def abandoned(path: Path) -> bool:
    """True when no living process writes this file, or there is no such file. Raises `OSError`."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return True
    try:
        return try_lock(fd)
    finally:
        os.close(fd)


def remove_abandoned(path: Path) -> bool:
    """Remove a file that no living process writes; False when one does, or there is no such file. Raises `OSError`.

    The lock is held meanwhile: who has just made the file waits for it, and sees then that its name is gone.
    """
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return False
    try:
        locked = try_lock(fd)
        if locked:
            path.unlink(missing_ok=True)
        return locked
    finally:
        os.close(fd)


def record_header(trace: TraceId, length: int, crc: int) -> bytes:
    """Return the header of a record."""
    return HEADER.pack(MAGIC, trace, length, crc)


def head_record(trace: TraceId, head: bytes) -> bytes:
    """Return the record of a head."""
    return HEADER.pack(MAGIC_OF_HEAD, trace, len(head), zlib.crc32(head)) + head


class OpenSegment:
    """The segment that one process appends to. Not safe for several threads.

    `trusted` turns false when the kernel may have dropped octets that were written: after a failed fdatasync a second
    one can succeed although nothing reached the disk, so such a segment is never appended to again.
    """

    def __init__(self, folder: Path, segment: int) -> None:
        """Create the file; `make_name_durable` comes next. Raises `StorageFull`, `StorageError`."""
        self.id = segment
        self.size = 0
        self.flushed = 0
        self.trusted = True
        self._path = segment_path(folder, segment)
        self._fd = -1
        try:
            self._fd = os.open(self._path, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC, 0o600)
            fcntl.flock(self._fd, fcntl.LOCK_EX)  # who looks whether it is abandoned holds the lock for a moment
        except OSError as error:
            self.close()
            raise storage_error(error, f"{self._path}: could not be made") from error

    def make_name_durable(self) -> None:
        """Let no power loss take the file away. Raises `StorageFull`, `StorageError`."""
        try:
            sync_folder(self._path.parent)
        except OSError as error:
            raise storage_error(error, f"{self._path}: its name could not be made durable") from error

    @property
    def unflushed(self) -> int:
        """How many octets were appended since it was flushed."""
        return self.size - self.flushed

    def append(self, records: Sequence[tuple[TraceId, list[bytes]]]) -> Appended:  # hot: bench/accept
        """Append records, which are durable only after `flush`; returns where they are.

        Raises `StorageFull` or `StorageError`; nothing is then appended.
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
        except BaseException as error:  # also for want of memory: the file may stand elsewhere than one would think
            self._cut_back()
            if isinstance(error, OSError):
                raise storage_error(error, f"{self._path}: could not be written") from error
            raise
        start, self.size = self.size, position
        return Appended(self.id, start, position - start, pieces, locations)

    def flush(self) -> None:
        """Make everything that was appended durable. Raises `StorageFull` or `StorageError`."""
        try:
            os.fdatasync(self._fd)
        except OSError as error:
            self.trusted = False
            raise storage_error(error, f"{self._path}: could not be made durable") from error
        self.flushed = self.size

    def _write(self, pieces: list[bytes]) -> None:
        for start in range(0, len(pieces), _IOV_MAX):
            part = pieces[start : start + _IOV_MAX]
            total = sum(map(len, part))
            done = os.writev(self._fd, part)
            if done < total:  # a short write: let the rest say why, or finish
                rest = memoryview(b"".join(part))[done:]
                while rest:
                    rest = rest[os.write(self._fd, rest) :]

    def _cut_back(self) -> None:
        try:
            os.ftruncate(self._fd, self.size)
            os.lseek(self._fd, self.size, os.SEEK_SET)
        except OSError:
            self.trusted = False

    def close(self) -> None:
        """Close the file; may be called twice."""
        if self._fd >= 0:
            fd, self._fd = self._fd, -1
            close_quietly(fd)
