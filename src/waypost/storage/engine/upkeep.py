"""What the command line does to stored data beside or without the service: checks, repairs, backups, salvage.

Errors are those of `storage/errors.py`, and `OSError` for files of the operator's own.
"""

import contextlib
from collections.abc import Iterator
from pathlib import Path

import apsw

from waypost.message.trace import Micros
from waypost.storage.errors import StorageError
from waypost.storage.sqlite.backup import verifying
from waypost.storage.sqlite.backup.folder import Backup, BackupFolder
from waypost.storage.sqlite.backup.octets import DamagedMessage, Progress
from waypost.storage.sqlite.backup.restoring import Restored, Source, find_source, is_used, restore
from waypost.storage.sqlite.backup.taking import Show, take_backup
from waypost.storage.sqlite.backup.verifying import Fault, Report, Verified
from waypost.storage.sqlite.opening import accepting
from waypost.storage.sqlite.salvage.recovering import Recovered, recover
from waypost.storage.sqlite.segments.presence import missing_segments, sizes_of
from waypost.storage.sqlite.upkeep import check
from waypost.storage.sqlite.upkeep.check import Problem
from waypost.storage.sqlite.upkeep.check import Progress as Reach

__all__ = [
    "Backup",
    "BackupFolder",
    "DamagedMessage",
    "Fault",
    "Problem",
    "Progress",
    "Recovered",
    "Report",
    "Restored",
    "Source",
    "Verified",
    "accept",
    "find_source",
    "is_used",
    "missing_segments",
    "problems_of",
    "recover",
    "restore",
    "sizes_of",
    "take_backup",
    "verify",
]


def problems_of(data: Path, reach: Reach, *, repair: bool, now: Micros) -> tuple[list[Problem], int, int]:
    """Look through everything that is stored, after mending what can be mended where `repair` says so.

    Returns the problems, and how many messages and octets were read. `reach` hears how far it has come. Raises
    `StorageError`.
    """
    with _told(f"the database can't be read: {{}}; {check.RESTORE}"):
        if repair:
            check.repair(data, now)
        checker = check.StorageChecker(data, repaired=repair)
        try:
            return list(checker.problems(reach)), checker.messages, checker.octets
        finally:
            checker.close()


def verify(folder: BackupFolder, show: Show) -> Report:
    """Read every backup of a folder. Raises `StorageError`, `OSError`."""
    with _told("{}"):
        return verifying.verify(folder, show)


def accept(data: Path, now: Micros) -> bool:
    """Make stored data usable that is refused otherwise; False when it was not refused. Raises `StorageError`,
    `OSError`."""
    with _told("{}"):
        return accepting.accept(data, now)


@contextlib.contextmanager
def _told(words: str) -> Iterator[None]:
    """Raise what the engine's library says as an error of the storage."""
    try:
        yield
    except apsw.Error as error:
        raise StorageError(words.format(error)) from error
