"""Taking a backup while the storage is used: the database at one moment, then the octets that it needs.

Until the new backup is verified, the last one stays, and nothing of it is changed: segments are only added to.
"""

from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path

import apsw

from waypost import __version__
from waypost.disk.folders import sync_folder
from waypost.message.trace import Micros, format_trace_id
from waypost.storage.errors import StorageError
from waypost.storage.sqlite.backup.database import (
    count_of,
    life_of,
    open_copy,
    open_of_data,
    require_whole,
    schema_of,
    snapshot,
)
from waypost.storage.sqlite.backup.folder import Backup, BackupFolder, Manifest
from waypost.storage.sqlite.backup.octets import (
    DamagedMessage,
    Progress,
    copy_message,
    copy_segment,
    damaged_messages,
    needed_segments,
    write_copies,
)
from waypost.storage.sqlite.keeping import keeping
from waypost.storage.sqlite.life import Life
from waypost.storage.sqlite.migrate import DATABASE
from waypost.storage.sqlite.segments import segment_number, segment_path

Show = Callable[[str], AbstractContextManager[Progress]]
"""Shows the progress of a step that is named."""


@dataclass(frozen=True, slots=True)
class Taken:
    """What became of a backup. `copied`: octets of segments; `removed`: names of older backups that went."""

    backup: Backup
    copied: int
    removed: tuple[str, ...]
    damaged: tuple[DamagedMessage, ...]


def take_backup(data: Path, to: Path, *, now: Micros, keep: int, quick: bool, show: Show) -> Taken:
    """Take a backup of the storage in `data`, verify it, and then let the older ones go but for `keep` in all.

    `quick`: of the octets, only those that are new are verified. Messages that are damaged in the storage itself do not
    end it: they are told, and no older backup goes then. Raises `StorageError`, `OSError`.
    """
    folder = BackupFolder(to)
    if not (data / DATABASE).exists():
        raise StorageError(f"{data / DATABASE}: there is no database to back up")
    if to.resolve().is_relative_to(data.resolve()):
        raise StorageError(f"{to} is in the data directory: a backup belongs elsewhere, best on another disk")
    folder.make(_life_of(data))
    with folder.locked():
        folder.remove_unfinished()
        name = folder.new_name(now)
        database = folder.databases / f"{name}.db"
        try:
            copied, damaged, manifest = _copy_and_verify(data, folder, database, now, quick, show)
        except apsw.Error as error:
            raise StorageError(f"{database}: {error}") from error
        backup = folder.finish(name, manifest)
        removed = () if damaged else _let_go(folder, keep)
        return Taken(backup, copied, removed, damaged)


def _life_of(data: Path) -> Life | None:
    try:
        connection = open_of_data(data / DATABASE)
        try:
            return life_of(connection)
        finally:
            connection.close()
    except apsw.Error as error:
        raise StorageError(f"{data / DATABASE} can't be read ({error}): run `waypost storage check`") from error


def _copy_and_verify(
    data: Path, folder: BackupFolder, database: Path, now: Micros, quick: bool, show: Show
) -> tuple[int, tuple[DamagedMessage, ...], Manifest]:
    with keeping(data):
        with show("Copying the database") as progress:
            progress(0, 1)
            snapshot(data / DATABASE, database)
        connection = open_copy(database)
        try:
            require_whole(connection, database)
            ends = needed_segments(connection)
            copied, fresh = _copy(data / "segments", folder.segments, ends, show)
            write_copies(connection, folder.segments, ends)
            only = fresh if quick else None
            with show("Verifying messages") as progress:
                damaged = list(damaged_messages(connection, folder.segments, progress, only=only))
            damaged = [each for each in damaged if not copy_message(each, data / "segments", folder.segments)]
            serial = max((each.manifest.serial for each in folder.backups(unreadable=[])), default=0) + 1
            manifest = _manifest(connection, serial, now, damaged)
        finally:
            connection.close()
    return copied, tuple(damaged), manifest


def _copy(source: Path, target: Path, ends: dict[int, int], show: Show) -> tuple[int, set[int]]:
    """Copy what is missing; return how many octets that was, and of which segments."""
    copied, fresh = 0, set()
    with show("Copying segments") as progress:
        for number, (segment, end) in enumerate(ends.items()):
            progress(number, len(ends))
            octets = copy_segment(segment_path(source, segment), segment_path(target, segment), end)
            if octets:
                fresh.add(segment)
                copied += octets
    sync_folder(target)
    return copied, fresh


def _manifest(connection: apsw.Connection, serial: int, now: Micros, damaged: list[DamagedMessage]) -> Manifest:
    return Manifest(
        serial=serial,
        time=now,
        version=__version__,
        schema=schema_of(connection),
        messages=count_of(connection, "message"),
        octets=int(connection.execute("SELECT coalesce(sum(length), 0) FROM message").get),
        entries=count_of(connection, "entry"),
        accounts=count_of(connection, "account"),
        life=life_of(connection),
        damaged=tuple(format_trace_id(message.trace) for message in damaged),
    )


def _let_go(folder: BackupFolder, keep: int) -> tuple[str, ...]:
    """Remove the oldest backups, and the segments that no other needs."""
    unreadable: list[Path] = []
    backups = folder.backups(unreadable=unreadable)
    gone = backups[:-keep]
    for backup in gone:
        folder.forget(backup)
    for path in unreadable:  # there is a whole one now
        path.with_suffix(".db").unlink(missing_ok=True)
        path.unlink()
    needed: set[int] = set()
    for backup in backups[-keep:]:
        connection = open_copy(backup.database)
        try:
            needed |= needed_segments(connection).keys()
        finally:
            connection.close()
    for path in list(folder.segments.iterdir()):
        number = segment_number(path)
        if number is not None and number not in needed:
            path.unlink()
    return tuple(backup.name for backup in gone)
