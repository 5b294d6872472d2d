"""Taking a backup while the storage is used: the database at one moment, then the octets that it needs.

Until the new backup is verified, the last one stays, and nothing of it is changed: segments are only added to.
"""

from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path

import apsw

from waypost import __version__
from waypost.disk.files import exists
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
from waypost.storage.sqlite.backup.digests import Pieces, covering, digest_of, renewed
from waypost.storage.sqlite.backup.files import lies_in, remove
from waypost.storage.sqlite.backup.folder import Backup, BackupFolder, Digests, Manifest, Unreadable
from waypost.storage.sqlite.backup.octets import (
    DamagedMessage,
    Progress,
    copy_message,
    copy_segment,
    damaged_messages,
    needed_segments,
    write_copies,
)
from waypost.storage.sqlite.opening.life import Life
from waypost.storage.sqlite.opening.migrate import DATABASE
from waypost.storage.sqlite.segments.segments import segment_number, segment_path
from waypost.storage.sqlite.upkeep.keeping import keeping

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
    """Take a backup of the storage in `data`, verify it, and then remove older ones, so that `keep` are left in all.

    `quick`: of the octets, only those that are new are verified. Messages that are damaged in the storage itself do not
    end it: they are told, and no older backup goes then. Raises `StorageError`, `OSError`.
    """
    folder = BackupFolder(to)
    if not exists(data / DATABASE):
        raise StorageError(f"{data / DATABASE}: there is no database to back up")
    if lies_in(to, data):
        raise StorageError(f"{to} is in the data directory: a backup belongs elsewhere, best on another disk")
    life = _life_of(data)
    folder.make(life)
    with folder.locked():
        if not exists(folder.label):
            folder.write_label(life, folder.backups(unreadable=[]) if folder.is_one else ())
        folder.remove_leftovers(spare=folder.about().backups or ())
        name = folder.new_name(now)
        database = folder.databases / f"{name}.db"
        try:
            copied, damaged, manifest = _copy_and_verify(data, folder, database, now, quick, show)
        except apsw.Error as error:
            raise StorageError(f"{database}: {error}") from error
        backup = folder.finish(name, manifest)
        if damaged:
            folder.write_label(life, folder.backups(unreadable=[]))
            return Taken(backup, copied, (), damaged)
        removed = _let_go(folder, life, keep)
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
            digest = digest_of(database)
            ends = needed_segments(connection)
            before = folder.backups(unreadable=[])
            known = _known_pieces(before)
            copied, fresh = _copy(data / "segments", folder.segments, _whole_pieces(ends, known), show)
            write_copies(connection, folder.segments, ends)
            damaged, pieces = [], {}

            def settle(segment: int) -> None:
                source, target = segment_path(data / "segments", segment), segment_path(folder.segments, segment)
                pieces[segment] = renewed(known.get(segment, ()), source, target, ends[segment], compare=not quick)

            with show("Verifying messages") as progress:
                only = fresh if quick else None
                for each in damaged_messages(connection, folder.segments, progress, only=only, then=settle):
                    if not copy_message(each, data / "segments", folder.segments):
                        damaged.append(each)
            serial = max((each.manifest.serial for each in before), default=0) + 1
            manifest = _manifest(connection, serial, now, damaged, Digests(digest, pieces))
        finally:
            connection.close()
    return copied, tuple(damaged), manifest


def _known_pieces(backups: list[Backup]) -> dict[int, Pieces]:
    """Return of each segment the pieces that have digests, as the backup knows it that needs most of it."""
    known: dict[int, Pieces] = {}
    for backup in backups:
        for segment, pieces in backup.manifest.digests.segments.items() if backup.manifest.digests else ():
            if pieces and (segment not in known or pieces[-1].end >= known[segment][-1].end):
                known[segment] = pieces
    return known


def _whole_pieces(ends: dict[int, int], known: dict[int, Pieces]) -> dict[int, int]:
    """Return up to where segments are copied: a piece that has lost its end gets it again."""
    return {
        segment: max(end, *(piece.end for piece in covering(known.get(segment, ()), end)), 0)
        for segment, end in ends.items()
    }


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


def _manifest(
    connection: apsw.Connection, serial: int, now: Micros, damaged: list[DamagedMessage], digests: Digests
) -> Manifest:
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
        digests=digests,
    )


def _let_go(folder: BackupFolder, life: Life | None, keep: int) -> tuple[str, ...]:
    """Remove the oldest backups, and the segments that no other needs."""
    unreadable: list[Unreadable] = []
    backups = folder.backups(unreadable=unreadable)
    gone, kept = backups[:-keep], backups[-keep:]
    folder.write_label(life, kept)  # first: what is removed is missed by nobody
    for backup in gone:
        folder.forget(backup)
    for each in unreadable:  # there is a whole one now
        remove(each.path.with_suffix(".db"))
        remove(each.path)
    folder.remove_leftovers()
    needed: set[int] = set()
    for backup in kept:
        segments = segments_of(backup)
        if segments is None:  # an older one, whose database can't be read: who knows what it needs
            return tuple(backup.name for backup in gone)
        needed |= segments
    for path in list(folder.segments.iterdir()):
        number = segment_number(path)
        if number is not None and number not in needed:
            remove(path)
    return tuple(backup.name for backup in gone)


def segments_of(backup: Backup) -> set[int] | None:
    """Return the segments that a backup needs; None when nothing says that."""
    if backup.manifest.digests is not None:
        return set(backup.manifest.digests.segments)
    try:
        connection = open_copy(backup.database)
        try:
            return set(needed_segments(connection))
        finally:
            connection.close()
    except (StorageError, apsw.Error):
        return None
