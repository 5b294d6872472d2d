"""Files: whether they exist, whether open ones still have their name, locks on them (flock), and their end.

The kernel releases a lock when its process ends, however that happens.
"""

import contextlib
import errno
import fcntl
import os
import stat
from pathlib import Path


def exists(path: Path) -> bool:
    """True when something has this name; links are followed.

    Raises `OSError` when that can't be told, for example without permission. `Path.exists` of Python 3.14 returns False
    then, and a file that is not ours would pass as missing.
    """
    return _mode(path) is not None


def is_folder(path: Path) -> bool:
    """True when a folder has this name; links are followed. Raises `OSError` as `exists` does."""
    mode = _mode(path)
    return mode is not None and stat.S_ISDIR(mode)


def is_file(path: Path) -> bool:
    """True when a regular file has this name; links are followed. Raises `OSError` as `exists` does."""
    mode = _mode(path)
    return mode is not None and stat.S_ISREG(mode)


def _mode(path: Path) -> int | None:
    try:
        return path.stat().st_mode
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        if error.errno == errno.ELOOP:  # a link that leads to nothing but itself
            return None
        raise


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
