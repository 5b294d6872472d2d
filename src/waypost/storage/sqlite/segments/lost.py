"""`lost/`: the folder for segments that this storage does not know. They may hold mail, so Waypost never removes one.

A segment's row is durable before its file has a name, and is removed after the file: so a file without a row is not
ours to remove.
"""

import errno
import itertools
import os
import shutil
from datetime import UTC, datetime
from pathlib import Path

from waypost.disk.files import exists, is_folder
from waypost.disk.folders import make_folder, sync_folder
from waypost.message.trace import Micros
from waypost.storage.sqlite.segments.segments import segment_number

LOST = "lost"
_NO_LINKS = frozenset({errno.EPERM, errno.EOPNOTSUPP, errno.EMLINK, errno.ENOSYS})


def lost_folder(data: Path, what: str, now: Micros) -> Path:
    """Return a folder under `lost/` that is new, named by the time. Raises `OSError`."""
    time = datetime.fromtimestamp(now // 1_000_000, UTC).strftime("%Y-%m-%dT%H-%M-%SZ")
    for number in itertools.count(1):
        folder = data / LOST / (f"{time}-{what}" if number == 1 else f"{time}-{what}-{number}")
        if not exists(folder):
            make_folder(folder)
            return folder
    raise AssertionError("count never ends")


def put_aside(path: Path, folder: Path) -> Path:
    """Move a file into a folder; one that has its name already keeps it. The caller syncs both. Raises `OSError`."""
    target = folder / path.name
    for number in itertools.count(1):
        if not exists(target):
            break
        target = folder / f"{path.name}.{number}"
    return path.rename(target)


def keep_all(segments: Path, folder: Path) -> int:
    """Give every segment a second name in `folder`, so that its octets outlast the housekeeping; returns how many.

    A file system without hard links gets copies. Raises `OSError`.
    """
    kept = 0
    for path in segments.iterdir():
        if segment_number(path) is None:
            continue
        try:
            os.link(path, folder / path.name, follow_symlinks=False)
        except OSError as error:
            if error.errno not in _NO_LINKS:
                raise
            shutil.copyfile(path, folder / path.name)
        kept += 1
    sync_folder(folder)
    return kept


def lost_segments(data: Path) -> int:
    """Return how many segments lie under `lost/`."""
    return sum(1 for path in (data / LOST).rglob("*.seg*")) if is_folder(data / LOST) else 0
