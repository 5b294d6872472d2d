"""Numbers of segments: each is given once, by a row of the database that is there before the file has its name."""

from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path

import apsw

from waypost.disk.files import exists
from waypost.storage.sqlite.segments.segments import segment_number, segment_path

Turn = Callable[[], AbstractContextManager[None]]
"""Holds the lock that the writers of all processes take in turn."""

_LAST = "SELECT seq FROM sqlite_sequence WHERE name = 'segment'"
_SKIP = (
    "INSERT INTO sqlite_sequence (name, seq) SELECT 'segment', 0 "
    "WHERE NOT EXISTS (SELECT 1 FROM sqlite_sequence WHERE name = 'segment')",
    "UPDATE sqlite_sequence SET seq = max(seq, :largest) WHERE name = 'segment'",
)


class Numbering:
    """Gives numbers to the segments of one process, in its writer's thread."""

    def __init__(self, connection: apsw.Connection, folder: Path, worker: int, turn: Turn) -> None:
        self._connection = connection
        self._folder = folder
        self._worker = worker
        self._turn = turn

    def reserve(self, count: int, place: Callable[[list[int]], None]) -> None:
        """Take so many numbers, and call `place` with them to name the files.

        Housekeeping of another process can't take them for abandoned meanwhile: it works with the same lock.
        """
        with self._turn():
            last = int(self._connection.execute(_LAST).get or 0)
            if any(exists(segment_path(self._folder, last + more)) for more in range(1, count + 1)):
                # Files of another time, which get no row: what has one is ours to remove (`lost.py`).
                largest = max(filter(None, map(segment_number, self._folder.iterdir())))
                self._skip_to(largest)
            numbers = self._insert(count)
            place(numbers)

    def _skip_to(self, largest: int) -> None:
        """Let the next number be larger than this one."""
        with self._connection:
            for statement in _SKIP:
                self._connection.execute(statement, {"largest": largest}).fetchall()

    def _insert(self, count: int) -> list[int]:
        rows = self._connection.execute(
            "INSERT INTO segment (worker) SELECT ? FROM json_each(?) RETURNING id",
            (self._worker, "[" + ",".join("0" * count) + "]"),
        ).fetchall()
        return [number for (number,) in rows]

    def seal(self, segment: int, size: int) -> None:
        """Note that a segment of this size is appended to no more."""
        with self._turn():
            self._connection.execute(
                "UPDATE segment SET sealed = 1, size = max(size, ?) WHERE id = ?", (size, segment)
            ).fetchall()
