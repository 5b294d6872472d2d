"""Locks of mailboxes for exclusive sessions (RFC 1939 section 4): flock on a file of its own under `data/locks/`.

The kernel gives the lock back when its process ends, however that happens, and two sessions of one process exclude
each other like two processes do, since each opens the file for itself.
"""

import contextlib
import fcntl
import os
from pathlib import Path

from waypost.storage.errors import Conflict
from waypost.storage.sqlite.segments import storage_error


class FileLock:
    """A lock that is held."""

    __slots__ = ("_fd", "_path")

    def __init__(self, path: Path, fd: int) -> None:
        self._path = path
        self._fd = fd

    def release(self) -> None:
        """Give it back; may be called twice."""
        if self._fd >= 0:
            fd, self._fd = self._fd, -1
            # While it is still ours: who waits for the file finds that it lost its name. A leftover is harmless.
            with contextlib.suppress(OSError):
                self._path.unlink()
            os.close(fd)


def lock_mailbox(folder: Path, mailbox: int) -> FileLock:
    """Lock a mailbox. Raises `Conflict` when it is locked, `StorageError` when the disk refuses."""
    path = folder / f"mailbox-{mailbox}"
    try:
        while True:
            fd = os.open(path, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600)
            if not _flock(fd):
                os.close(fd)
                raise Conflict(f"mailbox {mailbox} is in use by another session")
            if _still_named(path, fd):
                return FileLock(path, fd)
            os.close(fd)  # its last owner removed it between our two steps
    except OSError as error:
        raise storage_error(error, f"{path}: could not be locked") from error


def _flock(fd: int) -> bool:
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:
        os.close(fd)
        raise
    return True


def _still_named(path: Path, fd: int) -> bool:
    try:
        return os.path.samestat(path.stat(), os.fstat(fd))
    except FileNotFoundError:
        return False
    except OSError:
        os.close(fd)
        raise
