"""Reading rows, with errors that are the storage's own.

Whatever SQLite says on the way (a damaged page, no memory, no descriptor) is raised as `StorageError`: who asked waits,
or answers 451, and nobody dies of a question.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, TypeVar

import apsw

from waypost.storage.sqlite.connection import translate

Values = Sequence[Any] | Mapping[str, Any]
T = TypeVar("T")


class Reading:
    """Asks one connection. All methods raise `StorageError`."""

    __slots__ = ("_connection",)

    def __init__(self, connection: apsw.Connection) -> None:
        self._connection = connection

    def rows(self, sql: str, values: Values = ()) -> list[Any]:
        """Return all rows, each a tuple."""
        return self._ask(sql, values, apsw.Cursor.fetchall)

    def row(self, sql: str, values: Values = ()) -> tuple[Any, ...] | None:
        """Return the first row; None if there is none."""
        found: tuple[Any, ...] | None = self._ask(sql, values, apsw.Cursor.fetchone)
        return found

    def value(self, sql: str, values: Values = ()) -> Any:
        """Return the first value of the first row; None if there is none."""
        return self._ask(sql, values, _first)

    def _ask(self, sql: str, values: Values, take: Callable[[apsw.Cursor], T]) -> T:
        try:
            return take(self._connection.execute(sql, values))
        except (apsw.Error, MemoryError, UnicodeDecodeError) as error:
            raise translate(error) from error

    @contextmanager
    def moment(self) -> Iterator[None]:
        """Let all questions within see one moment of the database. Nothing may be awaited within."""
        self._ask("BEGIN", (), apsw.Cursor.fetchall)
        try:
            yield
        finally:
            self._ask("ROLLBACK", (), apsw.Cursor.fetchall)

    def close(self) -> None:
        """Close the connection."""
        self._connection.close()


def _first(cursor: apsw.Cursor) -> Any:
    return cursor.get
