"""Open files: whether they still have their name, locks on them (flock), and their end.

The kernel releases a lock when its process ends, however that happens.
"""

import contextlib
import fcntl
import os
from pathlib import Path


def make_file(path: Path) -> None:
    """Make an empty file that only its owner may read, under any umask; keep an existing one. Raises `OSError`."""
    os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600))


def still_named(path: Path, fd: int) -> bool:
    """True when `path` still names the open file `fd`: nobody removed or replaced it. Raises `OSError`."""
    try:
        return os.path.samestat(path.stat(), os.fstat(fd))
    except FileNotFoundError:
        return False


def try_lock(fd: int) -> bool:
    """Take an exclusive lock on an open file; False when another process holds one. Raises `OSError`."""
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def close_quietly(fd: int) -> None:
    """Close a file and ignore errors of its file system: what was flushed is durable, and the rest does not matter."""
    with contextlib.suppress(OSError):
        os.close(fd)
