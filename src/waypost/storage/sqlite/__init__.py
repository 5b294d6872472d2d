"""The embedded engine: rows in SQLite, message bytes in append-only segment files, one group commit for both."""

import asyncio
import fcntl
import os
from collections.abc import Callable
from pathlib import Path

import apsw

from waypost.message.trace import Micros
from waypost.storage import Storage
from waypost.storage.bus import Notice
from waypost.storage.sqlite.directory import SqliteDirectory
from waypost.storage.sqlite.journal import SqliteJournal
from waypost.storage.sqlite.mailboxes import SqliteMailboxes
from waypost.storage.sqlite.maintenance import Compaction
from waypost.storage.sqlite.migrate import DATABASE, migrate
from waypost.storage.sqlite.queue import SqliteQueue
from waypost.storage.sqlite.spool import SqliteSpool
from waypost.storage.sqlite.writer import Writer, connect, translate

__all__ = ["DATABASE", "SqliteStorage", "migrate", "open_storage"]

_AT_ONCE = 10_000
_DAY = 24 * 3600 * 1_000_000


class SqliteStorage:
    """An open storage of one process. `storage` has the parts; `close` when done."""

    def __init__(self, data: Path, *, now: Callable[[], Micros], worker: int, threshold: int, writer: Writer) -> None:
        self._now = now
        self._writer = writer
        self._reading = connect(data / DATABASE)
        spool = SqliteSpool(writer, self._reading, data, threshold)
        self._spool = spool
        self._compaction = Compaction(writer, self._reading, data, worker)
        self._journal = SqliteJournal(writer, self._reading)
        self.storage = Storage(
            spool=spool,
            queue=SqliteQueue(writer, self._reading),
            mailboxes=SqliteMailboxes(writer, self._reading, spool),
            directory=SqliteDirectory(writer, self._reading),
            journal=self._journal,
        )

    @property
    def commits(self) -> int:
        """Group commits so far."""
        return self._writer.commits

    async def maintain(
        self, *, live_workers: frozenset[int], journal_age: Micros = 30 * _DAY, smallest: int = 1 << 20
    ) -> None:
        """Do the housekeeping once; run it in one process every so often. Raises `StorageError`."""
        now = self._now()
        await self._compaction.seal_abandoned(live_workers)
        await self._compaction.remove_empty()
        await self._compaction.compact(smallest=smallest)
        await asyncio.get_running_loop().run_in_executor(None, self._compaction.sweep)
        await self._spool.expire_unconfirmed(now - _DAY)
        while await self._journal.expire(now - journal_age, limit=_AT_ONCE) >= _AT_ONCE:
            continue

    async def close(self) -> None:
        """Commit what waits, then close everything."""
        await self._spool.flush_confirmed()
        await self._writer.close()
        self._spool.reader.close()
        self._reading.close()


async def open_storage(
    data: Path,
    *,
    now: Callable[[], Micros],
    worker: int,
    publish: Callable[[Notice], None],
    memory_per_message: int,
    segment_size: int = 64 << 20,
) -> SqliteStorage:
    """Open the storage under `data`, making it or bringing its schema up to date when needed.

    `worker` is this process's number; `publish` is told what changed, after each commit. Raises `StorageError`.
    """
    loop = asyncio.get_running_loop()
    try:
        await loop.run_in_executor(None, _prepare, data)
        writer = Writer(data, worker=worker, segment_size=segment_size, publish=publish)
        return SqliteStorage(data, now=now, worker=worker, threshold=memory_per_message, writer=writer)
    except (apsw.Error, OSError) as error:
        raise translate(error) from error


def _prepare(data: Path) -> None:
    data.mkdir(parents=True, exist_ok=True, mode=0o700)
    (data / "segments").mkdir(exist_ok=True, mode=0o700)
    lock = os.open(data / "migrate.lock", os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX)
        migrate(data)
    finally:
        os.close(lock)
