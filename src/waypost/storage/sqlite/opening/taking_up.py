"""Before a storage is used again: do its database and its segments belong together, and is the database the newest?

What does not fit is refused with a message that says what to do, or goes on; nothing is removed. It is for the process
that uses the storage alone.
"""

import contextlib
import logging
from collections.abc import Iterable
from itertools import islice
from pathlib import Path

import apsw

from waypost.counting import counted
from waypost.disk.files import exists, is_file, is_folder
from waypost.disk.folders import sync_folder
from waypost.disk.ownership import forbidden, whose
from waypost.message.trace import Micros
from waypost.storage.errors import StorageError, Unfit
from waypost.storage.sqlite.opening import life as lives
from waypost.storage.sqlite.opening.life import Life, LifeVerdict
from waypost.storage.sqlite.opening.migrate import DATABASE
from waypost.storage.sqlite.opening.renewal import renew
from waypost.storage.sqlite.segments.lost import LOST, keep_all, lost_folder, put_aside
from waypost.storage.sqlite.segments.segments import HEADER, segment_number, segment_path

log = logging.getLogger(__name__)

RESTORING = "restoring"
"""A folder of the data directory that is there while `waypost restore` works on it."""
CHANGING = "changing"
"""A file in that folder from when the first file of the data directory is moved."""

ACCEPT = "`waypost storage accept` goes on with what is there"
_RESTORE = "`waypost restore DIR` brings a backup back"
_HEADER_SIZE = 100  # octets, of a database
_SAMPLES = 64  # segments that are looked into at a start
_SAMPLES_OF_ONE = 8  # messages in each of them


def refuse_foreign(data: Path) -> None:
    """Look whether everything is ours to use, before anything is opened. Raises `Unfit`."""
    if (path := forbidden(_looked_at(data))) is not None:
        raise Unfit(whose(path, data))


def refuse_unfit(data: Path) -> None:
    """Look at the data directory before its database is opened. Raises `Unfit`, `StorageError`, `OSError`."""
    if is_folder(data / RESTORING):
        instead = "" if exists(data / RESTORING / CHANGING) else f"; nothing was changed before: {ACCEPT}"
        raise Unfit(f"{data}: a restore was broken off: run `waypost restore DIR` again{instead}")
    if not _is_empty(data / DATABASE):
        if _is_cut_short(data / DATABASE):
            raise Unfit(
                f"{data / DATABASE} is shorter than it says, as after a copy that was broken off: put the whole of it "
                f"there; or {_RESTORE}; or `waypost storage recover DIR` brings out what can be read"
            )
        return
    segments = sum(1 for _ in _segments(data))
    before = lives.read_file(data)
    if segments or (before is not None and before.mark):
        there = (
            f"{counted(segments, 'segment')} of messages {'is' if segments == 1 else 'are'}"
            if segments
            else "the rest of a storage is"
        )
        raise Unfit(
            f"{data / DATABASE} is missing, and {there} there: put the database back (with its -wal file, if there is "
            f"one); or {_RESTORE}; or `waypost storage recover DIR` brings out the messages; {ACCEPT}, and puts the "
            f"segments under {LOST}/"
        )


def accept(data: Path, now: Micros) -> None:
    """Make a data directory usable that `refuse_unfit` refuses: without a database, segments go to `lost/`.

    Raises `OSError`.
    """
    left = data / RESTORING
    if is_folder(left):
        left.rename(lost_folder(data, "restore-broken-off", now) / RESTORING)
    if not _is_empty(data / DATABASE):
        return
    paths = [*_segments(data), *(path for path in (data / lives.FILE,) if exists(path))]
    paths += [path for path in data.glob(f"{DATABASE}*") if is_file(path)]
    if paths:
        folder = lost_folder(data, "without-database", now)
        for path in paths:
            put_aside(path, folder)
        for changed in (folder, data / "segments", data):
            sync_folder(changed)


def take_up(data: Path, connection: apsw.Connection, now: Micros, *, accepted: bool = False) -> None:
    """Name a new storage, notice a restore, and move the mark. Call it before anything writes to a segment.

    Raises `Unfit`, `StorageError`, `OSError`, `apsw.Error`.
    """
    file = lives.read_file(data)
    try:
        row = lives.read_row(connection)
    except (apsw.CorruptError, StorageError) as error:  # one damaged page keeps nobody from starting
        log.error("a restore would not be noticed", extra={"fields": {"error": str(error)}})
        return
    verdict = lives.judge(row, file)
    if verdict is None and accepted:
        why = "it was told to go on with the database of another storage"
        verdict, file = LifeVerdict(row or Life(lives.new_id()), why), None
    if verdict is None:
        raise Unfit(
            f"{data / DATABASE} is the database of another storage than this data directory: put back the one that "
            f"belongs here; or {_RESTORE}; {ACCEPT}"
        )
    if not accepted:
        _refuse_strange_segments(data, connection)
    if verdict.restored is not None:
        lives.write_file(data, _begin_anew(data, connection, verdict, file, now))
        return
    if row is None:  # the file first: a database with a name and no file beside it was restored
        lives.write_file(data, verdict.life)
        with connection:
            lives.write_row(connection, verdict.life)
    try:
        with connection:
            fresh = lives.advance(connection)
        if fresh is not None:
            lives.write_file(data, fresh)
    except (apsw.Error, StorageError) as error:  # a full disk must not keep anybody from making room on it
        log.error("the mark of the storage was not moved", extra={"fields": {"error": str(error)}})


def _begin_anew(data: Path, connection: apsw.Connection, verdict: LifeVerdict, file: Life | None, now: Micros) -> Life:
    """Keep every segment as it is under `lost/`, then let the database begin a new life."""
    folder = lost_folder(data, "restore", now)
    segments = data / "segments"
    kept = keep_all(segments, folder)
    aside = put_unknown_aside(segments, connection, folder)
    fresh = verdict.life.renewed(file)
    largest = max(filter(None, map(segment_number, folder.iterdir())), default=0)
    with connection:
        restores = fresh.restores - verdict.life.restores
        held = renew(connection, fresh, restores=restores, largest=largest, now=now)
    log.critical(
        "the storage was restored: its queue is held, and its segments have second names under lost/",
        extra={
            "fields": {
                "reason": verdict.restored,
                "folder": str(folder),
                "segments": kept,
                "unknown": aside,
                "held": held,
                "advice": "look at the queue, then: waypost queue release --error 'held since a restore'",
            }
        },
    )
    return fresh


def put_unknown_aside(segments: Path, connection: apsw.Connection, folder: Path) -> int:
    """Move segments without a row into `folder`; returns how many. Raises `OSError`, `apsw.Error`."""
    known = {number for (number,) in connection.execute("SELECT id FROM segment").fetchall()}
    moved = 0
    for path in list(segments.iterdir()):
        number = segment_number(path)
        if number is None or number in known or _needs(connection, number):
            continue
        kept = folder / path.name
        if exists(kept) and kept.samefile(path):
            path.unlink()  # its second name stays
        else:
            put_aside(path, folder)
        moved += 1
    for changed in (folder, segments):
        sync_folder(changed)
    return moved


def _needs(connection: apsw.Connection, segment: int) -> bool:
    return connection.execute("SELECT 1 FROM message WHERE segment = ? LIMIT 1", (segment,)).get is not None


def _refuse_strange_segments(data: Path, connection: apsw.Connection) -> None:
    """Look into some segments for one message each: if no message is where the database says, the segments
    belong to another storage, or their disk is not mounted."""
    with contextlib.suppress(apsw.Error):  # a damaged page keeps nobody from starting
        needed = [number for (number,) in connection.execute("SELECT id FROM segment WHERE live > 0").fetchall()]
        samples = needed[:: max(1, len(needed) // _SAMPLES)]
        found = [fits for fits in (_fits(data, connection, segment) for segment in samples) if fits is not None]
        if found and not any(found):
            raise Unfit(
                f"{data / 'segments'}: none of the {len(needed)} segments that {DATABASE} needs is there with its "
                f"messages: put them back (is a disk not mounted?); or {_RESTORE}; {ACCEPT}, and those messages can't "
                "be read"
            )
        if not all(found):
            log.error("segments are missing or of another storage: run `waypost storage check`")


def _fits(data: Path, connection: apsw.Connection, segment: int) -> bool | None:
    """True when a segment holds a message where the database says, False when it is missing or holds others there,
    None when that can't be told."""
    rows = connection.execute(
        "SELECT id, offset, length, crc FROM message WHERE segment = ? LIMIT ?", (segment, _SAMPLES_OF_ONE)
    ).fetchall()
    copied = connection.execute("SELECT 1 FROM unflushed WHERE segment = ? LIMIT 1", (segment,)).get is not None
    verdicts = []
    try:
        with segment_path(data / "segments", segment).open("rb") as file:
            for trace, offset, length, crc in rows:
                file.seek(offset - HEADER.size)
                verdicts.append(_is_of(file.read(HEADER.size), trace, length, crc))
    except OSError:
        verdicts.append(False)
    if True in verdicts:
        return True
    return False if False in verdicts and not copied else None  # its octets may be in the database alone (`copies.py`)


def _is_of(header: bytes, trace: int, length: int, crc: int) -> bool | None:
    """True for the header of this message, also with a flipped bit; None for zeros, which a disk made."""
    if len(header) < HEADER.size:
        return False
    if not any(header):
        return None
    _, *found = HEADER.unpack(header)
    alike = [one == other for one, other in zip(found, (trace, length, crc), strict=True)]
    return alike.count(True) >= 2


def _segments(data: Path) -> Iterable[Path]:
    with contextlib.suppress(FileNotFoundError):
        yield from (path for path in (data / "segments").iterdir() if segment_number(path) is not None)


def _looked_at(data: Path) -> Iterable[Path]:
    """Yield what must be ours to use: of the segments some."""
    yield data
    for name in ("segments", "locks", "lost", lives.FILE, DATABASE, f"{DATABASE}-wal", f"{DATABASE}-shm"):
        yield data / name
    yield from data.glob("*.lock")
    yield from islice(_segments(data), _SAMPLES)


def _is_cut_short(path: Path) -> bool:
    """True when a database has fewer pages than its header says, and no log that may have the others
    (its file format, section 1.3)."""
    if not _is_empty(path.with_name(f"{path.name}-wal")):
        return False
    with path.open("rb") as file:
        header = file.read(_HEADER_SIZE)
    if len(header) < _HEADER_SIZE or not header.startswith(b"SQLite format 3\0"):
        return False  # SQLite says what it is
    page_size = int.from_bytes(header[16:18], "big")
    pages = int.from_bytes(header[28:32], "big")
    return path.stat().st_size < pages * (65536 if page_size == 1 else page_size)


def _is_empty(path: Path) -> bool:
    try:
        return not path.stat().st_size
    except FileNotFoundError:
        return True
