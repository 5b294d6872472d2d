"""The life of a storage: a random id and a mark that only grows, kept in the database and in the file `life` beside it.

A database that is put back from a backup has an older mark than the file, or none beside it, and so a restore is
noticed (docs/decisions/0021). The file never comes before the database: its mark is written after a commit.
"""

import os
import secrets
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import apsw
import msgspec

from waypost.counting import counted
from waypost.disk.files import exists
from waypost.disk.folders import sync_folder
from waypost.storage.errors import StorageError
from waypost.storage.sqlite.rows import text
from waypost.storage.sqlite.segments.segments import storage_error

FILE = "life"
_SIZE = 512  # octets: a sector, which is written whole or not at all
_FORMER = 8  # ids of former lives that are remembered

_SELECT = "SELECT CAST(id AS BLOB), mark, restores, CAST(former AS BLOB) FROM life"
_INSERT = "INSERT INTO life (id, mark, restores, former) VALUES (?, ?, ?, ?)"
_ADVANCE = "UPDATE life SET mark = mark + 1"


class Life(msgspec.Struct, frozen=True, array_like=True):
    """One moment in the life of a storage. `restores` counts how often it was restored; each gives a new `id`."""

    id: str
    mark: int = 0
    restores: int = 0
    former: tuple[str, ...] = ()

    def renewed(self, other: "Life | None") -> "Life":
        """Return the life of a storage that begins with this database, where `other` was before."""
        other = other or self
        former = dict.fromkeys((*self.former, *other.former, other.id, self.id))
        mark, restores = max(self.mark, other.mark) + 1, max(self.restores, other.restores) + 1
        return Life(new_id(), mark, restores, tuple(former)[-_FORMER:])


@dataclass(frozen=True, slots=True)
class LifeVerdict:
    """What database and file say of each other. `restored`: why the database is not the newest, in words."""

    life: Life
    restored: str | None = None


def new_id() -> str:
    """Return the id of a new life."""
    return secrets.token_hex(16)


def judge(row: Life | None, file: Life | None) -> LifeVerdict | None:
    """Compare what the database says (None: it was never named) with what the file says (None: there is no file).

    Returns None when they are of two storages.
    """
    if row is None:
        if file is None or not file.mark:  # a new one, or the crash of its first start
            return LifeVerdict(file or Life(new_id()))
        return LifeVerdict(Life(new_id()), "the database is of a time before its schema knew of restores")
    if file is None:
        return LifeVerdict(row, "the file that says how far the storage had come is gone, as after a restore by hand")
    if row.id == file.id:
        behind = file.mark - row.mark
        return LifeVerdict(
            row, f"the database is {counted(behind, 'mark')} older than the data directory" if behind > 0 else None
        )
    if file.id in row.former:  # a crash between the two steps of a restore
        return LifeVerdict(row)
    if row.id in file.former:
        return LifeVerdict(row, "the database is of a time before the last restore")
    return None


def read_file(data: Path) -> Life | None:
    """Return what the file says; None if there is none, or nothing that can be read. Raises `StorageError`."""
    try:
        octets = (data / FILE).read_bytes()
    except FileNotFoundError:
        return None
    except OSError as error:
        raise storage_error(error, str(data / FILE)) from error
    try:
        return msgspec.json.decode(octets.rstrip(b"\0\n "), type=Life)
    except msgspec.MsgspecError:
        return None


def write_file(data: Path, life: Life) -> None:
    """Make the file say this, durably. Raises `StorageError`."""
    octets = msgspec.json.encode(life).ljust(_SIZE - 1) + b"\n"
    path = data / FILE
    try:
        fresh = not exists(path)
        fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            os.pwrite(fd, octets, 0)
            os.fdatasync(fd)
        finally:
            os.close(fd)
        if fresh:
            sync_folder(data)
    except OSError as error:
        raise storage_error(error, f"{path}: could not be written") from error


def read_row(connection: apsw.Connection) -> Life | None:
    """Return what the database says; None when it was never named. Raises `apsw.Error`, `StorageError`."""
    return _life(connection.execute(_SELECT).fetchone())


def write_row(connection: apsw.Connection, life: Life) -> None:
    """Make the database say this, in a transaction of the caller."""
    connection.execute("DELETE FROM life").fetchall()
    connection.execute(_INSERT, (life.id, life.mark, life.restores, text(list(life.former)))).fetchall()


def advance(connection: apsw.Connection) -> Life | None:
    """Move the database's mark, in a transaction of the caller; the file follows after the commit.

    Returns None when the row that names the storage is gone or damaged: nothing can be told then. Raises `apsw.Error`.
    """
    connection.execute(_ADVANCE).fetchall()
    try:
        return read_row(connection)
    except StorageError:
        return None


def _life(row: tuple[Any, ...] | None) -> Life | None:
    if row is None:
        return None
    try:
        name, mark, restores, former = row
        return msgspec.convert((name.decode("ascii"), mark, restores, msgspec.json.decode(former)), Life)
    except (msgspec.MsgspecError, ValueError, AttributeError) as error:
        raise StorageError("the row of the database that names the storage can't be read") from error
