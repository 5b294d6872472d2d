"""The spool of the embedded engine: acceptance as one operation of a group commit, and reading bytes back."""

import asyncio
import zlib
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Any

import apsw

from waypost.message.trace import Micros, TraceId, format_trace_id
from waypost.storage.bus import Notice
from waypost.storage.errors import NotFound, StorageError
from waypost.storage.spool import NewMessage, StoredMessage
from waypost.storage.sqlite.batch import Batch
from waypost.storage.sqlite.bodies import SqliteBody
from waypost.storage.sqlite.segments import SegmentReader, storage_error
from waypost.storage.sqlite.writer import Writer

_SMALL_READ = 128 * 1024  # below it a read comes from the page cache: cheaper than another thread
_PLACE = "SELECT segment, offset, length, crc, head FROM message WHERE id = ?"
_CONFIRM_WITHIN = 0.25  # seconds


class Accept:
    """One acceptance: bytes, message, entries, mailbox rows, events, in one commit."""

    def __init__(self, message: NewMessage) -> None:
        self._message = message
        self._first: TraceId | None = None

    def prepare(self, batch: Batch) -> None:
        """Hand the octets over."""
        batch.add_bytes(self._message)

    def stage(self, batch: Batch) -> None:
        """Add the rows, unless this is a message that we have and whose client never saw our answer."""
        self._first = batch.first_copy(self._message)
        if self._first is not None:
            batch.forget(self._message)
            return
        batch.message(self._message)

    def result(self) -> TraceId:
        """Return the trace id under which the message is stored."""
        body = self._message.body
        if isinstance(body, SqliteBody) and self._first is None:
            body.kept()
        return self._first or self._message.trace

    def notices(self) -> Sequence[Notice]:
        """Tell who waits for these destinations and mailboxes."""
        return notices_of(self._message) if self._first is None else ()


def notices_of(message: NewMessage) -> list[Notice]:
    """Return the notices that a new message causes."""
    return [
        *(Notice("destination", entry.destination) for entry in message.entries),
        *(Notice("mailbox", str(delivery.mailbox)) for delivery in message.deliveries),
    ]


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
        if wanted <= _SMALL_READ:
            body = self._pread(begin, wanted)
        else:
            body = await asyncio.get_running_loop().run_in_executor(None, self._pread, begin, wanted)
        return head + body if head else body

    def _pread(self, begin: int, length: int) -> bytes:
        reader = self._spool.reader
        try:
            try:
                data = reader.pread(self._segment, self._offset + begin, length)
            except FileNotFoundError:  # compaction moved it: the row knows where to
                place = self._spool.place(self._trace)
                self._segment, self._offset = place[0], place[1]
                data = reader.pread(self._segment, self._offset + begin, length)
        except OSError as error:
            raise storage_error(error, f"message {format_trace_id(self._trace)}") from error
        if len(data) != length:
            raise StorageError(f"message {format_trace_id(self._trace)}: segment {self._segment} is cut short")
        return data

    async def chunks(self, chunk_size: int = 65536) -> AsyncIterator[bytes]:
        """Yield all octets in order; raises `StorageError` at the end when they are not what was stored."""
        if self._head:
            yield self._head
        crc = 0
        for begin in range(0, self._length, chunk_size):
            data = await self.read(len(self._head) + begin, min(chunk_size, self._length - begin))
            crc = zlib.crc32(data, crc)
            if begin + chunk_size >= self._length and crc != self._crc:
                raise StorageError(f"message {format_trace_id(self._trace)} is damaged on disk")
            yield data


class SqliteSpool:
    """Takes messages in and reads them back."""

    def __init__(self, writer: Writer, reading: apsw.Connection, data: Path, threshold: int) -> None:
        self._writer = writer
        self._reading = reading
        self._folder = data / "segments"
        self._threshold = threshold
        self.reader = SegmentReader(self._folder)
        self._confirmed: list[str] = []

    def new_body(self) -> SqliteBody:
        """Return an empty body."""
        return SqliteBody(self._folder, self._threshold)

    async def accept(self, message: NewMessage) -> TraceId:
        """Store a message durably; returns the trace id under which it is stored."""
        trace: TraceId = await self._writer.write(Accept(message))
        return trace

    def confirm(self, digest: str) -> None:
        """The client has seen our answer: forget the digest, with a commit soon."""
        self._confirmed.append(digest)
        if len(self._confirmed) == 1:
            asyncio.get_running_loop().call_later(_CONFIRM_WITHIN, self._forget_confirmed)

    def _forget_confirmed(self) -> None:
        task = asyncio.ensure_future(self.flush_confirmed())
        task.add_done_callback(_ignore_storage_error)

    async def flush_confirmed(self) -> None:
        """Forget the digests of confirmed messages now. Raises `StorageError`."""
        digests, self._confirmed = self._confirmed, []
        if digests:
            rows = "[" + ",".join(f'"{digest}"' for digest in digests) + "]"
            await self._writer.call(
                lambda connection: connection.execute(
                    "DELETE FROM unconfirmed WHERE digest IN (SELECT value FROM json_each(?))", (rows,)
                ).fetchall()
            )

    async def open(self, trace: TraceId) -> StoredMessage:
        """Open a stored message. Raises `NotFound`."""
        return self.message(trace, b"")

    def message(self, trace: TraceId, head: bytes) -> SqliteMessage:
        """Return a stored message behind a head of its own. Raises `NotFound`."""
        return SqliteMessage(self, trace, head, self.place(trace))

    def place(self, trace: TraceId) -> tuple[Any, ...]:
        """Return (segment, offset, length, crc, head) of a message. Raises `NotFound`."""
        row = self._reading.execute(_PLACE, (trace,)).fetchone()
        if row is None:
            raise NotFound(f"no message {format_trace_id(trace)}")
        return tuple(row)

    async def expire_unconfirmed(self, before: Micros) -> None:
        """Forget digests older than `before`: no client tries that long."""
        await self._writer.call(
            lambda connection: connection.execute("DELETE FROM unconfirmed WHERE time < ?", (before,)).fetchall()
        )


def _ignore_storage_error(task: "asyncio.Future[None]") -> None:
    # A digest that stays is harmless (only the same octets again would notice), and the disk's trouble is
    # told to the sessions that need it.
    if not task.cancelled() and isinstance(task.exception(), StorageError):
        return
    if not task.cancelled() and task.exception():
        raise task.exception() or AssertionError
