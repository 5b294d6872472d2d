"""Rebuilding damaged indexes from their tables, where those are whole; nothing else is touched.

A damaged index can't always be emptied, as REINDEX would: then its rows of the schema go, and a new one is made. The
pages of the old one are lost until VACUUM, which follows.
"""

import logging
import re
from collections.abc import Callable, Sequence

import apsw

from waypost.storage.sqlite.connection import REFUSALS

log = logging.getLogger(__name__)

_TABLES = "SELECT name FROM sqlite_schema WHERE type = 'table' AND name NOT LIKE 'sqlite_%' ORDER BY rowid"
_INDEXES = "SELECT name, sql FROM sqlite_schema WHERE type = 'index' AND tbl_name = ? ORDER BY rowid"
_FRESH = "fresh_"


def damaged_tables(connection: apsw.Connection) -> list[str]:
    """Return the tables of which something is damaged: their own pages, or those of an index."""
    names = [name for (name,) in connection.execute(_TABLES).fetchall()]
    return [name for name in names if not _whole(connection, name)]


def _whole(connection: apsw.Connection, table: str) -> bool:
    try:
        return bool(connection.execute(f'PRAGMA integrity_check("{table}")').get == "ok")
    except REFUSALS:
        return False


def rebuild(connection: apsw.Connection, tables: Sequence[str]) -> list[str]:
    """Rebuild the indexes of tables; return the tables that are whole now. The caller keeps other writers away."""
    mended = []
    for table in tables:
        for deed in (_reindex, _replace_indexes, _copy):
            if _tried(connection, deed, table) and _whole(connection, table):
                mended.append(table)
                log.warning("table rebuilt", extra={"fields": {"table": table}})
                break
    return mended


def give_space_back(connection: apsw.Connection) -> None:
    """Copy the database into itself where pages of it belong to nothing any more, as a rebuilt table leaves them."""
    try:
        if connection.execute("PRAGMA integrity_check(1)").get == "ok":
            return
        connection.execute("PRAGMA auto_vacuum=INCREMENTAL").fetchall()
        connection.execute("VACUUM").fetchall()
    except apsw.Error as error:  # no room, or another table is damaged: nothing but space is lost
        log.warning("space of rebuilt tables not given back", extra={"fields": {"error": str(error)}})


def _tried(connection: apsw.Connection, deed: Callable[[apsw.Connection, str], None], table: str) -> bool:
    try:
        with connection:
            deed(connection, table)
    except apsw.Error as error:
        log.info("table not rebuilt", extra={"fields": {"table": table, "error": str(error)}})
        return False
    finally:
        connection.execute("PRAGMA writable_schema=RESET").fetchall()
    return True


def _reindex(connection: apsw.Connection, table: str) -> None:
    connection.execute(f'REINDEX "{table}"').fetchall()


def _replace_indexes(connection: apsw.Connection, table: str) -> None:
    """Make the indexes that have a name anew, though the old ones can't be emptied."""
    indexes = [(name, sql) for name, sql in connection.execute(_INDEXES, (table,)).fetchall() if sql is not None]
    connection.execute("PRAGMA writable_schema=ON").fetchall()
    for name, _ in indexes:
        connection.execute("DELETE FROM sqlite_schema WHERE type = 'index' AND name = ?", (name,)).fetchall()
    connection.execute("PRAGMA writable_schema=RESET").fetchall()
    for _, sql in indexes:
        connection.execute(sql).fetchall()


def _copy(connection: apsw.Connection, table: str) -> None:
    """Copy the table into a new one with all its indexes, which takes its name: an index without a name is damaged."""
    sql = str(connection.execute("SELECT sql FROM sqlite_schema WHERE type = 'table' AND name = ?", (table,)).get)
    indexes = [sql for _, sql in connection.execute(_INDEXES, (table,)).fetchall() if sql is not None]
    fresh = f"{_FRESH}{table}"
    connection.execute(re.sub(rf'CREATE TABLE "?{table}"?', f"CREATE TABLE {fresh}", sql, count=1)).fetchall()
    # With a limit SQLite copies row by row; without one it would copy the damaged index page by page.
    connection.execute(f'INSERT INTO {fresh} SELECT * FROM "{table}" NOT INDEXED LIMIT -1').fetchall()
    connection.execute("DELETE FROM sqlite_sequence WHERE name = ?", (fresh,)).fetchall()
    connection.execute("PRAGMA writable_schema=ON").fetchall()
    connection.execute("DELETE FROM sqlite_schema WHERE tbl_name = ?", (table,)).fetchall()
    connection.execute(
        "UPDATE sqlite_schema SET name = replace(name, ?1, ?2), tbl_name = ?2, sql = iif(type = 'table', ?3, sql) "
        "WHERE tbl_name = ?1",
        (fresh, table, sql),
    ).fetchall()
    connection.execute("PRAGMA writable_schema=RESET").fetchall()
    for sql in indexes:
        connection.execute(sql).fetchall()
