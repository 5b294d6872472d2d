"""The folder of backups: databases by the time at which they were copied, and the segments that they share.

    waypost-backup.json                  that it is one, of which storage, and which backups it has
    databases/2026-11-30T19-00-00Z.db    the database of that time
    databases/2026-11-30T19-00-00Z.json  what was found when it was verified, and digests of everything (`digests.py`);
                                         written last, when the backup is whole
    segments/000000000001.seg            octets; a segment only grows, so a later backup adds to it

A segment here may be shorter than the storage's: it has what the databases need.
"""

import contextlib
import fcntl
import os
import shlex
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import msgspec

from waypost.disk.files import exists, is_file, is_folder, try_lock
from waypost.disk.folders import make_folder, sync_folder
from waypost.message.trace import Micros
from waypost.storage.errors import StorageError
from waypost.storage.sqlite.backup.digests import FileDigest, Pieces, read_sealed, sealed
from waypost.storage.sqlite.backup.files import remove, require_file, require_folder, write_durably
from waypost.storage.sqlite.opening.life import Life
from waypost.storage.sqlite.opening.migrate import DATABASE

_FORMAT = 1
_OWN = ("lock", "waypost-backup.json.new", "segments", "databases", "lost+found")  # may lie in a new folder
_LEFT = (".db", ".db-journal", ".json.new")


class AboutBefore(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What `waypost-backup.json` said before there were digests."""

    format: int = _FORMAT
    life: Life | None = None


class BackupManifest(AboutBefore, frozen=True, forbid_unknown_fields=False):
    """What `waypost-backup.json` says. `backups`: names of all that are whole; None where that is not known."""

    backups: tuple[str, ...] | None = None


class ManifestBefore(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What was found when a backup was verified, before there were digests. `damaged`: trace ids of messages whose
    octets are not whole.

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


class Digests(msgspec.Struct, frozen=True):
    """Digests of a backup: of its database, and by segment of the pieces that it needs."""

    database: FileDigest
    segments: dict[int, Pieces]


class Manifest(ManifestBefore, frozen=True, forbid_unknown_fields=False):
    """A manifest. `digests`: None for one that was written before there were digests."""

    digests: Digests | None = None


class _Sealed(Manifest, frozen=True, forbid_unknown_fields=False, kw_only=True):
    """A manifest that has a digest of itself, and so those of everything else."""

    digests: Digests


@dataclass(frozen=True, slots=True)
class Unreadable:
    """A manifest that can't be read, and why, in words that name it."""

    path: Path
    why: str


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
        self.label = path / "waypost-backup.json"

    @property
    def is_one(self) -> bool:
        """True when the folder says that it holds backups, or has some."""
        return is_file(self.label) or any(self.databases.glob("*.json"))

    def make(self, life: Life | None) -> None:
        """Make the folder for the storage of this life, or see that it is its own. Raises `StorageError`, `OSError`."""
        require_folder(self.path)
        make_folder(self.path)
        if self.is_one:
            self._compare(self.about().life, life)
        elif any(path.name not in _OWN or _holds_files(path) for path in self.path.iterdir()):
            raise StorageError(f"{self.path} holds other files, and no backups: name an empty directory, or a new one")
        for folder in (self.segments, self.databases):
            make_folder(folder)

    def _compare(self, there: Life | None, life: Life | None) -> None:
        if there is None or life is None or there.id == life.id or there.id in life.former or life.id in there.former:
            return
        raise StorageError(f"{self.path} holds the backups of another storage: name another directory")

    def about(self) -> BackupManifest:
        """Return what the folder says of itself; a copy that was broken off may lack it, and the manifests know it too.

        Raises `StorageError`, `OSError`.
        """
        try:
            about = self.read_label()
        except StorageError as error:
            manifests = self._manifests(unreadable=[])
            if not manifests:
                raise StorageError(
                    f"{self.label} can't be read, and there is no whole backup beside it: {error}"
                ) from error
            newest = max((manifest for _, manifest in manifests), key=lambda manifest: manifest.serial)
            return BackupManifest(life=newest.life)
        if about.format != _FORMAT:
            raise StorageError(f"{self.path}: backups of form {about.format}; this program knows {_FORMAT}")
        return about

    def read_label(self) -> BackupManifest:
        """Return what `waypost-backup.json` says. Raises `StorageError`, `OSError`."""
        found = read_sealed(self.label, BackupManifest, AboutBefore)
        return found if isinstance(found, BackupManifest) else BackupManifest(format=found.format, life=found.life)

    def write_label(self, life: Life | None, backups: Iterable[Backup]) -> None:
        """Say durably that the folder has the backups of this storage, and which. Raises `OSError`."""
        write_durably(self.label, sealed(BackupManifest(life=life, backups=tuple(each.name for each in backups))))

    @contextlib.contextmanager
    def locked(self) -> Iterator[None]:
        """Hold the folder against another backup at the same time. Raises `StorageError`, `OSError`."""
        path = self.path / "lock"
        if path.is_symlink() or exists(path):
            require_file(path)
        fd = os.open(path, os.O_CREAT | os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
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
            fd = os.open(self.path / "lock", os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
        except OSError:
            yield
            return
        try:
            try:
                fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
            except BlockingIOError:
                raise StorageError(f"{self.path}: a backup is being taken there") from None
            yield
        finally:
            os.close(fd)

    def backups(self, *, unreadable: list[Unreadable] | None = None) -> list[Backup]:
        """Return the backups that are whole, the oldest first; raises `StorageError`, `OSError`.

        Manifests that can't be read are added to `unreadable`; without it, the first of them is an error.
        """
        require_folder(self.path)
        if not self.is_one:
            raise StorageError(f"{self.path} holds no backups (there is no {self.label.name})")
        self.about()
        found = [
            Backup(path.stem, path.with_suffix(".db"), self.segments, manifest)
            for path, manifest in self._manifests(unreadable)
        ]
        return sorted(found, key=lambda backup: backup.manifest.serial)

    def _manifests(self, unreadable: list[Unreadable] | None) -> list[tuple[Path, Manifest]]:
        found = []
        for path in sorted(self.databases.glob("*.json")):
            try:
                found.append((path, _read_manifest(path)))
            except StorageError as error:
                if unreadable is None:
                    raise
                unreadable.append(Unreadable(path, str(error)))
        return found

    def choose(self, name: str | None) -> Backup:
        """Return the backup of this name, or the newest. Raises `StorageError`, `OSError`."""
        unreadable: list[Unreadable] = []
        backups = self.backups(unreadable=unreadable)
        names = ", ".join(each.name for each in reversed(backups))
        newest = backups[-1].name if backups else ""
        gone = [Unreadable(path, f"{path} is missing") for path in self.missing(backups, unreadable)]
        for each in (*unreadable, *gone):
            lost = each.path.stem
            if name == lost or (name is None and (lost > newest or lost == self._last())):
                instead = f"choose one with --backup: {names}" if names else rescue(self.path, lost)
                raise StorageError(f"{each.why}; nothing was changed; {instead}")
        if not backups:
            raise StorageError(f"{self.path} holds no whole backup")
        if name is None:
            return backups[-1]
        for backup in backups:
            if backup.name == name:
                return backup
        raise StorageError(f"{self.path} has no backup {name}; it has {names}")

    def _last(self) -> str | None:
        """Return the name of the backup that was taken last, as far as the folder knows."""
        names = self._names()
        return names[-1] if names else None

    def _names(self) -> tuple[str, ...]:
        try:
            return self.read_label().backups or ()
        except StorageError:
            return ()

    def missing(self, backups: Iterable[Backup], unreadable: Iterable[Unreadable]) -> list[Path]:
        """Return the manifests that were removed, as far as the folder knows which it had. Raises `OSError`."""
        there = {each.name for each in backups} | {each.path.stem for each in unreadable}
        return [self.databases / f"{name}.json" for name in self._names() if name not in there]

    def new_name(self, now: Micros) -> str:
        """Return a name for a backup that is begun now."""
        name = datetime.fromtimestamp(now // 1_000_000, UTC).strftime("%Y-%m-%dT%H-%M-%SZ")
        taken = {path.stem for path in self.databases.iterdir()}
        names = (name if not number else f"{name}-{number}" for number in range(len(taken) + 1))
        return next(each for each in names if each not in taken)

    def finish(self, name: str, manifest: Manifest) -> Backup:
        """Say that a backup is whole, durably. Raises `OSError`."""
        write_durably(self.databases / f"{name}.json", sealed(manifest))
        return Backup(name, self.databases / f"{name}.db", self.segments, manifest)

    def forget(self, backup: Backup) -> None:
        """Remove a backup; its segments go when no other needs them. Raises `OSError`."""
        (self.databases / f"{backup.name}.json").unlink()
        sync_folder(self.databases)
        remove(backup.database)

    def leftovers(self) -> list[Path]:
        """Return files of backups that were broken off, and files without a manifest. Raises `OSError`."""
        found = [path for path in self.databases.iterdir() if path.name.endswith(_LEFT)]
        return [path for path in found if not exists(self.databases / f"{path.name.partition('.')[0]}.json")]

    def remove_leftovers(self, *, spare: Iterable[str] = ()) -> None:
        """Remove the files that interrupted backups left, except those of the named backups. Raises `OSError`."""
        names = set(spare)
        for path in self.leftovers():
            if path.name.partition(".")[0] not in names:
                remove(path)


def rescue(folder: Path, name: str) -> str:
    """Return how to restore a backup whose manifest is lost, in words."""
    place = shlex.quote(str(folder))
    return (
        f"to try what is left of it: mkdir RESCUED && cp {place}/databases/{name}.db RESCUED/{DATABASE} && "
        f"cp -r {place}/segments RESCUED && waypost restore RESCUED"
    )


def _read_manifest(path: Path) -> Manifest:
    found = read_sealed(path, _Sealed, ManifestBefore)
    return Manifest(**{name: getattr(found, name) for name in found.__struct_fields__})


def _holds_files(path: Path) -> bool:
    return path.name in ("segments", "databases") and is_folder(path) and any(path.iterdir())
