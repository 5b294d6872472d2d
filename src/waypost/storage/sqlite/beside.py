"""Reading beside the event loop: a thread with a connection of its own, for questions whose cost grows with what is
stored. It is there from the first such question on.

Short questions, which cost by what they return, are asked in the event loop (`reading.py`): they take some
microseconds, and handing them to a thread would cost more.
"""

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, TypeVar

import apsw

from waypost.storage.errors import StorageError
from waypost.storage.sqlite.connection import connect_reading, translate
from waypost.storage.sqlite.reading import Reading, Values

T = TypeVar("T")


class Beside:
    """Asks in a thread, one question after the other. All methods raise `StorageError`."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._thread: ThreadPoolExecutor | None = None
        self._reading: Reading | None = None
        self._closed = False

    async def run(self, ask: Callable[[Reading], T]) -> T:
        """Return what a function of a `Reading` returns; it runs in the thread."""
        if self._closed:
            raise StorageError("the storage is closed")
        if self._thread is None:
            self._thread = ThreadPoolExecutor(1, thread_name_prefix="waypost-reading")
        try:
            asking = asyncio.get_running_loop().run_in_executor(self._thread, self._ask, ask)
        except RuntimeError as error:  # no thread can be had
            raise StorageError(f"the database can't be read: {error}") from error
        return await asking

    async def rows(self, sql: str, values: Values = ()) -> list[Any]:
        """Return all rows, each a tuple."""
        return await self.run(lambda reading: reading.rows(sql, values))

    def _ask(self, ask: Callable[[Reading], T]) -> T:
        if self._reading is None:
            try:
                self._reading = Reading(connect_reading(self._path))
            except (apsw.Error, OSError) as error:
                raise translate(error) from error
        return ask(self._reading)

    async def close(self) -> None:
        """Let the question that is asked now be answered, then close the connection."""
        self._closed = True
        if self._thread is not None:
            thread, self._thread = self._thread, None
            await asyncio.get_running_loop().run_in_executor(None, thread.shutdown)
        if self._reading is not None:
            self._reading.close()
