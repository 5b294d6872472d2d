"""Folders whose names survive a power loss: a durable file is lost when the name that leads to it is not durable."""

import os
from pathlib import Path

from waypost.disk.files import is_folder


def sync_folder(folder: Path) -> None:
    """Make names in a folder durable. Raises `OSError`."""
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def make_folder(folder: Path) -> None:
    """Make a folder that only its owner may enter, and all missing folders above it; make their names durable.

    Raises `OSError`.
    """
    missing = [above for above in (folder, *folder.parents) if not is_folder(above)]
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    for made in missing:
        sync_folder(made.parent)
