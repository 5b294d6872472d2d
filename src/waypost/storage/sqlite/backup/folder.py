"""The folder of backups: databases by the time at which they were copied, and the segments that they share.

    waypost-backup.json                  that it is one, and of which storage
    databases/2026-11-30T19-00-00Z.db    the database of that time
    databases/2026-11-30T19-00-00Z.json  what was found when it was verified; written last, when the backup is whole
    segments/000000000001.seg            octets; a segment only grows, so a later backup adds to it

A segment here may be shorter than the storage's: it has what the databases need.
"""

import contextlib
import fcntl
import os
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import msgspec

from waypost.disk.files import try_lock
from waypost.disk.folders import make_folder, sync_folder
from waypost.message.trace import Micros
from waypost.storage.errors import StorageError
from waypost.storage.sqlite.life import Life

_ABOUT = "waypost-backup.json"
_FORMAT = 1


class About(msgspec.Struct, frozen=True):
    """What `waypost-backup.json` says."""

    format: int = _FORMAT
    life: Life | None = None


class Manifest(msgspec.Struct, frozen=True):
    """What was found when a backup was verified. `damaged`: trace ids of messages whose octets are not whole.

    `serial` is larger than that of every backup before: times are those of a clock that may have been set back.
    """

    serial: int
    time: Micros
    version: str
    schema: int
    messages: int
    octets: int
    entries: int
    accounts: int
    life: Life | None = None
    damaged: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Backup:
    """One backup in a folder."""

    name: str
    database: Path
    segments: Path
    manifest: Manifest


class BackupFolder:
    """The folder of backups of one storage."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.segments = path / "segments"
        self.databases = path / "databases"

    @property
    def is_one(self) -> bool:
        """True when the folder says that it holds backups, or has some."""
        return (self.path / _ABOUT).is_file() or any(self.databases.glob("*.json"))

    def make(self, life: Life | None) -> None:
        """Make the folder for the storage of this life, or see that it is its own. Raises `StorageError`, `OSError`."""
        make_folder(self.path)
        if self.is_one:
            self._compare(self._about().life, life)
        elif any(self.path.iterdir()):
            raise StorageError(f"{self.path} holds other files, and no backups: name an empty directory, or a new one")
        write_durably(self.path / _ABOUT, msgspec.json.encode(About(life=life)))
        for folder in (self.segments, self.databases):
            make_folder(folder)

    def _compare(self, there: Life | None, life: Life | None) -> None:
        if there is None or life is None or there.id == life.id or there.id in life.former or life.id in there.former:
            return
        raise StorageError(f"{self.path} holds the backups of another storage: name another directory")

    def _about(self) -> About:
        """Return what the folder says of itself; a copy that was broken off may lack it, and the manifests know it too.

        Raises `StorageError`, `OSError`.
        """
        try:
            about = msgspec.json.decode((self.path / _ABOUT).read_bytes(), type=About)
        except (FileNotFoundError, msgspec.MsgspecError) as error:
            manifests = self._manifests(unreadable=[])
            if not manifests:
                raise StorageError(
                    f"{self.path / _ABOUT} can't be read, and there is no whole backup beside it: {error}"
                ) from error
            newest = max((manifest for _, manifest in manifests), key=lambda manifest: manifest.serial)
            return About(life=newest.life)
        if about.format != _FORMAT:
            raise StorageError(f"{self.path}: backups of form {about.format}; this program knows {_FORMAT}")
        return about

    @contextlib.contextmanager
    def locked(self) -> Iterator[None]:
        """Hold the folder against another backup at the same time. Raises `StorageError`, `OSError`."""
        fd = os.open(self.path / "lock", os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600)
        try:
            if not try_lock(fd):
                raise StorageError(f"{self.path}: another backup is being taken or verified there")
            yield
        finally:
            os.close(fd)

    @contextlib.contextmanager
    def reading(self) -> Iterator[None]:
        """Keep the folder as it is while it is read; one that can only be read needs no lock. Raises `StorageError`."""
        try:
            fd = os.open(self.path / "lock", os.O_RDONLY | os.O_CLOEXEC)
        except OSError:
            yield
            return
        try:
            fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
            yield
        except BlockingIOError:
            raise StorageError(f"{self.path}: a backup is being taken there") from None
        finally:
            os.close(fd)

    def backups(self, *, unreadable: list[Path] | None = None) -> list[Backup]:
        """Return the backups that are whole, the oldest first; raises `StorageError`, `OSError`.

        Manifests that can't be read are added to `unreadable`; without it, the first of them is an error.
        """
        if not self.is_one:
            raise StorageError(f"{self.path} holds no backups (there is no {_ABOUT})")
        self._about()
        found = [
            Backup(path.stem, path.with_suffix(".db"), self.segments, manifest)
            for path, manifest in self._manifests(unreadable)
        ]
        return sorted(found, key=lambda backup: backup.manifest.serial)

    def _manifests(self, unreadable: list[Path] | None) -> list[tuple[Path, Manifest]]:
        found = []
        for path in self.databases.glob("*.json"):
            try:
                found.append((path, msgspec.json.decode(path.read_bytes(), type=Manifest)))
            except msgspec.MsgspecError as error:
                if unreadable is None:
                    raise StorageError(f"{path} can't be read: {error}") from error
                unreadable.append(path)
        return found

    def choose(self, name: str | None) -> Backup:
        """Return the backup of this name, or the newest. Raises `StorageError`, `OSError`."""
        backups = self.backups(unreadable=[])
        if not backups:
            raise StorageError(f"{self.path} holds no whole backup")
        if name is None:
            return backups[-1]
        for backup in backups:
            if backup.name == name:
                return backup
        raise StorageError(f"{self.path} has no backup {name}; it has {', '.join(each.name for each in backups)}")

    def new_name(self, now: Micros) -> str:
        """Return a name for a backup that is begun now."""
        name = datetime.fromtimestamp(now // 1_000_000, UTC).strftime("%Y-%m-%dT%H-%M-%SZ")
        taken = {path.stem for path in self.databases.iterdir()}
        names = (name if not number else f"{name}-{number}" for number in range(len(taken) + 1))
        return next(each for each in names if each not in taken)

    def finish(self, name: str, manifest: Manifest) -> Backup:
        """Say that a backup is whole, durably. Raises `OSError`."""
        write_durably(self.databases / f"{name}.json", msgspec.json.encode(manifest))
        return Backup(name, self.databases / f"{name}.db", self.segments, manifest)

    def forget(self, backup: Backup) -> None:
        """Remove a backup; its segments go when no other needs them. Raises `OSError`."""
        (self.databases / f"{backup.name}.json").unlink()
        sync_folder(self.databases)
        backup.database.unlink(missing_ok=True)

    def remove_unfinished(self) -> None:
        """Remove databases of backups that were broken off. Raises `OSError`."""
        for path in self.databases.iterdir():
            if not path.with_suffix(".json").exists():
                path.unlink()


def write_durably(path: Path, octets: bytes) -> None:
    """Write a small file whole or not at all. Raises `OSError`."""
    fresh = path.with_name(f"{path.name}.new")
    fd = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    try:
        os.write(fd, octets)
        os.fsync(fd)
    finally:
        os.close(fd)
    fresh.rename(path)
    sync_folder(path.parent)
