"""The mark of a storage while it is used: it moves with the housekeeping and at the end, when anything was written.

So a database that is put back is at most a minute of work behind the file without being told.
"""

import asyncio
import logging
from pathlib import Path

from waypost.storage.errors import StorageError
from waypost.storage.sqlite.commit.writer import Writer
from waypost.storage.sqlite.opening import life as lives
from waypost.storage.sqlite.reading import Reading

log = logging.getLogger(__name__)


class Mark:
    """Moves the mark, in the database and then in the file."""

    def __init__(self, writer: Writer, reading: Reading, data: Path) -> None:
        self._writer = writer
        self._reading = reading
        self._data = data
        self._version = self._changes()
        self._commits = writer.commits

    def _changes(self) -> object:
        """Return what differs after any process has written."""
        return self._reading.value("PRAGMA data_version")

    async def advance(self) -> None:
        """Move it when anybody has written since. Raises `StorageError`."""
        if self._changes() == self._version:
            return
        fresh = await self._writer.call(lives.advance)
        if fresh is not None:
            await asyncio.get_running_loop().run_in_executor(None, lives.write_file, self._data, fresh)
        self._version, self._commits = self._changes(), self._writer.commits

    async def leave(self) -> None:
        """Move it when this process has written since; what goes wrong is logged."""
        if self._writer.commits == self._commits:
            return
        try:
            await self.advance()
        except StorageError as error:
            log.warning("the mark of the storage was not moved", extra={"fields": {"error": str(error)}})
