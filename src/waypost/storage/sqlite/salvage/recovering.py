"""`waypost storage recover`: a new storage from every row and message of a damaged one that can be read.

What no row leads to any more is written to files. The damaged data directory is left as it is.
"""

import contextlib
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import apsw

from waypost.disk.files import exists, is_folder, make_file
from waypost.disk.folders import make_folder, sync_folder
from waypost.message.trace import Micros, TraceId, format_trace_id
from waypost.storage.errors import StorageError
from waypost.storage.sqlite.backup.database import open_of_data, sync_file
from waypost.storage.sqlite.backup.files import lies_in, require_folder
from waypost.storage.sqlite.backup.octets import copy_segment, damaged_messages, needed_segments, write_copies
from waypost.storage.sqlite.backup.restoring import RECOVERING
from waypost.storage.sqlite.backup.taking import Show
from waypost.storage.sqlite.connection import connect
from waypost.storage.sqlite.opening.migrate import DATABASE, migrate
from waypost.storage.sqlite.rows import text
from waypost.storage.sqlite.salvage.records import records_of
from waypost.storage.sqlite.salvage.rows import INTEGER_KEYS, OTHERS, UNREADABLE, Found, columns_of, read_table
from waypost.storage.sqlite.segments.lost import LOST
from waypost.storage.sqlite.segments.reader import SegmentReader
from waypost.storage.sqlite.segments.segments import segment_number, segment_path
from waypost.storage.sqlite.upkeep.consistency import mend

MESSAGES = "messages"
DAMAGED = "damaged"


@dataclass
class Recovered:
    """What was brought out. `files`: messages that no row leads to, each in a file; `damaged`: what is not whole."""

    database: str | None = None  # why there is no database to read, in words
    tables: list[Found] = field(default_factory=list)
    messages: int = 0
    files: int = 0
    damaged: list[TraceId] = field(default_factory=list)
    mailboxes_made: int = 0


def recover(data: Path, to: Path, *, now: Micros, show: Show) -> Recovered:
    """Bring out of `data` what can be read, into `to`, a new or empty directory. Raises `StorageError`, `OSError`."""
    if not is_folder(data):
        raise StorageError(f"{data}: there is no such directory")
    if lies_in(to, data):
        raise StorageError(f"{to} is in the data directory: name another place")
    require_folder(to)
    make_folder(to)
    if any(to.iterdir()):
        raise StorageError(f"{to} is not empty: name a new directory")
    make_file(to / RECOVERING)
    sync_folder(to)
    done = Recovered()
    try:
        known = _bring_rows(data, to, done, now, show)
        done.messages = len(known)
        _bring_records(data, to, known, done, show)
    except apsw.Error as error:
        raise StorageError(f"{to / DATABASE}: {error}") from error
    sync_folder(to)
    (to / RECOVERING).unlink()
    sync_folder(to)
    return done


def _bring_rows(data: Path, to: Path, done: Recovered, now: Micros, show: Show) -> set[int]:
    """Make a new database with its segments; return which messages it has. Nothing is made when none can be read."""
    source = _open_damaged(data, done)
    if source is None:
        return set()
    try:
        migrate(to)
        target = connect(to / DATABASE)
        try:
            _copy_tables(source, target, done, show)
            _copy_octets(data, target, to, done, show)
            done.mailboxes_made = _make_mailboxes(target, now)
            mend(target)
            known = {int(trace) for (trace,) in target.execute("SELECT id FROM message").fetchall()}
            target.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
        finally:
            target.close()
    finally:
        source.close()
    for path in (to / f"{DATABASE}-wal", to / f"{DATABASE}-shm"):
        path.unlink(missing_ok=True)
    sync_file(to / DATABASE)
    return known


def _open_damaged(data: Path, done: Recovered) -> apsw.Connection | None:
    """Open the database for reading, all of it at one moment; None when it can't be opened."""
    if not exists(data / DATABASE):
        done.database = "it is missing"
        return None
    try:
        connection = open_of_data(data / DATABASE)
    except apsw.Error as error:
        done.database = str(error)
        return None
    try:
        connection.config(apsw.SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, 1)  # it stays as it is
        connection.execute("PRAGMA query_only=ON").fetchall()
        connection.execute("BEGIN").fetchall()
        if not connection.execute("SELECT count(*) FROM sqlite_schema WHERE name = 'message'").get:
            done.database = "it has no table of messages"
    except UNREADABLE as error:
        done.database = str(error)
    if done.database is None:
        return connection
    connection.close()
    return None


def _copy_tables(source: apsw.Connection, target: apsw.Connection, done: Recovered, show: Show) -> None:
    tables = (*INTEGER_KEYS, *OTHERS)
    with show("Reading tables") as progress:
        for number, table in enumerate(tables):
            progress(number, len(tables))
            found = Found(table)
            try:
                there = {name for name, _ in columns_of(source, table)}
                columns = [column for column in columns_of(target, table) if column[0] in there]
                if columns:
                    _copy_table(target, table, columns, read_table(source, table, columns, found), found)
            except UNREADABLE as error:
                found.skip(error)
            done.tables.append(found)


def _copy_table(
    target: apsw.Connection, table: str, columns: list[tuple[str, str]], rows: Iterable[list[Any]], found: Found
) -> None:
    names = ", ".join(name for name, _ in columns)
    values = ", ".join("CAST(? AS TEXT)" if kind == "TEXT" else "?" for _, kind in columns)
    sql = f"INSERT OR IGNORE INTO {table} ({names}) VALUES ({values})"
    with target:
        for row in rows:
            try:
                target.execute(sql, row).fetchall()
            except (apsw.ConstraintError, apsw.MismatchError) as error:  # a value that nobody here wrote
                found.skip(error)


def _copy_octets(data: Path, target: apsw.Connection, to: Path, done: Recovered, show: Show) -> None:
    """Copy what the messages need of segments, and leave out messages whose octets are not whole."""
    make_folder(to / "segments")
    ends = needed_segments(target)
    with show("Copying segments") as progress:
        for number, (segment, end) in enumerate(ends.items()):
            progress(number, len(ends))
            copy_segment(segment_path(data / "segments", segment), segment_path(to / "segments", segment), end)
    write_copies(target, to / "segments", ends)
    with show("Verifying messages") as progress:
        damaged = list(damaged_messages(target, to / "segments", progress))
    reader = SegmentReader(to / "segments", keep=1)
    try:
        for message in damaged:
            place = message.location
            with contextlib.suppress(OSError):
                octets = reader.read(place.segment, place.offset, min(place.length, 1 << 30))
                _write(to / DAMAGED, message.trace, [_head_of(target, message.trace), octets])
    finally:
        reader.close()
    done.damaged = [message.trace for message in damaged]
    gone = text(done.damaged)
    with target:
        for table, key in (("message", "id"), ("entry", "message"), ("mailbox_message", "message")):
            target.execute(f"DELETE FROM {table} WHERE {key} IN (SELECT value FROM json_each(?))", (gone,)).fetchall()
        target.execute("DELETE FROM unflushed").fetchall()
        target.execute("UPDATE segment SET sealed = 1").fetchall()


def _head_of(target: apsw.Connection, trace: int) -> bytes:
    head = target.execute("SELECT CAST(head AS BLOB) FROM message WHERE id = ?", (trace,)).get
    return head.decode("utf-8", "replace").encode("latin-1", "replace") if isinstance(head, bytes) else b""


def _make_mailboxes(target: apsw.Connection, now: Micros) -> int:
    """Make the INBOX anew of each account whose row of it was lost: its messages are there still. Returns how many."""
    validity = now // 1_000_000
    with target:
        lost = target.execute("SELECT id, inbox FROM account WHERE inbox NOT IN (SELECT id FROM mailbox)").fetchall()
        for number, (account, inbox) in enumerate(lost):
            target.execute(
                "INSERT OR IGNORE INTO mailbox (id, account, name, uidvalidity) VALUES (?, ?, 'INBOX', ?)",
                (inbox or None, account, validity + number),
            ).fetchall()
            target.execute(
                "UPDATE account SET inbox = (SELECT id FROM mailbox WHERE account = ? AND name = 'INBOX') WHERE id = ?",
                (account, account),
            ).fetchall()
        target.execute(
            "INSERT INTO counter (name, value) VALUES ('uidvalidity', ?) "
            "ON CONFLICT (name) DO UPDATE SET value = max(value, excluded.value)",
            (validity + len(lost),),
        ).fetchall()
    return len(lost)


def _bring_records(data: Path, to: Path, known: set[int], done: Recovered, show: Show) -> None:
    """Write each message of the segments that no row leads to into a file, once."""
    segments = [path for path in (data / "segments").glob("*.seg") if segment_number(path) is not None]
    paths = [*sorted(segments), *sorted((data / LOST).rglob("*.seg*"))]
    written: set[int] = set()
    with show("Reading segments") as progress:
        for number, path in enumerate(paths):
            progress(number, len(paths))
            try:
                for trace, pieces in _messages_of(path):
                    if trace not in known and trace not in written:
                        _write(to / MESSAGES, trace, pieces)
                        written.add(trace)
            except OSError as error:
                done.tables.append(Found(path.name, holes=1, words=[str(error)]))
    if written:
        sync_folder(to / MESSAGES)
    done.files = len(written)


def _messages_of(path: Path) -> Iterable[tuple[TraceId, list[bytes]]]:
    """Yield the messages of a file, a large one with the head that follows it."""
    waiting: tuple[TraceId, bytes] | None = None
    for record, content in records_of(path):
        octets = bytes(content)
        if record.is_head:
            if waiting is not None and waiting[0] == record.trace:
                yield record.trace, [octets, waiting[1]]
            waiting = None
            continue
        if waiting is not None:
            yield waiting[0], [waiting[1]]
        waiting = record.trace, octets
    if waiting is not None:
        yield waiting[0], [waiting[1]]


def _write(folder: Path, trace: int, pieces: list[bytes]) -> None:
    make_folder(folder)
    path = folder / f"{format_trace_id(TraceId(trace))}.eml"
    make_file(path)
    path.write_bytes(b"".join(pieces))
    sync_file(path)
