"""Verifying backups: every file against its digest, the database, and every octet that it needs. Nothing is changed."""

import shlex
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import apsw

from waypost.counting import counted
from waypost.disk.files import is_file, is_folder
from waypost.storage.errors import StorageError
from waypost.storage.sqlite.backup.database import count_of, open_copy, require_whole
from waypost.storage.sqlite.backup.digests import Changed, Piece, Pieces, piece_of, require_digest
from waypost.storage.sqlite.backup.files import require_file
from waypost.storage.sqlite.backup.folder import Backup, BackupFolder, Unreadable, rescue
from waypost.storage.sqlite.backup.octets import DamagedMessage, damaged_messages, needed_segments
from waypost.storage.sqlite.backup.taking import Show, segments_of
from waypost.storage.sqlite.segments.segments import segment_number, segment_path

_FILES = ("waypost-backup.json", "lock", "segments", "databases", "lost+found")


@dataclass(frozen=True, slots=True)
class Fault:
    """A file that is not as it was written, in words that name it, and what to do."""

    what: str
    advice: str


@dataclass(frozen=True, slots=True)
class Verified:
    """What was found of one backup. `faults`: its files that are not as they were written."""

    backup: Backup
    damaged: tuple[DamagedMessage, ...] = ()
    faults: tuple[Fault, ...] = ()

    @property
    def whole(self) -> bool:
        """True when everything that was backed up is there."""
        return not self.faults and not self.damaged

    @property
    def has_digests(self) -> bool:
        """False for a backup of a time before digests: not every changed octet of it can be found."""
        return self.backup.manifest.digests is not None


@dataclass(frozen=True, slots=True)
class Report:
    """What was found of a folder. `faults`: files that are of no backup alone; `notes`: what harms nothing."""

    backups: list[Verified]
    faults: tuple[Fault, ...]
    notes: tuple[Fault, ...]

    @property
    def whole(self) -> bool:
        """True when every file that belongs there is as it was written."""
        return not self.faults and all(found.whole for found in self.backups)


def verify(folder: BackupFolder, show: Show) -> Report:
    """Verify all backups of a folder. Raises `StorageError` when it has none, `OSError`, `apsw.Error`."""
    with folder.reading():
        unreadable: list[Unreadable] = []
        backups = folder.backups(unreadable=unreadable)
        gone = [Unreadable(path, f"{path} is missing") for path in folder.missing(backups, unreadable)]
        if not backups and not unreadable and not gone:
            raise StorageError(f"{folder.path} holds no whole backup")
        verifier = _Verifier(folder, [backup.name for backup in backups], show)
        found = [verifier.verify(backup) for backup in backups]
        faults = [
            Fault(each.why, verifier.instead(each.path.stem, manifest_lost=True)) for each in (*unreadable, *gone)
        ]
        faults += _label_faults(folder)
        return Report(found, tuple(faults), tuple(_notes(folder, backups, {each.path.stem for each in gone})))


@dataclass
class _Verifier:
    """Verifies the backups of one folder, each piece of a segment once."""

    folder: BackupFolder
    names: list[str]
    show: Show
    _pieces: dict[tuple[int, int, Piece], bool] = field(default_factory=dict)

    def verify(self, backup: Backup) -> Verified:
        """Return what is found of one backup."""
        faults: list[Fault] = []
        damaged: list[DamagedMessage] = []
        try:
            self._require_database(backup)
            damaged = self._messages(backup, faults)
        except StorageError as error:
            faults.append(Fault(str(error), self.instead(backup.name)))
            for segment in self._segments(backup):
                self._segment(backup, segment, faults)
        except apsw.Error as error:
            faults.append(Fault(f"{backup.database} is damaged: {error}", self.instead(backup.name)))
        except OSError as error:
            faults.append(Fault(f"{backup.database} can't be read: {error.strerror}", self.instead(backup.name)))
        return Verified(backup, tuple(damaged), tuple(faults))

    def _require_database(self, backup: Backup) -> None:
        if backup.manifest.digests is not None:
            require_digest(backup.database, backup.manifest.digests.database)

    def _messages(self, backup: Backup, faults: list[Fault]) -> list[DamagedMessage]:
        connection = open_copy(backup.database)
        try:
            require_whole(connection, backup.database)
            found = count_of(connection, "message")
            if found != backup.manifest.messages:
                raise Changed(
                    f"{backup.database} has {counted(found, 'message')}, and should have {backup.manifest.messages}"
                )
            rest = self._segments(backup) - needed_segments(connection).keys()
            with self.show(f"Verifying {backup.name}") as progress:
                damaged = list(
                    damaged_messages(
                        connection,
                        backup.segments,
                        progress,
                        then=lambda segment: self._segment(backup, segment, faults),
                    )
                )
            for segment in sorted(rest):
                self._segment(backup, segment, faults)
            return damaged
        finally:
            connection.close()

    def _segments(self, backup: Backup) -> set[int]:
        return set() if backup.manifest.digests is None else set(backup.manifest.digests.segments)

    def _segment(self, backup: Backup, segment: int, faults: list[Fault]) -> None:
        digests = backup.manifest.digests
        path = segment_path(backup.segments, segment)
        words = self._wrong(path, segment, digests.segments.get(segment, ()) if digests else ())
        if words is not None:
            place = shlex.quote(str(self.folder.path))
            faults.append(
                Fault(
                    words,
                    f"the next `waypost backup {place}` copies it again as far as the storage still has it; until then "
                    "`waypost restore --despite-damage` brings back every message that is whole",
                )
            )

    def _wrong(self, path: Path, segment: int, pieces: Pieces) -> str | None:
        """Return what is wrong with a segment's file, in words; None when it is as it was written."""
        try:
            size = require_file(path)
            if pieces and size < pieces[-1].end:
                return f"{path} is damaged: it has {size} octets, and {pieces[-1].end} were written"
            start = 0
            for piece in pieces:
                key = (segment, start, piece)
                if key not in self._pieces:
                    self._pieces[key] = piece_of(path, start, piece.end) == piece
                if not self._pieces[key]:
                    return f"{path} is damaged: it holds other octets than were written (from {start} to {piece.end})"
                start = piece.end
        except StorageError as error:
            return str(error)
        except OSError as error:
            return f"{path} can't be read: {error.strerror}"
        return None

    def instead(self, name: str, *, manifest_lost: bool = False) -> str:
        """Return what to do when the backup of this name can't be used, in words."""
        place = shlex.quote(str(self.folder.path))
        others = [other for other in reversed(self.names) if other != name]
        take = f"take a new one: `waypost backup {place}`"
        if others:
            return f"{take}; until then restore another of its backups: --backup {others[0]}"
        return f"{take}; {rescue(self.folder.path, name)}" if manifest_lost else take


def _label_faults(folder: BackupFolder) -> Iterator[Fault]:
    try:
        folder.read_label()
    except StorageError as error:
        yield Fault(str(error), f"the next `waypost backup {shlex.quote(str(folder.path))}` writes it anew")


def _notes(folder: BackupFolder, backups: list[Backup], gone: set[str]) -> Iterator[Fault]:
    """Yield what lies in the folder and belongs to no backup."""
    strange = "nothing of a backup: remove it by hand if you do not need it"
    broken_off = "of a backup that was broken off: the next backup removes it"
    for path in sorted(folder.path.iterdir()):
        if path.name == f"{folder.label.name}.new":
            yield Fault(f"{path} is left over", broken_off)
        elif path.name not in _FILES or (path.name == "lock" and (path.is_symlink() or not is_file(path))):
            yield Fault(f"{path} is unknown", strange)
    left = set(folder.leftovers()) if is_folder(folder.databases) else set()
    for path in sorted(folder.databases.iterdir()) if is_folder(folder.databases) else ():
        name, _, kind = path.name.partition(".")
        if path in left and name not in gone:
            yield Fault(f"{path} is left over", broken_off)
        elif kind not in ("db", "json") and path not in left:
            yield Fault(f"{path} is unknown", strange)
    needed = [segments_of(backup) for backup in backups]
    known = all(segments is not None for segments in needed)
    numbers = {number for segments in needed if segments is not None for number in segments}
    for path in sorted(folder.segments.iterdir()) if is_folder(folder.segments) else ():
        number = segment_number(path)
        if number is None or path != segment_path(folder.segments, number):
            yield Fault(f"{path} is unknown", strange)
        elif known and number not in numbers:
            yield Fault(f"{path} is left over", "no backup needs it: the next backup removes it")
