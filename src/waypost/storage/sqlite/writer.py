"""The writer: one thread a process that commits whatever waits, together.

All sessions that wait are served by one fdatasync of the segment and one commit of the database. Two processes take
turns by a file lock, which wakes the next at once, unlike the database's own polling.
"""

import asyncio
import contextlib
import fcntl
import logging
import os
import queue
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Protocol, TypeVar

import apsw

from waypost.storage.bus import Notice
from waypost.storage.errors import StorageError, StorageFull
from waypost.storage.sqlite.batch import Batch
from waypost.storage.sqlite.migrate import DATABASE
from waypost.storage.sqlite.segments import OpenSegment

log = logging.getLogger(__name__)
T = TypeVar("T")

_MOST_AT_ONCE = 512
_WAL_LIMIT = 32 * 1024 * 1024


class Operation(Protocol):
    """Something to write: octets first, then rows; the result is known after the commit."""

    def prepare(self, batch: Batch) -> None:
        """Hand over octets, with `batch.add_bytes`; before the transaction."""
        ...

    def stage(self, batch: Batch) -> None:
        """Add rows to the batch, or run statements on `batch.connection` after `batch.flush()`."""
        ...

    def result(self) -> Any:
        """Return what the caller waits for."""
        ...

    def notices(self) -> Sequence[Notice]:
        """Return what to publish after the commit."""
        ...


class Call:
    """An operation that runs a function on the connection."""

    def __init__(
        self,
        function: Callable[[apsw.Connection], Any],
        notices: Callable[[Any], Sequence[Notice]] | None = None,
    ) -> None:
        self._function = function
        self._notices = notices
        self._result: Any = None

    def prepare(self, batch: Batch) -> None:
        """Nothing: a function has no octets."""

    def stage(self, batch: Batch) -> None:
        """Run the function, after everything before it in the group."""
        batch.flush()
        self._result = self._function(batch.connection)

    def result(self) -> Any:
        """Return what the function returned."""
        return self._result

    def notices(self) -> Sequence[Notice]:
        """Return the notices that the result asks for."""
        return self._notices(self._result) if self._notices else ()


def connect(path: Path) -> apsw.Connection:
    """Open the database as every part of this engine does."""
    connection = apsw.Connection(str(path))
    connection.set_busy_timeout(30_000)
    for pragma in (
        "journal_mode=WAL",
        "synchronous=FULL",
        "wal_autocheckpoint=0",
        "cache_size=-16000",
        "temp_store=MEMORY",
    ):
        connection.execute(f"PRAGMA {pragma}").fetchall()
    return connection


def translate(error: BaseException) -> BaseException:
    """Return the storage error for what SQLite or the system said; other errors as they are."""
    if isinstance(error, apsw.FullError | apsw.ReadOnlyError | apsw.CantOpenError):
        return StorageFull(str(error))
    if isinstance(error, apsw.Error):
        return StorageError(f"{type(error).__name__}: {error}")
    return error


class Writer:
    """Commits operations in groups, in a thread of its own."""

    def __init__(self, data: Path, *, worker: int, segment_size: int, publish: Callable[[Notice], None]) -> None:
        self._loop = asyncio.get_running_loop()
        self._data = data
        self._folder = data / "segments"
        self._worker = worker
        self._segment_size = segment_size
        self._publish = publish
        self._waiting: queue.SimpleQueue[tuple[Operation, asyncio.Future[Any]] | None] = queue.SimpleQueue()
        self._connection = connect(data / DATABASE)
        self._lock = os.open(data / "writer.lock", os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600)
        self._segment: OpenSegment | None = None
        self.commits = 0
        self._checkpointer = Checkpointer(data)
        self._thread = threading.Thread(target=self._run, name="waypost-writer", daemon=True)
        self._thread.start()

    async def write(self, operation: Operation) -> Any:
        """Commit an operation; returns its result when it is durable. Raises `StorageError` and its kinds."""
        future: asyncio.Future[Any] = self._loop.create_future()
        self._waiting.put((operation, future))
        return await future

    async def write_all(self, operations: Sequence[Operation]) -> None:
        """Commit several operations, in one group where they fit; raises the first error, when all are done."""
        futures: list[asyncio.Future[Any]] = []
        for operation in operations:
            future: asyncio.Future[Any] = self._loop.create_future()
            futures.append(future)
            self._waiting.put((operation, future))
        for outcome in await asyncio.gather(*futures, return_exceptions=True):
            if isinstance(outcome, BaseException):
                raise outcome

    async def call(
        self,
        function: Callable[[apsw.Connection], T],
        notices: Callable[[T], Sequence[Notice]] | None = None,
    ) -> T:
        """Run a function in a write transaction; returns its result when it is durable."""
        result: T = await self.write(Call(function, notices))
        return result

    async def close(self) -> None:
        """Commit what waits, then stop."""
        self._waiting.put(None)
        await self._loop.run_in_executor(None, self._thread.join)
        await self._loop.run_in_executor(None, self._checkpointer.close)
        if self._segment is not None:
            self._segment.close()
        self._connection.close()
        os.close(self._lock)

    def _run(self) -> None:
        while True:
            item = self._waiting.get()
            if item is None:
                return
            group, last = [item], False
            with contextlib.suppress(queue.Empty):
                while len(group) < _MOST_AT_ONCE:
                    item = self._waiting.get_nowait()
                    if item is None:
                        last = True
                        break
                    group.append(item)
            self._loop.call_soon_threadsafe(self._answer, self._commit_group(group))
            self._checkpointer.look()
            if last:
                return

    def _commit_group(
        self, group: list[tuple[Operation, asyncio.Future[Any]]]
    ) -> list[tuple[asyncio.Future[Any], Operation | BaseException]]:
        """Commit a group; when it fails, each of it alone, so that one never spoils another."""
        try:
            self._commit([operation for operation, _ in group])
        except BaseException as error:  # noqa: BLE001  whatever it is, it belongs to who waits for it
            if len(group) == 1:
                return [(group[0][1], translate(error))]
            answers: list[tuple[asyncio.Future[Any], Operation | BaseException]] = []
            for item in group:
                answers.extend(self._commit_group([item]))
            return answers
        return [(future, operation) for operation, future in group]

    def _commit(self, operations: list[Operation]) -> None:
        batch = Batch(self._connection, self._segment_for)
        for operation in operations:
            operation.prepare(batch)
        # Bytes first, outside the lock: rows must never point at what is not on disk.
        batch.write_bytes()
        fcntl.flock(self._lock, fcntl.LOCK_EX)
        try:
            self._connection.execute("BEGIN IMMEDIATE")
            try:
                batch.recognise()
                for operation in operations:
                    operation.stage(batch)
                batch.flush()
                self._connection.execute("COMMIT")
            except BaseException:
                if self._connection.in_transaction:
                    self._connection.execute("ROLLBACK")
                raise
        finally:
            fcntl.flock(self._lock, fcntl.LOCK_UN)
        self.commits += 1

    def _segment_for(self, octets: int, own: bool) -> OpenSegment | int:
        """Return the open segment, a fresh one when it is full; or the number of a segment for one message."""
        if own:
            return self._new_segment(sealed=True)
        if self._segment is None or self._segment.size >= self._segment_size:
            if self._segment is not None:
                self.seal()
            self._segment = OpenSegment(self._folder, self._new_segment(sealed=False))
        return self._segment

    def seal(self) -> None:
        """Close the open segment for good; the next record opens a fresh one."""
        if self._segment is not None:
            segment, self._segment = self._segment, None
            segment.close()
            self._alone("UPDATE segment SET sealed = 1, size = ? WHERE id = ?", (segment.size, segment.id))

    def _new_segment(self, *, sealed: bool) -> int:
        return int(
            self._alone("INSERT INTO segment (worker, sealed) VALUES (?, ?) RETURNING id", (self._worker, int(sealed)))
        )

    def _alone(self, sql: str, values: tuple[Any, ...]) -> Any:
        """Run one statement in a commit of its own, before the group's."""
        fcntl.flock(self._lock, fcntl.LOCK_EX)
        try:
            return self._connection.execute(sql, values).get
        finally:
            fcntl.flock(self._lock, fcntl.LOCK_UN)

    def _answer(self, answers: list[tuple[asyncio.Future[Any], Operation | BaseException]]) -> None:
        notices: dict[Notice, None] = {}
        for future, outcome in answers:
            if isinstance(outcome, BaseException):
                if not future.done():
                    future.set_exception(outcome)
                continue
            notices.update(dict.fromkeys(outcome.notices()))
            if not future.done():
                future.set_result(outcome.result())
        for notice in notices:
            self._publish(notice)


class Checkpointer:
    """Moves the write-ahead log into the database in a thread of its own, since that takes tens of milliseconds."""

    def __init__(self, data: Path) -> None:
        self._data = data
        self._wal = data / f"{DATABASE}-wal"
        self._wake = threading.Event()
        self._stop = False
        self._thread = threading.Thread(target=self._run, name="waypost-checkpoint", daemon=True)
        self._thread.start()

    def look(self) -> None:
        """Wake the thread when the log has grown past its limit."""
        with contextlib.suppress(FileNotFoundError):
            if self._wal.stat().st_size > _WAL_LIMIT:
                self._wake.set()

    def close(self) -> None:
        """Stop the thread."""
        self._stop = True
        self._wake.set()
        self._thread.join()

    def _run(self) -> None:
        connection = connect(self._data / DATABASE)
        lock = os.open(self._data / "checkpoint.lock", os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600)
        writer = os.open(self._data / "writer.lock", os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600)
        try:
            while True:
                self._wake.wait()
                self._wake.clear()
                if self._stop:
                    return
                try:
                    fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                except BlockingIOError:
                    continue  # another process does it
                try:
                    self._checkpoint(connection, writer)
                except apsw.Error as error:
                    log.warning("checkpoint failed", extra={"fields": {"error": str(error)}})
                finally:
                    fcntl.flock(lock, fcntl.LOCK_UN)
        finally:
            os.close(lock)
            os.close(writer)
            connection.close()

    def _checkpoint(self, connection: apsw.Connection, writer: int) -> None:
        connection.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchall()
        # The log starts anew only when every frame is in the database: what came meanwhile is moved while
        # the writers wait, which is short now.
        fcntl.flock(writer, fcntl.LOCK_EX)
        try:
            connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
        finally:
            fcntl.flock(writer, fcntl.LOCK_UN)
