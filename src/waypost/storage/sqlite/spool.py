"""The spool of the embedded engine: acceptance as one operation of a group commit, and reading bytes back."""

import asyncio
import errno
import logging
import zlib
from collections.abc import AsyncIterator, Hashable, Sequence
from pathlib import Path
from typing import Any

from waypost.message.trace import TraceId, format_trace_id
from waypost.storage import notices
from waypost.storage.bus import Notice
from waypost.storage.errors import NotFound, StorageError
from waypost.storage.spending import LimitReached
from waypost.storage.spool import NewMessage, StoredMessage
from waypost.storage.sqlite.commit.batch import Batch
from waypost.storage.sqlite.commit.operation import Operation
from waypost.storage.sqlite.commit.space import Space
from waypost.storage.sqlite.commit.writer import Writer
from waypost.storage.sqlite.reading import Reading
from waypost.storage.sqlite.segments.bodies import SqliteBody, body_of
from waypost.storage.sqlite.segments.reader import SegmentReader
from waypost.storage.sqlite.segments.segments import storage_error

log = logging.getLogger(__name__)

_SMALL_READ = 128 * 1024  # octets; below it, what the system holds in memory is read without another thread
_PLACE = "SELECT segment, offset, length, crc, head FROM message WHERE id = ?"
_LET_GO_EVERY = 10.0  # seconds
_MOST_DAMAGED = 10_000  # remembered


def accepting(message: NewMessage, reports: Sequence[NewMessage] = ()) -> Operation:
    """Return the operation that accepts a message and its reports. Its result is None, or the limit that the message
    would have exceeded: then it writes no rows, and spoils nobody's commit.
    """
    messages = (message, *reports)

    def stage(batch: Batch) -> str | None:
        if message.expense is not None:
            exceeded = batch.spend(message.expense, message.received_at)
            if exceeded is not None:
                return exceeded
        for new in messages:
            batch.message(new)
        return None

    def published(exceeded: str | None) -> Sequence[Notice]:
        return [notice for new in messages for notice in notices.of_message(new)] if exceeded is None else ()

    return Operation(stage, published, messages=messages, incoming=True)


class SqliteMessage:
    """A stored message: an optional head, and octets in a segment (which compaction may move)."""

    def __init__(self, spool: "SqliteSpool", trace: TraceId, head: bytes, place: tuple[Any, ...]) -> None:
        self._spool = spool
        self._trace = trace
        self._segment, self._offset, self._length, self._crc, kept_head = place
        self._head = head + str(kept_head).encode("latin-1")

    @property
    def size(self) -> int:
        """Octets, with the head."""
        return len(self._head) + int(self._length)

    async def read(self, start: int, length: int) -> bytes:
        """Return octets [start, start+length). Raises `StorageError`."""
        head = self._head[start : start + length]
        begin = max(0, start - len(self._head))
        wanted = min(length - len(head), self._length - begin)
        if wanted <= 0:
            return head
        body = await self._read(begin, wanted)
        return head + body if head else body

    async def _read(self, begin: int, length: int) -> bytes:
        try:
            data = await self._spool.octets(self._segment, self._offset + begin, length)
        except FileNotFoundError:  # compaction moved it: the row knows where to
            self._segment, self._offset = self._spool.place(self._trace)[:2]
            try:
                data = await self._spool.octets(self._segment, self._offset + begin, length)
            except OSError as error:
                raise self._unreadable(error) from error
        except OSError as error:
            raise self._unreadable(error) from error
        if len(data) != length:
            raise self._damaged("is cut short")
        return data

    def _damaged(self, how: str) -> StorageError:
        if len(self._spool.damaged) < _MOST_DAMAGED:
            self._spool.damaged[self._trace] = how
        return StorageError(f"message {format_trace_id(self._trace)} {how} on disk, in segment {self._segment}")

    def _unreadable(self, error: OSError) -> StorageError:
        return storage_error(error, f"message {format_trace_id(self._trace)} in segment {self._segment}")

    async def chunks(self, chunk_size: int = 65536) -> AsyncIterator[bytes]:
        """Yield all octets in order; raises `StorageError` at the end when they are not what was stored, and from then
        on before the first: a client that is cut off once hears the next time that others can be had."""
        if (how := self._spool.damaged.get(self._trace)) is not None:
            raise self._damaged(how)
        if self._head:
            yield self._head
        crc = 0
        for begin in range(0, self._length, chunk_size):
            data = await self._read(begin, min(chunk_size, self._length - begin))
            crc = zlib.crc32(data, crc)
            if begin + chunk_size >= self._length and crc != self._crc:
                raise self._damaged("is damaged")
            yield data


class SqliteSpool:
    """Takes messages in and reads them back."""

    def __init__(self, writer: Writer, reading: Reading, data: Path, threshold: int, space: Space) -> None:
        self._writer = writer
        self._reading = reading
        self._folder = data / "segments"
        self._threshold = threshold
        self._space = space
        self._reader = SegmentReader(self._folder)
        self.damaged: dict[TraceId, str] = {}
        """Messages whose octets are known to be damaged, and how; until the next start."""
        self._letting_go: asyncio.TimerHandle | None = None

    def new_body(self) -> SqliteBody:
        """Return an empty body."""
        return SqliteBody(self._folder, self._threshold, self._space, self._writer.flushing)

    def expect(self, source: Hashable) -> None:
        """A message may soon come from this source."""
        self._writer.gathering.expect(source)

    def expect_no_more(self, source: Hashable) -> None:
        """None will come, or it comes in this very turn."""
        self._writer.gathering.expect_no_more(source)

    async def accept(self, message: NewMessage, reports: Sequence[NewMessage] = ()) -> None:
        """Store a message and its reports durably. Raises `LimitReached`, `StorageFull` or `StorageError`."""
        operation = accepting(message, reports)
        large = any(body_of(new).spilled for new in operation.messages)
        exceeded = await (self._writer.write_large(operation) if large else self._writer.write(operation))
        if exceeded is not None:
            raise LimitReached(exceeded)

    async def octets(self, segment: int, offset: int, length: int) -> bytes:
        """Return octets of a segment, without making the event loop wait for the disk. Raises `OSError`."""
        if self._letting_go is None:
            self._letting_go = asyncio.get_running_loop().call_later(_LET_GO_EVERY, self._let_go)
        data = self._reader.read_cached(segment, offset, length) if length <= _SMALL_READ else None
        if data is not None:
            return data
        try:
            reading = asyncio.get_running_loop().run_in_executor(None, self._reader.read, segment, offset, length)
        except RuntimeError as error:  # no thread can be had
            raise OSError(errno.EAGAIN, str(error)) from error
        return await reading

    def _let_go(self) -> None:
        """Close files that compaction removed, and look again while any is open."""
        self._reader.forget_removed()
        self._letting_go = None
        if self._reader.open_files:
            self._letting_go = asyncio.get_running_loop().call_later(_LET_GO_EVERY, self._let_go)

    async def open(self, trace: TraceId, hint: object = None) -> StoredMessage:  # hot: bench/relay
        """Open a stored message. Raises `NotFound`."""
        return SqliteMessage(self, trace, b"", hint if isinstance(hint, tuple) else self.place(trace))

    def message(self, trace: TraceId, head: bytes) -> SqliteMessage:
        """Return a stored message behind a head of its own. Raises `NotFound`."""
        return SqliteMessage(self, trace, head, self.place(trace))

    def place(self, trace: TraceId) -> tuple[Any, ...]:
        """Return (segment, offset, length, crc, head) of a message. Raises `NotFound`."""
        row = self._reading.row(_PLACE, (trace,))
        if row is None:
            raise NotFound(f"no message {format_trace_id(trace)}")
        return row

    def close(self) -> None:
        """Close the files that are open for reading."""
        if self._letting_go is not None:
            self._letting_go.cancel()
        self._reader.close()
