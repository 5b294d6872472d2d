"""Verifying backups: the database, and every octet that it needs. Nothing is changed."""

from dataclasses import dataclass

from waypost.counting import counted
from waypost.storage.errors import StorageError
from waypost.storage.sqlite.backup.database import count_of, open_copy, require_whole
from waypost.storage.sqlite.backup.folder import Backup, BackupFolder
from waypost.storage.sqlite.backup.octets import DamagedMessage, damaged_messages
from waypost.storage.sqlite.backup.taking import Show


@dataclass(frozen=True, slots=True)
class Verified:
    """What was found of one backup. `problem`: why its database can't be used, in words."""

    backup: Backup
    damaged: tuple[DamagedMessage, ...] = ()
    problem: str | None = None

    @property
    def whole(self) -> bool:
        """True when everything that was backed up is there."""
        return self.problem is None and not self.damaged


def verify(folder: BackupFolder, show: Show) -> list[Verified]:
    """Verify all backups of a folder. Raises `StorageError` when it has none, `OSError`, `apsw.Error`."""
    with folder.reading():
        backups = folder.backups()
        if not backups:
            raise StorageError(f"{folder.path} holds no whole backup")
        return [_verify(backup, show) for backup in backups]


def _verify(backup: Backup, show: Show) -> Verified:
    try:
        connection = open_copy(backup.database)
    except StorageError as error:
        return Verified(backup, problem=str(error))
    try:
        require_whole(connection, backup.database)
        found = count_of(connection, "message")
        if found != backup.manifest.messages:
            raise StorageError(
                f"{backup.database} has {counted(found, 'message')}, and should have {backup.manifest.messages}"
            )
        with show(f"Verifying {backup.name}") as progress:
            return Verified(backup, tuple(damaged_messages(connection, backup.segments, progress)))
    except StorageError as error:
        return Verified(backup, problem=str(error))
    finally:
        connection.close()
