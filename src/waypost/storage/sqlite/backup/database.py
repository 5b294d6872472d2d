"""Databases of backups: the copy of one moment of a database in use, and what is read of a copy."""

import os
from pathlib import Path
from urllib.parse import quote

import apsw

from waypost.disk.files import exists, make_file
from waypost.storage.errors import StorageError
from waypost.storage.sqlite.backup.files import require_file
from waypost.storage.sqlite.connection import BUSY_MILLISECONDS
from waypost.storage.sqlite.opening.life import Life, read_row

_OF_DATA = apsw.SQLITE_OPEN_READWRITE | apsw.SQLITE_OPEN_NOFOLLOW


def snapshot(database: Path, to: Path) -> None:
    """Copy a database as it is at one moment, durably, while others write to it. Raises `StorageError`, `OSError`."""
    if not exists(database):
        raise StorageError(f"{database}: there is no database")
    try:
        connection = open_of_data(database)
        try:
            make_file(to)
            # The copy is opened as the database was: no link may be on its way.
            connection.execute("VACUUM INTO ?", (str(to.parent.resolve() / to.name),)).fetchall()
        finally:
            connection.close()
    except apsw.FullError as error:
        raise StorageError(f"{to}: no space left for the database") from error
    except apsw.CantOpenError as error:
        raise StorageError(f"{database} can't be copied to {to}: {error}") from error
    except apsw.Error as error:
        raise StorageError(f"{database} can't be copied ({error}): run `waypost storage check`") from error
    sync_file(to)


def open_of_data(database: Path) -> apsw.Connection:
    """Open a database that others may use. Raises `apsw.Error`."""
    path = database.parent.resolve() / database.name
    connection = apsw.Connection(str(path), flags=_OF_DATA)
    connection.set_busy_timeout(BUSY_MILLISECONDS)
    return connection


def sync_file(path: Path) -> None:
    """Make a file durable. Raises `OSError`."""
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def open_copy(database: Path) -> apsw.Connection:
    """Open a database that nobody changes, for reading. Raises `StorageError`."""
    require_file(database)
    flags = apsw.SQLITE_OPEN_READONLY | apsw.SQLITE_OPEN_URI
    try:
        return apsw.Connection(f"file:{quote(str(database.resolve()))}?immutable=1", flags=flags)
    except apsw.Error as error:
        raise StorageError(f"{database} can't be opened: {error}") from error


def require_whole(connection: apsw.Connection, database: Path) -> None:
    """See that a database is whole. Raises `StorageError`."""
    try:
        found = [words for (words,) in connection.execute("PRAGMA integrity_check(3)").fetchall()]
    except apsw.Error as error:
        found = [str(error)]
    if found != ["ok"]:
        raise StorageError(f"{database} is damaged: {'; '.join(found)}")


def schema_of(connection: apsw.Connection) -> int:
    """Return the number of a database's schema."""
    return int(connection.execute("PRAGMA user_version").get)


def life_of(connection: apsw.Connection) -> Life | None:
    """Return which storage a database is of; None for one that was never named."""
    named = connection.execute("SELECT 1 FROM sqlite_schema WHERE name = 'life'").get
    return read_row(connection) if named else None


def count_of(connection: apsw.Connection, table: str) -> int:
    """Return how many rows a table has."""
    return int(connection.execute(f"SELECT count(*) FROM {table}").get)
