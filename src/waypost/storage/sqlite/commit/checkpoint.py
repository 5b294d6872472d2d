"""The checkpointer: moves the write-ahead log into the database in a thread of its own, and starts the log anew.

Moving takes tens of milliseconds, so no session waits for it. The log can start anew only in a moment in which all of
it has been moved and nobody reads from it; one process tries at a time, never for long, and again later. The file keeps
its size, so that flushing a commit means to flush its pages alone, and what is done can be noted on a full disk too.
"""

import contextlib
import fcntl
import logging
import os
import threading
from pathlib import Path

import apsw

from waypost import processors
from waypost.storage.sqlite.connection import connect
from waypost.storage.sqlite.opening.migrate import DATABASE

log = logging.getLogger(__name__)

_BUSY_MILLISECONDS = 10  # readers are short; writers wait for us meanwhile
_PASSES = 10  # while others write, each leaves less to move than the one before
_LITTLE = 16  # pages that are moved while the writers wait
_KEPT = 2  # times the limit: a log that a long reader has made larger is cut back, any other keeps its room
_PAUSE = 1.0  # seconds between attempts when one didn't get to the end


class Checkpointer:
    """One thread of a process; `look` after each commit."""

    def __init__(self, data: Path, limit: int) -> None:
        """`limit` is the size of the log, in octets, past which it is moved."""
        self._data = data
        self._limit = limit
        self._wal = data / f"{DATABASE}-wal"
        self._wake = threading.Event()
        self._stop = threading.Event()
        with contextlib.ExitStack() as stack:
            # Where the file system can't make room, the C library writes zeros where it read zeros a moment before.
            fcntl.flock(_open(stack, data / "writer.lock"), fcntl.LOCK_EX)
            self._make_room()
        self._thread = threading.Thread(target=self._run, name="waypost-checkpoint", daemon=True)
        self._thread.start()

    def _make_room(self) -> None:
        """Let an empty log have its whole size at once: each commit is flushed sooner when the file doesn't grow.

        Octets after the last commit are not part of the log; SQLite ignores them.
        """
        with contextlib.suppress(OSError):  # no room, or a file system that can't: it will grow
            fd = os.open(self._wal, os.O_RDWR | os.O_CLOEXEC)
            try:
                os.posix_fallocate(fd, 0, self._limit)
            finally:
                os.close(fd)

    def look(self, size: int) -> None:
        """Wake the thread when the log, which has `size` octets, has grown past its limit."""
        if size > self._limit:
            self._wake.set()

    def close(self) -> None:
        """Stop the thread."""
        self._stop.set()
        self._wake.set()
        self._thread.join()

    def _run(self) -> None:
        processors.use_any()
        while not self._stop.is_set():
            self._wake.wait()
            self._wake.clear()
            try:
                whole = self._stop.is_set() or self._checkpoint()
            except (apsw.Error, OSError, MemoryError) as error:
                log.warning("checkpoint failed", extra={"fields": {"error": str(error)}})
                whole = False
            if not whole:
                self._stop.wait(_PAUSE)

    def _checkpoint(self) -> bool:
        """Move the log, if no other process does; True when it starts anew."""
        with contextlib.ExitStack() as stack:
            lock = _open(stack, self._data / "checkpoint.lock")
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                return False
            writer = _open(stack, self._data / "writer.lock")
            connection = connect(self._data / DATABASE, busy_milliseconds=_BUSY_MILLISECONDS)
            stack.callback(connection.close)
            for _ in range(_PASSES):
                _, pages, moved = connection.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchall()[0]
                if pages - moved < _LITTLE:
                    break
            # What came meanwhile is moved while the writers wait, which is short now.
            fcntl.flock(writer, fcntl.LOCK_EX)
            how = "TRUNCATE" if self._wal.stat().st_size > _KEPT * self._limit else "RESTART"
            busy, _, _ = connection.execute(f"PRAGMA wal_checkpoint({how})").fetchall()[0]
            if how == "TRUNCATE" and not busy:
                self._make_room()
            fcntl.flock(writer, fcntl.LOCK_UN)
            return not busy


def _open(stack: contextlib.ExitStack, path: Path) -> int:
    fd = os.open(path, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600)
    stack.callback(os.close, fd)
    return fd
