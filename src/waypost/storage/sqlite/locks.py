"""Locks under `data/locks/`, each a flock on a file of its own: of mailboxes for exclusive sessions (RFC 1939 section
4), and of the numbers of living processes.

The kernel gives a lock back when its process ends, however that happens, and two sessions of one process exclude
each other like two processes do, since each opens the file for itself.
"""

import contextlib
import fcntl
import os
from pathlib import Path

from waypost.disk.files import still_named, try_lock
from waypost.storage.errors import Conflict
from waypost.storage.sqlite.segments.segments import storage_error


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
            # While we hold the lock: a process that waits for the file sees that its name is gone. A leftover is
            # harmless.
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
            if _is_named(path, fd):
                return FileLock(path, fd)
            os.close(fd)  # its last owner removed it between our two steps
    except OSError as error:
        raise storage_error(error, f"{path}: could not be locked") from error


def _flock(fd: int) -> bool:
    try:
        return try_lock(fd)
    except OSError:
        os.close(fd)
        raise


def _is_named(path: Path, fd: int) -> bool:
    try:
        return still_named(path, fd)
    except OSError:
        os.close(fd)
        raise


class Numbers:
    """Numbers of processes under `data/locks/`: each holds its own as long as it lives, so that others can tell."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def hold(self, number: int) -> int:
        """Hold a number, which several processes may; returns the descriptor to close at the end. Raises `OSError`."""
        fd = os.open(self._path(number), os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(fd, fcntl.LOCK_SH)
        except BaseException:
            os.close(fd)
            raise
        return fd

    def lives(self, number: int) -> bool:
        """True when a process holds this number. Raises `StorageError`."""
        try:
            fd = os.open(self._path(number), os.O_RDWR | os.O_CLOEXEC)
        except FileNotFoundError:
            return False
        except OSError as error:  # no descriptor is left, say
            raise storage_error(error, f"{self._path(number)}: could not be looked at") from error
        try:
            return not try_lock(fd)
        except OSError as error:
            raise storage_error(error, f"{self._path(number)}: could not be looked at") from error
        finally:
            os.close(fd)

    def _path(self, number: int) -> Path:
        return self._folder / f"process-{number}"
