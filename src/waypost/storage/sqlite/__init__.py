"""The embedded engine: rows in SQLite, message bytes in append-only segment files, one group commit for both."""

import asyncio
import os
from collections.abc import Callable
from pathlib import Path

import apsw

from waypost.disk.folders import sync_folder
from waypost.message.trace import Micros
from waypost.storage import Storage
from waypost.storage.bus import Notice
from waypost.storage.errors import StorageError
from waypost.storage.sqlite.beside import Beside
from waypost.storage.sqlite.commit.space import Space
from waypost.storage.sqlite.commit.writer import Writer
from waypost.storage.sqlite.connection import connect_reading, translate
from waypost.storage.sqlite.directory import SqliteDirectory
from waypost.storage.sqlite.journal import SqliteJournal
from waypost.storage.sqlite.locks import Numbers
from waypost.storage.sqlite.mailboxes import SqliteMailboxes, forget_expunged
from waypost.storage.sqlite.networks import SqliteNetworks
from waypost.storage.sqlite.opening.mark import Mark
from waypost.storage.sqlite.opening.migrate import DATABASE, migrate
from waypost.storage.sqlite.opening.preparation import prepare
from waypost.storage.sqlite.queue.queue import SqliteQueue
from waypost.storage.sqlite.reading import Reading
from waypost.storage.sqlite.spool import SqliteSpool
from waypost.storage.sqlite.upkeep.maintenance import Housekeeping
from waypost.storage.sqlite.upkeep.shrinking import shrink

__all__ = ["DATABASE", "SqliteStorage", "migrate", "open_storage"]

_AT_ONCE = 1000  # rows that one commit removes
_REMEMBERED = 30 * 24 * 3600 * 1_000_000
"""Microseconds after which nobody is told which UIDs went (RFC 7162): whoever was away so long reads the list anew."""
_DAY = 24 * 3600 * 1_000_000
_KNOWN = 180 * _DAY  # without a login for so long, a network is a stranger again


class SqliteStorage:
    """An open storage of one process. `storage` has the parts; `close` when done."""

    def __init__(
        self,
        data: Path,
        *,
        now: Callable[[], Micros],
        threshold: int,
        space: Space,
        reading: Reading,
        writer: Writer,
        in_use: int,
        number: int,
    ) -> None:
        self._now = now
        self._in_use = in_use
        self._number = number
        self._writer = writer
        self._reading = reading
        self._spool = SqliteSpool(writer, reading, data, threshold, space)
        self._beside = Beside(data / DATABASE)
        self._journal = SqliteJournal(writer, reading, self._beside)
        self._housekeeping = Housekeeping(writer, reading, data, now)
        self._mark = Mark(writer, reading, data)
        self.storage = Storage(
            spool=self._spool,
            queue=SqliteQueue(writer, reading, self._beside, Numbers(data / "locks")),
            mailboxes=SqliteMailboxes(writer, reading, self._spool, data / "locks", now),
            directory=SqliteDirectory(writer, reading, self._beside),
            networks=SqliteNetworks(writer, reading),
            journal=self._journal,
        )

    @property
    def commits(self) -> int:
        """Group commits so far."""
        return self._writer.commits

    async def failed(self) -> None:
        """Return when nothing can be written any more, by a fault that only another process mends."""
        await self._writer.failed.wait()

    async def maintain(
        self, *, now: Micros | None = None, journal_age: Micros = 30 * _DAY, smallest: int = 1 << 20
    ) -> None:
        """Do the housekeeping once: segments of dead processes are sealed, space is given back, old rows go.

        For one process, every so often. `now` is the time by which they are old, `smallest` the size below which a
        segment isn't worth compacting. A step that fails keeps no other from being done. Raises `StorageError`,
        `OSError`.
        """
        now = self._now() if now is None else now
        failed: StorageError | OSError | None = None
        for step in (
            self._housekeeping.remove_empty,
            self._housekeeping.sweep,
            self._housekeeping.seal_abandoned,  # it may need the space that this gave back
            self._housekeeping.remove_empty,
            lambda: self._expire(now - journal_age),
            lambda: self.storage.networks.expire(now - _KNOWN),
            lambda: self._forget_expunged(now - _REMEMBERED),
            lambda: shrink(self._writer, self._reading),
            lambda: self._housekeeping.compact(smallest=smallest),  # last: it needs space for a while
        ):
            try:
                await step()
            except (StorageError, OSError) as error:  # a damaged page, say, that concerns one step
                failed = failed or error
        await self._mark.advance()
        if failed is not None:
            raise failed

    async def _expire(self, before: Micros) -> None:
        while await self._journal.expire(before, limit=_AT_ONCE) >= _AT_ONCE:
            continue

    async def _forget_expunged(self, before: Micros) -> None:
        while await self._writer.call(lambda connection: forget_expunged(connection, before, _AT_ONCE)) >= _AT_ONCE:
            continue

    async def close(self) -> None:
        """Commit all waiting operations, then close everything."""
        self._spool.close()
        await self._mark.leave()
        await self._writer.close()
        await self._beside.close()
        self._reading.close()
        os.close(self._number)
        os.close(self._in_use)


async def open_storage(
    data: Path,
    *,
    now: Callable[[], Micros],
    worker: int,
    publish: Callable[[Notice], None],
    memory_per_message: int,
    segment_size: int = 64 << 20,
    reserve: int | None = None,
) -> SqliteStorage:
    """Open the storage under `data`, making it or bringing its schema up to date when needed.

    `worker` is this process's number; `publish` is told what changed, after each commit. New
    mail leaves `reserve` octets of the disk free (64 MiB, or a twentieth of a small disk). Raises `StorageError`.
    """
    loop = asyncio.get_running_loop()
    try:
        in_use = await loop.run_in_executor(None, prepare, data, now())
        try:
            reading = Reading(connect_reading(data / DATABASE))
            # SQLite makes the name of its log durable only when the connection that made the file is the first to sync
            # it. Here that is this one, which never writes. So a power loss could take the whole log away.
            await loop.run_in_executor(None, sync_folder, data)
            space = Space(data, reserve)
            number = Numbers(data / "locks").hold(worker)
            try:
                writer = Writer(data, worker=worker, segment_size=segment_size, space=space, publish=publish, now=now)
            except BaseException:
                os.close(number)
                raise
        except BaseException:
            os.close(in_use)
            raise
    except (apsw.Error, OSError) as error:
        raise translate(error) from error
    return SqliteStorage(
        data,
        now=now,
        threshold=memory_per_message,
        space=space,
        reading=reading,
        writer=writer,
        in_use=in_use,
        number=number,
    )
