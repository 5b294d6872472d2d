"""Reading the rows of a damaged database: unreadable parts are skipped, and the rows after them are found.

Indexes are not asked: each table is read in the order of its key. Where a page fails, the next key that can be reached
is searched for, in steps that double and are then halved.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import apsw

_LARGEST = (1 << 63) - 1
_UID_BITS = 32

# What a damaged page, a flipped bit in a text or a value of another kind makes SQLite say.
UNREADABLE = (apsw.CorruptError, apsw.IOError, apsw.NotADBError, apsw.SQLError, UnicodeDecodeError)

INTEGER_KEYS = {
    **dict.fromkeys(("segment", "unflushed", "message", "entry", "account", "mailbox", "journal"), ("rowid",)),
    "mailbox_message": ("mailbox", "uid"),
}
"""The tables in which the next key can be searched for."""

OTHERS = ("alias", "counter", "expunged", "message_name", "known_network", "life")
"""The others that hold what nobody can count anew; they are read from both ends."""


@dataclass
class Found:
    """What was read of one table. `holes`: how often something had to be skipped."""

    table: str
    rows: int = 0
    holes: int = 0
    words: list[str] = field(default_factory=list)

    def skip(self, error: Exception) -> None:
        """Something could not be read."""
        self.holes += 1
        if str(error) not in self.words and len(self.words) < 3:
            self.words.append(str(error))


def columns_of(connection: apsw.Connection, table: str) -> list[tuple[str, str]]:
    """Return names and types of a table's columns. Raises `apsw.Error`."""
    rows = connection.execute(f'SELECT name, type FROM pragma_table_info("{table}")').fetchall()
    return [(str(name), str(kind)) for name, kind in rows]


def read_table(
    connection: apsw.Connection, table: str, columns: Sequence[tuple[str, str]], found: Found
) -> Iterator[list[Any]]:
    """Yield every row that can be read; texts as octets, whatever they hold."""
    wanted = ", ".join(f"CAST({name} AS BLOB)" if kind == "TEXT" else name for name, kind in columns)
    if table in INTEGER_KEYS:
        yield from _by_number(connection, table, wanted, INTEGER_KEYS[table], found)
    else:
        yield from _from_both_ends(connection, table, wanted, found)


def _by_number(
    connection: apsw.Connection, table: str, wanted: str, key: tuple[str, ...], found: Found
) -> Iterator[list[Any]]:
    names = ", ".join(key)
    marks = ", ".join("?" * len(key))
    sql = f"SELECT {names}, {wanted} FROM {table} NOT INDEXED WHERE ({names}) >= ({marks}) ORDER BY {names}"
    seek = f"SELECT {names} FROM {table} NOT INDEXED WHERE ({names}) >= ({marks}) ORDER BY {names} LIMIT 1"
    position: int | None = 0
    while position is not None:
        start = position
        cursor = connection.cursor()
        try:
            for row in cursor.execute(sql, _key(position, key)):
                yield list(row[len(key) :])
                found.rows += 1
                position = _number(row[: len(key)]) + 1
            return
        except UNREADABLE as error:
            found.skip(error)
            position = _behind(connection, seek, key, max(start, position))
        finally:
            cursor.close()


def _behind(connection: apsw.Connection, seek: str, key: tuple[str, ...], failed: int) -> int | None:
    """Return the first key behind a place that can't be read at which reading can go on; None if there is none."""

    def look(number: int) -> int | None:
        """Return the key that is found from here, -1 if no row follows; None when it can't be read."""
        try:
            row = connection.execute(seek, _key(number, key)).fetchone()
        except UNREADABLE:
            return None
        return -1 if row is None else _number(row)

    step = 1
    while True:
        if failed + step > _LARGEST:
            return None
        reached = look(failed + step)
        if reached is not None:
            break
        step *= 2
    low, high = failed + step // 2, failed + step  # the first can't be read, the second can
    while high - low > 1:
        middle = (low + high) // 2
        nearer = look(middle)
        if nearer is None:
            low = middle
        else:
            high, reached = middle, nearer
    return None if reached < 0 else reached


def _key(number: int, key: tuple[str, ...]) -> tuple[int, ...]:
    return (number,) if len(key) == 1 else (number >> _UID_BITS, number & ((1 << _UID_BITS) - 1))


def _number(row: Sequence[Any]) -> int:
    return int(row[0]) if len(row) == 1 else int(row[0]) << _UID_BITS | int(row[1])


def _from_both_ends(connection: apsw.Connection, table: str, wanted: str, found: Found) -> Iterator[list[Any]]:
    for order in ("ASC", "DESC"):
        keys = ", ".join(f"{name} {order}" for name in _primary_key(connection, table)) or f"rowid {order}"
        cursor = connection.cursor()
        try:
            for row in cursor.execute(f"SELECT {wanted} FROM {table} NOT INDEXED ORDER BY {keys}"):
                yield list(row)
                found.rows += 1
            return
        except UNREADABLE as error:
            found.skip(error)
        finally:
            cursor.close()


def _primary_key(connection: apsw.Connection, table: str) -> list[str]:
    rows = connection.execute(f'SELECT name FROM pragma_table_info("{table}") WHERE pk > 0 ORDER BY pk').fetchall()
    return [str(name) for (name,) in rows]
