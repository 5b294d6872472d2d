"""Schema changes: numbered files, each applied in one transaction, tried on a copy first, undone by a snapshot.

`PRAGMA user_version` holds the number of the last file applied. The snapshot of the schema before stays under
`data/snapshots/`: to go back to an older program, stop the service and put it in the place of the database.
"""

import importlib.resources
import re
from functools import cache
from pathlib import Path

import apsw

from waypost.disk.files import exists, make_file
from waypost.disk.folders import sync_folder
from waypost.storage.errors import StorageError
from waypost.storage.sqlite.connection import BUSY_MILLISECONDS
from waypost.storage.sqlite.opening.shrinkable import allow_shrinking

DATABASE = "waypost.db"

Step = tuple[int, str, str]
"""Number, name and SQL of one schema change."""


@cache  # a process that gives up root can't always read the program's files any more
def migrations() -> list[Step]:
    """Return every schema change, in order."""
    found = []
    for file in importlib.resources.files("waypost.storage.sqlite").joinpath("migrations").iterdir():
        match = re.fullmatch(r"(\d{4})_(\w+)\.sql", file.name)
        if match:
            found.append((int(match[1]), match[2], file.read_text()))
    return sorted(found)


def pending(data: Path, steps: list[Step] | None = None) -> list[Step]:
    """Return the steps that the database in `data` lacks. Raises `StorageError` when it is newer than this program."""
    steps = migrations() if steps is None else steps
    version = _version(data / DATABASE)
    newest = steps[-1][0] if steps else 0
    if version > newest:
        raise StorageError(
            f"{data / DATABASE}: its schema is number {version}, this program knows {newest}: use a newer Waypost, or "
            f"restore a snapshot from {data / 'snapshots'}"
        )
    return [step for step in steps if step[0] > version]


def migrate(data: Path, steps: list[Step] | None = None) -> int:
    """Bring the database in `data` to the newest schema; return how many steps were taken.

    Call it with no other process on the database. Raises `StorageError` when a step fails on the copy (the
    database is then untouched), or when the database is newer than this program.
    """
    wanted = pending(data, steps)
    if not wanted:
        return 0
    path = data / DATABASE
    make_file(path)  # SQLite gives the files beside it the same mode
    connection = apsw.Connection(str(path))
    try:
        if not connection.execute("PRAGMA page_count").get:
            allow_shrinking(connection)
        connection.execute("PRAGMA journal_mode=WAL").fetchall()
        version = int(connection.execute("PRAGMA user_version").get)
        if version:
            _try_on_copy(connection, data, version, wanted)
        for step in wanted:
            _apply(connection, path, step)
        allow_shrinking(connection)
    finally:
        connection.close()
    sync_folder(data)
    return len(wanted)


def _version(path: Path) -> int:
    if not exists(path):
        return 0
    connection = apsw.Connection(str(path))
    connection.set_busy_timeout(BUSY_MILLISECONDS)  # another process may just open its log, which it does alone
    try:
        return int(connection.execute("PRAGMA user_version").get)
    finally:
        connection.close()


def _try_on_copy(connection: apsw.Connection, data: Path, version: int, wanted: list[Step]) -> None:
    """Keep a snapshot, and take all steps on a copy of it. Raises `StorageError`."""
    folder = data / "snapshots"
    folder.mkdir(exist_ok=True, mode=0o700)
    for path in folder.glob("*.db"):  # earlier versions left them to the umask
        path.chmod(0o600)
    snapshot, copy = folder / f"schema-{version:04}.db", folder / "trial.db"
    try:
        for path in (snapshot.with_suffix(".new"), copy):
            path.unlink(missing_ok=True)
            make_file(path)
            connection.execute("VACUUM INTO ?", (str(path),)).fetchall()
        snapshot.with_suffix(".new").rename(snapshot)
        sync_folder(folder)
        sync_folder(data)
        trial = apsw.Connection(str(copy))
        try:
            for step in wanted:
                _apply(trial, copy, step)
        finally:
            trial.close()
    except (apsw.FullError, OSError) as error:
        raise StorageError(
            f"{folder}: no snapshot of the database could be made, so its schema was left alone: {error}"
        ) from error
    finally:
        copy.unlink(missing_ok=True)


def _apply(connection: apsw.Connection, path: Path, step: Step) -> None:
    number, name, sql = step
    try:
        with connection:
            connection.execute(sql).fetchall()
            problems = connection.execute("PRAGMA integrity_check(1)").get
            if problems != "ok":
                raise StorageError(f"{path}: after schema change {number} ({name}): {problems}")
            connection.execute(f"PRAGMA user_version={number}").fetchall()
    except apsw.Error as error:
        raise StorageError(f"{path}: schema change {number} ({name}) failed: {error}") from error
