"""Restoring: a backup becomes the storage of a data directory, which begins a new life with it.

Everything is prepared and verified in `restoring/` inside the data directory. Then what is there goes to `lost/`, and
what was prepared takes its place. While `restoring/` is there, nothing starts on the data directory.
"""

import contextlib
import fcntl
import os
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import apsw

from waypost.counting import counted
from waypost.disk.files import exists, is_file, is_folder, make_file, try_lock
from waypost.disk.folders import make_folder, sync_folder
from waypost.message.trace import Micros, format_trace_id
from waypost.storage.errors import Conflict, StorageError
from waypost.storage.sqlite.backup.database import count_of, life_of, require_whole, sync_file
from waypost.storage.sqlite.backup.digests import Changed, FileDigest, copy_file
from waypost.storage.sqlite.backup.files import Missing, Replaced, require_file, require_folder
from waypost.storage.sqlite.backup.folder import BackupFolder
from waypost.storage.sqlite.backup.octets import (
    DamagedMessage,
    copy_segment,
    damaged_messages,
    mend_headers,
    needed_segments,
    write_copies,
)
from waypost.storage.sqlite.backup.taking import Show
from waypost.storage.sqlite.connection import connect
from waypost.storage.sqlite.opening import life as lives
from waypost.storage.sqlite.opening.life import Life
from waypost.storage.sqlite.opening.migrate import DATABASE, migrate, pending
from waypost.storage.sqlite.opening.renewal import renew
from waypost.storage.sqlite.opening.taking_up import CHANGING, RESTORING
from waypost.storage.sqlite.segments.lost import lost_folder
from waypost.storage.sqlite.segments.segments import segment_number, segment_path

RECOVERING = "recovering"
"""A file that is there while `waypost storage recover` makes a data directory."""

_MARGIN = 64 << 20  # octets of the disk that a restore leaves free


@dataclass(frozen=True, slots=True)
class Source:
    """What is restored: a database and the segments of it. `name`: of a backup in a folder of several; `older`: those
    before it there, the newest first; `digest`: of the database, where one was written; `folder`: of the backups."""

    database: Path
    segments: Path
    name: str
    older: tuple[str, ...] = ()
    digest: FileDigest | None = None
    folder: BackupFolder | None = None

    @property
    def instead(self) -> str:
        """What may be restored where this one is damaged."""
        if not self.older:
            return ""
        return f"; or take one before it: --backup {self.older[0]}" + (
            f" ({', '.join(self.older[1:])})" if self.older[1:] else ""
        )


@dataclass(frozen=True, slots=True)
class Restored:
    """What became of a restore. `lost`: where that lies which was there before."""

    messages: int
    accounts: int
    held: int
    damaged: tuple[DamagedMessage, ...]
    lost: Path | None


def find_source(place: Path, name: str | None) -> Source:
    """Return what a directory has to restore: a backup of `waypost backup`, or `waypost.db` beside `segments/`.

    Raises `StorageError`, `OSError`.
    """
    require_folder(place)
    if exists(place / RECOVERING):
        raise StorageError(
            f"{place} holds a part of what was to be recovered: `waypost storage recover` was broken off there; run it "
            "again, into a new directory"
        )
    folder = BackupFolder(place)
    if folder.is_one:
        backup = folder.choose(name)
        serial = backup.manifest.serial
        before = [each.name for each in folder.backups(unreadable=[]) if each.manifest.serial < serial]
        digest = backup.manifest.digests.database if backup.manifest.digests else None
        return Source(backup.database, backup.segments, backup.name, tuple(reversed(before)), digest, folder)
    if is_file(place / DATABASE) and is_folder(place / "segments"):
        return Source(place / DATABASE, place / "segments", str(place))
    raise StorageError(f"{place} holds neither backups nor a copied data directory ({DATABASE} beside segments/)")


def is_used(data: Path) -> bool:
    """True when a data directory holds a storage already."""
    return any(exists(data / name) for name in (DATABASE, RESTORING)) or any(
        segment_number(path) is not None for path in (data / "segments").glob("*.seg")
    )


def restore(
    source: Source,
    data: Path,
    *,
    now: Micros,
    show: Show,
    despite_damage: bool = False,
    own: Callable[[Path], None] = lambda path: None,
) -> Restored:
    """Make the storage of `data` what the source holds. `own` gives what was made to the service's user.

    Messages that are not whole end it, unless `despite_damage`; nothing has changed then. Raises `Conflict` while a
    process uses either of them, `StorageError`, `OSError`.
    """
    if source.segments.resolve() == (data / "segments").resolve():
        raise StorageError(f"{data} is the data directory itself")
    make_folder(data)
    held = source.folder.reading() if source.folder else contextlib.nullcontext()
    with held, _alone(data), _alone(source.database.parent, make=False):
        previous = _previous(data)
        work = data / RESTORING
        if exists(work):  # of a restore that was broken off: copies, and no more
            shutil.rmtree(work)
        work.mkdir(mode=0o700)
        try:
            found = _prepare(source, work, previous, now, show, despite_damage)
            own(work)
        except BaseException:
            shutil.rmtree(work)
            raise
        lost = _change_over(data, work, now, own)
        return Restored(*found, lost)


@contextlib.contextmanager
def _alone(folder: Path, *, make: bool = True) -> Iterator[None]:
    """Hold a data directory against every process that would use it. Raises `Conflict`."""
    path = folder / "in-use.lock"
    if not make and not exists(path):
        yield
        return
    flags = (os.O_CREAT | os.O_RDWR if make else os.O_RDONLY) | os.O_NONBLOCK | os.O_CLOEXEC
    fd = os.open(path, flags, 0o600)
    try:
        if not try_lock(fd):
            raise Conflict(f"{folder} is in use: stop the service first")
        yield
        fcntl.flock(fd, fcntl.LOCK_UN)
    finally:
        os.close(fd)


def _previous(data: Path) -> Life | None:
    """Return how far the storage had come that is replaced: it is the one that clients know."""
    found = [life for life in (lives.read_file(data), lives.read_file(data / RESTORING)) if life is not None]
    return max(found, key=lambda life: life.restores, default=None)


def _prepare(
    source: Source, work: Path, previous: Life | None, now: Micros, show: Show, despite_damage: bool
) -> tuple[int, int, int, tuple[DamagedMessage, ...]]:
    """Make the whole new storage in a folder of its own; return counts of messages, accounts, held entries, damage."""
    try:
        _copy_database(source, work, despite_damage)
        migrate(work)
        shutil.rmtree(work / "snapshots", ignore_errors=True)  # the backup is one
        connection = connect(work / DATABASE)
        try:
            _require_whole(connection, source)
            _copy_segments(connection, source.segments, work, show)
            with show("Verifying messages") as progress:
                damaged = tuple(damaged_messages(connection, work / "segments", progress))
            if damaged and not despite_damage:
                raise StorageError(_words(source, damaged) + source.instead)
            mend_headers(connection, work / "segments")
            held = _begin_anew(connection, work, previous, now)
            found = count_of(connection, "message"), count_of(connection, "account"), held, damaged
            connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
        finally:
            connection.close()
    except apsw.Error as error:
        words = f"{source.database} is damaged, or was copied in part: {error}; nothing was changed{source.instead}"
        raise StorageError(words) from error
    for path in (work / f"{DATABASE}-wal", work / f"{DATABASE}-shm"):
        path.unlink(missing_ok=True)
    sync_file(work / DATABASE)
    for folder in (work / "segments", work):
        sync_folder(folder)
    return found


def _require_whole(connection: apsw.Connection, source: Source) -> None:
    try:
        require_whole(connection, source.database)
    except StorageError as error:
        raise StorageError(f"{error}; nothing was changed{source.instead}") from error


def _words(source: Source, damaged: tuple[DamagedMessage, ...]) -> str:
    names = ", ".join(format_trace_id(message.trace) for message in damaged[:5])
    more = f" and {len(damaged) - 5} more" if len(damaged) > 5 else ""
    return (
        f"{source.name}: {counted(len(damaged), 'message is', 'messages are')} not whole ({names}{more}); nothing was "
        "changed. --despite-damage restores everything else"
    )


def _copy_database(source: Source, work: Path, despite_damage: bool) -> None:
    database = source.database
    try:
        _require_room(work, require_file(database))
        found = copy_file(database, work / DATABASE)
        if source.digest is not None and found != source.digest and not despite_damage:
            instead = "" if source.older else "; --despite-damage restores it, if the database can be read"
            raise Changed(f"{database} is damaged: it holds other octets than were written{instead}")
    except (Missing, Replaced, Changed) as error:
        raise StorageError(f"{error}; nothing was changed{source.instead}") from error
    log = database.with_name(f"{database.name}-wal")
    if source.folder is None and is_file(log):  # a copied data directory may have a log beside it
        copy_file(log, work / f"{DATABASE}-wal")
    pending(work)  # a newer schema is refused before anything else is copied


def _copy_segments(connection: apsw.Connection, source: Path, work: Path, show: Show) -> None:
    ends = needed_segments(connection)
    (work / "segments").mkdir(mode=0o700)
    _require_room(work, sum(_size(segment_path(source, segment), end) for segment, end in ends.items()))
    with show("Copying segments") as progress:
        for number, (segment, end) in enumerate(ends.items()):
            progress(number, len(ends))
            copy_segment(segment_path(source, segment), segment_path(work / "segments", segment), end)
    write_copies(connection, work / "segments", ends)
    # They are shorter than where they come from: nothing here is appended to any more.
    with connection:
        for segment in ends:
            path = segment_path(work / "segments", segment)
            size = path.stat().st_size if exists(path) else 0
            connection.execute("UPDATE segment SET sealed = 1, size = ? WHERE id = ?", (size, segment)).fetchall()
        connection.execute("DELETE FROM unflushed").fetchall()
        connection.execute("DELETE FROM segment WHERE id NOT IN (SELECT segment FROM message)").fetchall()


def _size(path: Path, end: int) -> int:
    return min(path.stat().st_size, end) if exists(path) else 0


def _require_room(folder: Path, needed: int) -> None:
    free = shutil.disk_usage(folder).free
    if free < needed + _MARGIN:
        raise StorageError(
            f"{folder.parent}: {needed} octets are needed, and {_MARGIN} that stay free, but only {free} are free; "
            "nothing was changed"
        )


def _begin_anew(connection: apsw.Connection, work: Path, previous: Life | None, now: Micros) -> int:
    there = life_of(connection) or Life(lives.new_id())
    fresh = there.renewed(previous)
    largest = max(needed_segments(connection), default=0)
    with connection:
        held = renew(connection, fresh, restores=fresh.restores - there.restores, largest=largest, now=now)
    lives.write_file(work, fresh)
    return held


def _change_over(data: Path, work: Path, now: Micros, own: Callable[[Path], None]) -> Path | None:
    """Put what is there aside, and what was prepared in its place; return where the first lies."""
    there = [data / name for name in (f"{DATABASE}-wal", f"{DATABASE}-shm", DATABASE, lives.FILE, "segments")]
    there = [path for path in there if exists(path)]
    make_file(work / CHANGING)
    sync_folder(work)
    lost = None
    if there:
        lost = lost_folder(data, "before-restore", now)
        own(lost.parent)
        for path in there:
            path.rename(lost / path.name)
        sync_folder(lost)
        sync_folder(data)
    for name in ("segments", lives.FILE, DATABASE):
        (work / name).rename(data / name)
    sync_folder(data)
    (work / CHANGING).unlink()
    work.rmdir()
    sync_folder(data)
    return lost
