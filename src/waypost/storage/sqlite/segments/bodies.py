"""Bodies: message bytes while they arrive, in memory up to a threshold and in a segment of their own past it.

A body is used by the event loop, by a thread that spills it, and by the writer's thread. It is lent to them: what its
owner discards meanwhile goes when they are done.
"""

import zlib
from concurrent.futures import Executor
from pathlib import Path

from waypost.message.trace import TraceId
from waypost.protocol.canonical import FormMeter
from waypost.storage.spool import NewMessage
from waypost.storage.sqlite.commit.space import Space
from waypost.storage.sqlite.segments.arriving import ArrivingFile
from waypost.storage.sqlite.segments.segments import HEADER, Location, head_record, record_header

_WRITE_SIZE = 256 * 1024
_FLUSH_SIZE = 4 << 20
"""Octets after which a file is flushed while the rest arrives. Messages that end together then leave little for the
disk to write at once, which would make every other commit wait."""


class SqliteBody:
    """A body of this engine. The writer takes `parts` or, when it spilled, the `file`."""

    __slots__ = (
        "_buffered",
        "_crc",
        "_discarded",
        "_flushing",
        "_folder",
        "_headed",
        "_lent",
        "_space",
        "_threshold",
        "_unflushed",
        "file",
        "meter",
        "parts",
        "size",
    )

    def __init__(self, folder: Path, threshold: int, space: Space, flushing: Executor) -> None:
        """Its octets spill past `threshold`; `flushing` has the threads that wait for the disk meanwhile."""
        self._folder = folder
        self._threshold = threshold
        self._space = space
        self._flushing = flushing
        self._unflushed = 0
        self._crc = 0
        self._buffered = 0
        self._lent = 0
        self._discarded = False
        self._headed = False
        self.meter = FormMeter()
        """What the octets are like, for readers that can't take any."""
        self.parts: list[bytes] = []
        self.file: ArrivingFile | None = None
        self.size = 0

    @property
    def spilled(self) -> bool:
        """True when the octets are in a file of their own."""
        return self.file is not None

    async def write(self, data: bytes) -> None:
        """Append octets. Raises `StorageFull`, `StorageError`: then only `discard` is left to do."""
        self.parts.append(data)
        self.meter.feed(data)
        self.size += len(data)
        self._buffered += len(data)
        if self.size > self._threshold and self._buffered >= min(_WRITE_SIZE, self._threshold):
            await self._spill_in_thread()

    async def spill(self) -> None:
        """Write what is in memory to the file now. Raises `StorageFull`, `StorageError`."""
        if self._buffered:
            await self._spill_in_thread()

    async def _spill_in_thread(self) -> None:
        if self.file is None:
            self.file = ArrivingFile(self._folder)
        self._unflushed += self._buffered
        if self._unflushed < _FLUSH_SIZE:
            await self.file.in_thread(self._spill, self.file)
        else:
            self._unflushed = 0
            await self.file.in_thread(self._spill_and_flush, self.file, threads=self._flushing)

    def _spill_and_flush(self, file: ArrivingFile) -> None:
        self._spill(file)
        file.flush()

    def _spill(self, file: ArrivingFile) -> None:
        if self._space.left() < self._buffered:
            raise self._space.full()
        if not file.size:
            file.write(bytes(HEADER.size))
        data = b"".join(self.parts)
        file.write(data)
        self._crc = zlib.crc32(data, self._crc)
        self.parts = []
        self._buffered = 0

    async def make_durable(self, trace: TraceId, head: bytes, threads: Executor) -> None:
        """Write a large message to the disk, in one of these threads: nothing else waits for it. The body is lent.

        Raises what the file raises.
        """
        if self.file is None or self.file.durable:
            return
        await self.file.in_thread(self.finish, self.file, trace, head, threads=threads)

    def finish(self, file: ArrivingFile, trace: TraceId, head: bytes) -> None:
        """Write what is left and make the file durable. Raises what the file raises.

        The head, which was not known when the first octets were written, follows them in a record of its own: rows have
        it too, and this one is for whoever has to do without them.
        """
        if self.parts:
            self._spill(file)
        if not self._headed:
            file.write(head_record(trace, head))
            self._headed = True
        file.finish(record_header(trace, self.size, self._crc))

    def location(self, file: ArrivingFile) -> Location:
        """Return where the octets are, once the file has its number."""
        return Location(file.number, HEADER.size, self.size, self._crc)

    def lend(self) -> None:
        """The writer's thread reads the octets from now on."""
        self._lent += 1
        if self.file is not None:
            self.file.hold()

    def give_back(self) -> None:
        """The writer's thread is done."""
        self._lent -= 1
        if self.file is not None:
            self.file.let_go()
            if self.file.kept:
                self.file.close()
        if self._discarded:
            self.discard()

    def discard(self) -> None:
        """Forget the octets; remove the file unless it was kept. May be called twice."""
        self._discarded = True
        if not self._lent:
            self.parts = []
        if self.file is not None:
            self.file.close()


def body_of(message: NewMessage) -> SqliteBody:
    """Return the body of a message, which must come from this engine's spool."""
    body = message.body
    if not isinstance(body, SqliteBody):
        raise TypeError("a body comes from this engine's own spool")
    return body
