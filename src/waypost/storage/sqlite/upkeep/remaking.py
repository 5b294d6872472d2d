"""Tables that are made anew where a page of them is damaged, since all mail would wait for them, and they hold no mail.

Their rows that can be read are kept. Of destinations, the rest is counted from the queue's entries. Lost are then: the
failed rounds of those destinations (their entries live longer by that) and who owns them (nobody takes those before
a lease would have run out); what accounts sent within the last day; from where they logged in; which damaged entries
are set aside; a page of the journal, and of the names by which it is searched.
"""

import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import apsw

from waypost.message.trace import Micros
from waypost.storage.sqlite.connection import connect_reading
from waypost.storage.sqlite.opening.migrate import DATABASE
from waypost.storage.sqlite.salvage.rows import UNREADABLE, Found, columns_of, read_table
from waypost.storage.sqlite.segments.segments import segment_path

SMALL = ("destination", "set_aside", "spending", "known_network", "unflushed")
LARGE = ("journal", "message_name")
REMADE = SMALL + LARGE
LONGEST_LEASE: Micros = 60_000_000
"""How long a lease is that nobody renews."""

_SCHEMA = "SELECT sql FROM sqlite_schema WHERE tbl_name = ? AND sql IS NOT NULL ORDER BY type = 'index'"
_OPEN_ONES = "SELECT id FROM segment WHERE sealed = 0"
_DUE = "SELECT CAST(destination AS BLOB), min(CASE WHEN state = 0 THEN next_attempt END) FROM entry{} GROUP BY 1"
_ADD = "INSERT OR IGNORE INTO destination (name, wake) VALUES (CAST(? AS TEXT), ?)"


def damaged(connection: apsw.Connection, tables: Sequence[str] = REMADE) -> list[str]:
    """Return which of these tables, or of their indexes, can't be read or do not agree."""
    return [table for table in tables if not _whole(connection, table)]


def _whole(connection: apsw.Connection, table: str) -> bool:
    try:
        return bool(connection.execute(f'PRAGMA integrity_check("{table}")').get == "ok")
    except UNREADABLE:
        return False


def require_destinations(connection: apsw.Connection) -> None:
    """Raise `apsw.CorruptError` if the table of destinations is damaged; the next commit makes it anew."""
    if not _whole(connection, "destination"):
        raise apsw.CorruptError("the table of destinations is damaged")


def remake(connection: apsw.Connection, data: Path, table: str, now: Micros) -> dict[str, object]:
    """Make one of these tables anew, in one transaction; return what was done, as fields for the log.

    The pages of the old table stay lost until VACUUM. The caller keeps other writers away. Raises `apsw.Error`,
    `OSError`.
    """
    if table == "unflushed":
        _flush_open_segments(connection, data)  # then nobody needs the copies that are lost
    schema = [sql for (sql,) in connection.execute(_SCHEMA, (table,)).fetchall()]
    found = Found(table)
    # It sees the table as it was. SQLite commits nothing of a transaction that met damage itself.
    source = connect_reading(data / DATABASE)
    try:
        source.execute("BEGIN").fetchall()
        columns = columns_of(source, table)
        due = _due(source) if table == "destination" else {}
        with connection:
            _replace(connection, table, schema)
            kept = _insert(connection, table, columns, read_table(source, table, columns, found))
            counted = _add_destinations(connection, due, now + LONGEST_LEASE)
    finally:
        source.close()
        connection.execute("PRAGMA writable_schema=RESET").fetchall()
    return {"table": table, "kept": kept, "counted_anew": counted, "problem": "; ".join(found.words)}


def _replace(connection: apsw.Connection, table: str, schema: list[str]) -> None:
    """Make an empty table with its indexes; the old ones can't always be emptied, so their rows of the schema go."""
    connection.execute("PRAGMA writable_schema=ON").fetchall()
    connection.execute("DELETE FROM sqlite_schema WHERE tbl_name = ?", (table,)).fetchall()
    connection.execute("PRAGMA writable_schema=RESET").fetchall()
    for sql in schema:
        connection.execute(sql).fetchall()


def _insert(connection: apsw.Connection, table: str, columns: list[tuple[str, str]], rows: Iterable[list[Any]]) -> int:
    names = ", ".join(name for name, _ in columns)
    values = ", ".join("CAST(? AS TEXT)" if kind == "TEXT" else "?" for _, kind in columns)
    kept = 0
    for row in rows:
        try:
            connection.execute(f"INSERT OR IGNORE INTO {table} ({names}) VALUES ({values})", row).fetchall()
            kept += connection.changes()
        except (apsw.ConstraintError, apsw.MismatchError):  # a value that nobody here wrote
            continue
    return kept


def _add_destinations(connection: apsw.Connection, due: dict[bytes, Micros | None], free_at: Micros) -> int:
    """Add those that are not there. Their owners may live, and work on them: they can't renew their leases now."""
    added = 0
    for name, earliest in due.items():
        connection.execute(_ADD, (name, None if earliest is None else max(earliest, free_at))).fetchall()
        added += connection.changes()
    return added


def _due(connection: apsw.Connection) -> dict[bytes, Micros | None]:
    """Return each destination of the queue with when its first ready entry is due, as far as entries can be read."""
    for source in (" INDEXED BY entry_due", " NOT INDEXED"):
        try:
            return dict(connection.execute(_DUE.format(source)).fetchall())
        except UNREADABLE:
            continue
    due: dict[bytes, Micros | None] = {}
    columns = [("destination", "TEXT"), ("state", "INTEGER"), ("next_attempt", "INTEGER")]
    for name, state, next_attempt in read_table(connection, "entry", columns, Found("entry")):
        if isinstance(name, bytes) and isinstance(next_attempt, int):
            before = due.setdefault(name, None)
            if state == 0:
                due[name] = next_attempt if before is None else min(before, next_attempt)
    return due


def _flush_open_segments(connection: apsw.Connection, data: Path) -> None:
    for (segment,) in connection.execute(_OPEN_ONES).fetchall():
        try:
            fd = os.open(segment_path(data / "segments", segment), os.O_RDONLY | os.O_CLOEXEC)
        except FileNotFoundError:
            continue
        try:
            os.fsync(fd)
        finally:
            os.close(fd)
