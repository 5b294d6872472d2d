"""The lock between a backup and the housekeeping: while a backup copies segments, housekeeping removes no segment."""

import contextlib
import fcntl
import os
from collections.abc import Iterator
from pathlib import Path

from waypost.disk.files import try_lock

_NAME = "backup.lock"


@contextlib.contextmanager
def removing(data: Path) -> Iterator[bool]:
    """Yield True when segments may be removed until the end of the block. Raises `OSError`."""
    fd = _open(data)
    try:
        yield try_lock(fd)
    finally:
        os.close(fd)


@contextlib.contextmanager
def keeping(data: Path) -> Iterator[None]:
    """Let no segment be removed until the end of the block. Raises `OSError`."""
    fd = _open(data)
    try:
        fcntl.flock(fd, fcntl.LOCK_SH)
        yield
    finally:
        os.close(fd)


def _open(data: Path) -> int:
    fd = os.open(data / _NAME, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    if os.geteuid() == 0:  # a command of root's makes files that the service must be able to open
        owner = data.stat()
        os.fchown(fd, owner.st_uid, owner.st_gid)
    return fd
