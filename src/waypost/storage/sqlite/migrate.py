"""Schema changes: numbered files, each applied in one transaction, tried on a snapshot first, undone by it.

`PRAGMA user_version` holds the number of the last file applied. The snapshot stays under `data/snapshots/`: to go
back to an older program, put it in the place of the database while the service is stopped.
"""

import importlib.resources
import re
from pathlib import Path

import apsw

from waypost.storage.errors import StorageError

DATABASE = "waypost.db"


def migrations() -> list[tuple[int, str, str]]:
    """Return (number, name, SQL) of every schema change, in order."""
    found = []
    for file in importlib.resources.files("waypost.storage.sqlite").joinpath("migrations").iterdir():
        match = re.fullmatch(r"(\d{4})_(\w+)\.sql", file.name)
        if match:
            found.append((int(match[1]), match[2], file.read_text()))
    return sorted(found)


def migrate(data: Path, steps: list[tuple[int, str, str]] | None = None) -> int:
    """Bring the database in `data` to the newest schema; return how many steps were taken.

    Call it with no other process on the database. Raises `StorageError` when a step fails on the snapshot (the
    database is then untouched), or when the database is newer than this program.
    """
    steps = migrations() if steps is None else steps
    path = data / DATABASE
    connection = apsw.Connection(str(path))
    try:
        connection.execute("PRAGMA journal_mode=WAL").fetchall()
        version = int(connection.execute("PRAGMA user_version").get)
        newest = steps[-1][0] if steps else 0
        if version > newest:
            raise StorageError(
                f"{path}: its schema is number {version}, this program knows {newest}: use a newer Waypost, or "
                f"restore a snapshot from {data / 'snapshots'}"
            )
        wanted = [step for step in steps if step[0] > version]
        if wanted and version:
            _try_on_snapshot(connection, data, version, wanted)
        for number, name, sql in wanted:
            _apply(connection, path, number, name, sql)
        return len(wanted)
    finally:
        connection.close()


def _try_on_snapshot(connection: apsw.Connection, data: Path, version: int, wanted: list[tuple[int, str, str]]) -> None:
    folder = data / "snapshots"
    folder.mkdir(exist_ok=True, mode=0o700)
    snapshot, trial = folder / f"schema-{version:04}.db", folder / "trial.db"
    for path in (snapshot, trial):
        path.unlink(missing_ok=True)
        connection.execute("VACUUM INTO ?", (str(path),))
    rehearsal = apsw.Connection(str(trial))
    try:
        for number, name, sql in wanted:
            _apply(rehearsal, trial, number, name, sql)
    finally:
        rehearsal.close()
        trial.unlink(missing_ok=True)


def _apply(connection: apsw.Connection, path: Path, number: int, name: str, sql: str) -> None:
    try:
        with connection:
            connection.execute(sql)
            problems = connection.execute("PRAGMA integrity_check(1)").get
            if problems != "ok":
                raise StorageError(f"{path}: after schema change {number}: {problems}")
            connection.execute(f"PRAGMA user_version={number}")
    except apsw.Error as error:
        raise StorageError(f"{path}: schema change {number} ({name}) failed: {error}") from error
