"""Files of a backup folder, opened without trust: what lies under their names may be a link, a pipe or a folder.

Nothing here follows a link or waits for the other end of a pipe, and a small file is written whole or not at all.
"""

import contextlib
import os
import stat
from collections.abc import Iterator
from pathlib import Path

from waypost.disk.files import exists, is_folder
from waypost.disk.folders import sync_folder
from waypost.storage.errors import StorageError

_LARGEST = 256 << 20  # octets of a manifest
_KINDS = {
    stat.S_IFLNK: "a symbolic link",
    stat.S_IFDIR: "a directory",
    stat.S_IFIFO: "a pipe",
    stat.S_IFSOCK: "a socket",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
}


class Missing(StorageError):
    """A file of a backup is not there."""


class Replaced(StorageError):
    """There is something else under the name of a file: a link, a pipe, a directory."""


def require_file(path: Path) -> int:
    """Return the size of a file in octets, without opening it. Raises `Missing`, `Replaced`, `OSError`."""
    try:
        found = path.lstat()
    except FileNotFoundError:
        raise Missing(f"{path} is missing") from None
    if not stat.S_ISREG(found.st_mode):
        kind = _KINDS.get(stat.S_IFMT(found.st_mode), "something else")
        raise Replaced(f"{path} is {kind}, and not a file: put the file back there, or remove it")
    return found.st_size


@contextlib.contextmanager
def reading(path: Path) -> Iterator[int]:
    """Open a file for reading; yield its descriptor. Raises `Missing`, `Replaced`, `OSError`."""
    require_file(path)
    fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        if not stat.S_ISREG(os.fstat(fd).st_mode):  # replaced since
            raise Replaced(f"{path} is not a file: put the file back there, or remove it")
        yield fd
    finally:
        os.close(fd)


def read_small(path: Path) -> bytes:
    """Return what a small file holds. Raises `Missing`, `Replaced`, `StorageError` for a large one, `OSError`."""
    with reading(path) as fd:
        size = os.fstat(fd).st_size
        if size > _LARGEST:
            raise StorageError(f"{path} is too large: {size} octets")
        pieces = []
        while data := os.read(fd, 1 << 20):
            pieces.append(data)
        return b"".join(pieces)


def require_folder(path: Path) -> None:
    """See that a path leads to a directory, or to nothing yet. Raises `StorageError` where it leads to neither,
    `OSError`."""
    if is_folder(path):
        return
    if path.is_symlink() and not exists(path):
        raise StorageError(f"{path} is a symbolic link that leads nowhere; name a directory")
    for above in (path, *path.parents):
        if above.is_symlink() or exists(above):
            if not is_folder(above):
                raise StorageError(f"{above} is a file; a directory is needed there")
            return


def lies_in(path: Path, folder: Path) -> bool:
    """True when a path is a folder, or leads into it, whatever links are on the way."""
    return Path(os.path.realpath(path)).is_relative_to(os.path.realpath(folder))


def remove(path: Path) -> None:
    """Remove a file, a link or a pipe; a directory of that name is not ours, and stays. Raises `OSError`."""
    if path.is_symlink() or not is_folder(path):
        path.unlink(missing_ok=True)


def write_durably(path: Path, octets: bytes) -> None:
    """Write a small file whole or not at all. Raises `OSError`."""
    fresh = path.with_name(f"{path.name}.new")
    fresh.unlink(missing_ok=True)
    fd = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    try:
        view = memoryview(octets)
        while view:
            view = view[os.write(fd, view) :]
        os.fsync(fd)
    finally:
        os.close(fd)
    fresh.rename(path)
    sync_folder(path.parent)
