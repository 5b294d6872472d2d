"""Open files: whether they still have their name, locks on them (flock), and their end.

The kernel gives a lock back when its process ends, however that happens.
"""

import contextlib
import fcntl
import os
from pathlib import Path


def make_file(path: Path) -> None:
    """Make an empty file that only its owner may read, unless there is one, whatever the umask. Raises `OSError`."""
    os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600))


def still_named(path: Path, fd: int) -> bool:
    """True when this is the name of an open file, which nobody has removed. Raises `OSError`."""
    try:
        return os.path.samestat(path.stat(), os.fstat(fd))
    except FileNotFoundError:
        return False


def try_lock(fd: int) -> bool:
    """Lock an open file for its holder alone; False when somebody else holds it. Raises `OSError`."""
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def close_quietly(fd: int) -> None:
    """Close a file of octets, whatever its file system says: what was flushed is durable, and nothing else counts."""
    with contextlib.suppress(OSError):
        os.close(fd)
