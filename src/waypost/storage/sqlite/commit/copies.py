"""Copies of octets whose segment has not been flushed yet, in the database (docs/decisions/0016).

A commit of few octets would flush the disk twice: its segment, then its rows. Instead their copy is committed with the
rows, by one flush, and the segment is flushed once for many commits; then the copies go. Only after a power loss are
they needed: what the segment lost is written into it again, at its place.
"""

import os
from collections.abc import Iterable
from itertools import groupby
from operator import itemgetter
from pathlib import Path

import apsw

from waypost.disk.folders import sync_folder
from waypost.storage.sqlite.rows import text
from waypost.storage.sqlite.segments.segments import Appended, segment_path, storage_error

_INSERT = "INSERT INTO unflushed (segment, offset, octets) VALUES (?, ?, ?)"
# An id alone may have come to be that of another process's copy: who seals a segment removes its copies.
_DELETE = """
DELETE FROM unflushed WHERE id IN (SELECT value->>1 FROM json_each(?1))
AND segment IN (SELECT value->>0 FROM json_each(?1))"""
_FORGET = "DELETE FROM unflushed WHERE segment = ?"
_OF_SEGMENTS = "SELECT segment, offset, octets FROM unflushed WHERE segment IN (SELECT value FROM json_each(?))"
_SEGMENTS = "SELECT DISTINCT segment FROM unflushed"
_KNOWN = "SELECT 1 FROM segment WHERE id = ?"


class Copies:
    """The copies of one process, in its writer's thread.

    Each transaction calls `stage`, and `committed` after its commit.
    """

    def __init__(self) -> None:
        self._new: list[Appended] = []  # appended, not in the database yet
        self._staged: list[tuple[int, int]] = []  # ids of rows in a transaction that may still be undone
        self._needed: list[tuple[int, int]] = []  # of rows whose octets are not flushed
        self._needless: list[tuple[int, int]] = []  # of rows whose octets are

    @property
    def needless(self) -> bool:
        """True when there are copies that the next transaction removes."""
        return bool(self._needless)

    def add(self, appended: Appended) -> None:
        """Octets were appended whose rows are about to be committed."""
        self._new.append(appended)

    def drop_new(self) -> None:
        """No commit took what was added: no row points at it."""
        self._new.clear()

    def flushed(self, segment: int) -> None:
        """A segment is durable up to its end."""
        self._needless += [copy for copy in self._needed if copy[0] == segment]
        self._needed = [copy for copy in self._needed if copy[0] != segment]

    def leave(self, segment: int) -> None:
        """A segment could not be flushed: its copies stay, for whoever seals it."""
        self._needed = [copy for copy in self._needed if copy[0] != segment]

    def stage(self, connection: apsw.Connection) -> None:
        """Add what is new and remove what is needless, in the transaction that is open."""
        self._staged.clear()
        if self._needless:
            connection.execute(_DELETE, (text(self._needless),))
        for appended in self._new:
            connection.execute(_INSERT, (appended.segment, appended.offset, b"".join(appended.pieces)))
            self._staged.append((appended.segment, connection.last_insert_rowid()))

    def committed(self) -> None:
        """The transaction of the last `stage` is durable."""
        self._needed += self._staged
        self._staged.clear()
        self._new.clear()
        self._needless.clear()


def restore(connection: apsw.Connection, folder: Path, segments: Iterable[int] | None = None) -> None:
    """Write copies back into their segments, durably, and remove them.

    For segments that nobody appends to (all, when None), in a transaction of the caller. They are written whether
    they were lost or not: after a failed flush, what can still be read need not be on the disk. Raises `StorageFull`,
    `StorageError`.
    """
    if segments is None:
        segments = [segment for (segment,) in connection.execute(_SEGMENTS).fetchall()]
    written = False
    rows = connection.execute(_OF_SEGMENTS + " ORDER BY segment, offset", (text(list(segments)),))
    for segment, copies in groupby(rows.fetchall(), key=itemgetter(0)):
        if connection.execute(_KNOWN, (segment,)).get is not None:  # otherwise nothing of it was needed any more
            _write(segment_path(folder, segment), [(offset, octets) for _, offset, octets in copies])
            written = True
        connection.execute(_FORGET, (segment,)).fetchall()
    if written:
        sync_folder(folder)


def _write(path: Path, copies: list[tuple[int, bytes]]) -> None:
    try:
        fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            for offset, octets in copies:
                rest = memoryview(octets)
                while rest:
                    done = os.pwrite(fd, rest, offset)
                    offset, rest = offset + done, rest[done:]
            os.fdatasync(fd)
        finally:
            os.close(fd)
    except OSError as error:
        raise storage_error(error, f"{path}: octets could not be written back") from error
