"""Folders whose names outlast a power loss: what is in a file is worth nothing when the way to it is lost."""

import os
from pathlib import Path


def sync_folder(folder: Path) -> None:
    """Make names in a folder durable. Raises `OSError`."""
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def make_folder(folder: Path) -> None:
    """Make a folder that only its owner may enter, and those above it that are missing; their names are durable then.

    Raises `OSError`.
    """
    missing = [above for above in (folder, *folder.parents) if not above.is_dir()]
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    for made in missing:
        sync_folder(made.parent)
