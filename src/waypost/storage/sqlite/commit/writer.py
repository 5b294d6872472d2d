"""The writer: one thread a process that commits whatever waits, together.

All sessions that wait are served by one commit of the database, behind one flush of the segment where there is much to
write. Two processes take turns by a file lock, which wakes the next at once, unlike the database's own polling.
"""

import asyncio
import contextlib
import fcntl
import logging
import os
import queue
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, TypeVar

import apsw

from waypost.message.trace import Micros
from waypost.storage.bus import Notice
from waypost.storage.errors import Damaged, StorageError
from waypost.storage.sqlite.commit.batch import Batch
from waypost.storage.sqlite.commit.checkpoint import Checkpointer
from waypost.storage.sqlite.commit.copies import Copies
from waypost.storage.sqlite.commit.gathering import Gathering, Waiting
from waypost.storage.sqlite.commit.octets import Octets
from waypost.storage.sqlite.commit.operation import Operation
from waypost.storage.sqlite.commit.space import Space
from waypost.storage.sqlite.connection import connect, translate
from waypost.storage.sqlite.opening.migrate import DATABASE
from waypost.storage.sqlite.segments.bodies import body_of
from waypost.storage.sqlite.segments.numbering import Numbering
from waypost.storage.sqlite.segments.segments import Location
from waypost.storage.sqlite.upkeep.remaking import LARGE, SMALL, damaged, remake

log = logging.getLogger(__name__)
T = TypeVar("T")

_FLUSHES = 4  # large messages that are flushed at a time
_LOOK_EVERY = 10_000_000  # microseconds, while damage is met
_LOOK_AT_LARGE_EVERY = 600_000_000  # ... at tables that take a while to look at


class Writer:
    """Commits operations in groups, in a thread of its own."""

    def __init__(
        self,
        data: Path,
        *,
        worker: int,
        segment_size: int,
        space: Space,
        publish: Callable[[Notice], None],
        now: Callable[[], Micros],
    ) -> None:
        self._loop = asyncio.get_running_loop()
        self._publish = publish
        self._now = now
        self._data = data
        self._looked_at: dict[str, Micros] = {}  # when tables were last looked at for damage
        self._groups: queue.SimpleQueue[list[Waiting]] = queue.SimpleQueue()  # an empty one is the last
        self.gathering = Gathering(self._loop, self._groups.put)
        self._connection = connect(data / DATABASE)
        self._lock = os.open(data / "writer.lock", os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600)
        folder = data / "segments"
        numbering = Numbering(self._connection, folder, worker, self._turn)
        self._copies = Copies()
        self._octets = Octets(folder, segment_size=segment_size, space=space, numbering=numbering, copies=self._copies)
        self.flushing = ThreadPoolExecutor(_FLUSHES, thread_name_prefix="waypost-flush")
        """Threads that wait for the disk to take large messages."""
        self._writing: set[asyncio.Task[Any]] = set()
        self._ended = False
        self._closing = False
        self.failed = asyncio.Event()
        """Set when the thread ended though nobody closed it: only another process can write now."""
        self.commits = 0
        self._log_size = 0
        self._page_size = int(self._connection.pragma("page_size"))
        self._connection.set_wal_hook(self._grown)
        self._checkpointer = Checkpointer(data, space.log)
        self._thread = threading.Thread(target=self._run, name="waypost-writer", daemon=True)
        self._thread.start()

    def submit(self, operation: Operation) -> asyncio.Future[Any]:
        """Queue an operation; the future has its result when it is durable, or a `StorageError` or one of its kinds.

        It is committed even when nobody waits any more.
        """
        future: asyncio.Future[Any] = self._loop.create_future()
        if self._ended:
            future.set_exception(StorageError("the storage is closed"))
            return future
        for message in operation.messages:
            body_of(message).lend()
        for file in operation.files:
            file.hold()
        self.gathering.add(Waiting(operation, future))
        return future

    async def write_large(self, operation: Operation) -> Any:
        """Commit an operation with large messages, whose octets are made durable before: nobody else waits for that.

        It is committed even when nobody waits any more. Raises `StorageError` and its kinds.
        """
        if self._closing:
            raise StorageError("the storage is closed")
        for message in operation.messages:
            body_of(message).lend()
        writing = self._loop.create_task(self._flush_and_write(operation))
        self._writing.add(writing)
        writing.add_done_callback(self._written)
        return await asyncio.shield(writing)

    async def _flush_and_write(self, operation: Operation) -> Any:
        bodies = [body_of(message) for message in operation.messages]
        try:
            for message, body in zip(operation.messages, bodies, strict=True):
                await body.make_durable(message.trace, message.head, self.flushing)
            return await self.submit(operation)
        finally:
            for body in bodies:
                body.give_back()

    def _written(self, writing: "asyncio.Task[Any]") -> None:
        self._writing.discard(writing)
        if not writing.cancelled():
            writing.exception()  # the waiting callers have got it

    async def write(self, operation: Operation) -> Any:
        """Commit an operation; returns its result when it is durable. Raises `StorageError` and its kinds."""
        return await self.submit(operation)

    async def write_all(self, operations: Sequence[Operation]) -> list[Any]:
        """Commit several operations, in one group where they fit; returns their results when all are done.

        Raises the first error.
        """
        futures = [self.submit(operation) for operation in operations]
        results = await asyncio.gather(*futures, return_exceptions=True)
        for outcome in results:
            if isinstance(outcome, BaseException):
                raise outcome
        return results

    async def call(
        self,
        function: Callable[[apsw.Connection], T],
        notices: Callable[[T], Sequence[Notice]] | None = None,
        *,
        patient: bool = False,
    ) -> T:
        """Run a function in a write transaction; returns its result when it is durable.

        It may run twice: the first time is undone when another operation spoils the commit.
        """

        def stage(batch: Batch) -> T:
            batch.flush()
            return function(batch.connection)

        operation = Operation(stage, notices, patient=patient) if notices else Operation(stage, patient=patient)
        result: T = await self.write(operation)
        return result

    async def close(self) -> None:
        """Commit all waiting operations, then stop."""
        if self._writing:
            await asyncio.wait(self._writing)
        self._closing = True
        if waiting := self.gathering.take():
            self._groups.put(waiting)
        self._groups.put([])
        await self._loop.run_in_executor(None, self._thread.join)
        await self._loop.run_in_executor(None, self._checkpointer.close)
        self.flushing.shutdown(wait=False)
        self._octets.close()
        self._connection.close()
        os.close(self._lock)

    # In the writer's thread.

    def _run(self) -> None:
        group: list[Waiting] = []
        try:
            while group := self._take():
                self._commit_group(group)
                self._loop.call_soon_threadsafe(self._committed, group)
                group = []
                self._checkpointer.look(self._log_size)
            self._finish()
        except BaseException as error:  # a bug, or no memory: nobody may wait for ever for a thread that is gone
            log.critical("the storage's writer ended", exc_info=error)
        finally:
            with contextlib.suppress(RuntimeError):  # the loop is closed: nobody waits
                self._loop.call_soon_threadsafe(self._end, group)

    def _finish(self) -> None:
        """Flush the open segment, and take its copies away."""
        self._octets.close()
        if self._copies.needless:
            try:
                self._transaction([], {})
            except (apsw.Error, OSError) as error:  # the next process that opens the storage removes them
                log.warning("copies of octets not removed", extra={"fields": {"error": str(translate(error))}})

    def _grown(self, connection: apsw.Connection, name: str, pages: int) -> int:
        """SQLite tells how many pages the log has after a commit."""
        self._log_size = pages * self._page_size
        return 0  # SQLITE_OK

    def _take(self) -> list[Waiting]:
        return self._groups.get()

    def _commit_group(self, group: list[Waiting]) -> None:
        """Commit a group; each of it gets its result or its own error."""
        try:
            written = self._octets.write([waiting.operation for waiting in group])
        except Exception as error:  # noqa: BLE001  any error is delivered to the operations' futures
            for waiting in group:
                waiting.error = translate(error)
            return
        for waiting in group:
            failure = written.errors.get(id(waiting.operation))
            waiting.error = None if failure is None else translate(failure)
        self._commit_rows([waiting for waiting in group if waiting.error is None], written.locations)

    def _commit_rows(self, group: list[Waiting], locations: Mapping[int, Location]) -> None:
        """Commit the rows of a group; when that fails, each half of it, so that one never spoils the others."""
        if not group:
            return
        try:
            self._transaction(group, locations)
        except Exception as error:  # noqa: BLE001  as above
            self._leave_in_doubt(group, error)
            if len(group) > 1:
                middle = len(group) // 2
                self._commit_rows(group[:middle], locations)
                self._commit_rows(group[middle:], locations)
            elif self._mended(error):
                self._commit_rows(group, locations)
            else:
                group[0].error = translate(error)

    def _mended(self, error: Exception) -> bool:
        """After damage was met: make those damaged tables anew for which all mail would wait; False for others."""
        if not isinstance(translate(error), Damaged):
            return False
        now = self._now()
        wanted = [
            table
            for tables, every in ((SMALL, _LOOK_EVERY), (LARGE, _LOOK_AT_LARGE_EVERY))
            for table in tables
            if table not in self._looked_at or abs(now - self._looked_at[table]) >= every
        ]
        self._looked_at.update(dict.fromkeys(wanted, now))
        done = []
        try:
            if suspected := damaged(self._connection, wanted):  # nobody else waits for that
                with self._turn():
                    for table in damaged(self._connection, suspected):
                        done.append(remake(self._connection, self._data, table, now))
        except (apsw.Error, OSError) as failed:
            log.error("a damaged table was not made anew", extra={"fields": {"error": str(failed)}})
            return False
        for fields in done:
            log.error("a damaged table was made anew: run `waypost storage check --repair`", extra={"fields": fields})
        return bool(done)

    def _transaction(self, group: list[Waiting], locations: Mapping[int, Location]) -> None:  # hot: bench/accept
        batch = Batch(self._connection, locations)
        messages = [message for waiting in group for message in waiting.operation.messages]
        with self._turn():
            if self._connection.in_transaction:  # a rollback that failed
                self._connection.execute("ROLLBACK")
            self._connection.execute("BEGIN IMMEDIATE")
            try:
                batch.octets_of(messages)
                for waiting in group:
                    waiting.result = waiting.operation.stage(batch)
                batch.flush()
                self._copies.stage(self._connection)
                self._connection.execute("COMMIT")
            except BaseException:
                if self._connection.in_transaction:
                    self._connection.execute("ROLLBACK")
                raise
        self._copies.committed()
        self.commits += 1
        stored = set(map(id, batch.stored))
        for message in messages:
            if (file := body_of(message).file) is not None:
                file.kept = id(message) in stored  # whatever an earlier try of this group left in doubt
        for waiting in group:
            for file in waiting.operation.files:
                file.kept = True

    @staticmethod
    def _leave_in_doubt(group: list[Waiting], error: Exception) -> None:
        """After a commit that failed for another reason than space, a crash could still bring its rows to light.

        So numbered files stay for the housekeeping, which asks the database; only a full disk gets its space back now.
        """
        if isinstance(error, apsw.FullError):  # SQLite could not write all of it: there is no commit to come to light
            return
        for waiting in group:
            files = [body_of(message).file for message in waiting.operation.messages]
            for file in (*files, *waiting.operation.files):
                if file is not None:
                    file.kept = True

    @contextlib.contextmanager
    def _turn(self) -> Iterator[None]:
        """Hold the lock that writers of all processes take in turn."""
        fcntl.flock(self._lock, fcntl.LOCK_EX)
        try:
            yield
        finally:
            fcntl.flock(self._lock, fcntl.LOCK_UN)

    # In the event loop's thread.

    def _committed(self, group: list[Waiting]) -> None:
        try:
            self._answer(group)
        finally:  # a fault of ours in telling must not keep the next commit for ever
            self.gathering.ended()

    def _answer(self, group: list[Waiting]) -> None:
        notices: dict[Notice, None] = {}
        for waiting in group:
            try:
                notices.update(dict.fromkeys(self._give_back(waiting)))
            except Exception:  # a bug of ours: the commit stands, and its callers are told so
                log.exception("the end of a commit could not be told to all")
            if waiting.future.done():
                continue  # the caller was cancelled
            if waiting.error is None:
                waiting.future.set_result(waiting.result)
            else:
                waiting.future.set_exception(waiting.error)
        for notice in notices:
            self._publish(notice)

    @staticmethod
    def _give_back(waiting: Waiting) -> Iterable[Notice]:
        """Let go of an operation's octets; returns what is to be published of it."""
        for message in waiting.operation.messages:
            body_of(message).give_back()
        for file in waiting.operation.files:
            file.let_go()
        return waiting.operation.notices(waiting.result) if waiting.error is None else ()

    def _end(self, group: list[Waiting]) -> None:
        """The thread has ended: fail all waiting operations, and those that come later."""
        self._ended = True
        if not self._closing:
            self.failed.set()
        with contextlib.suppress(queue.Empty):
            while True:
                group.extend(self._groups.get_nowait())
        group.extend(self.gathering.take())
        for waiting in group:
            waiting.error = StorageError("the storage is closed")
        self._answer(group)
