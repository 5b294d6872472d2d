"""The content of one message while it arrives: the header is kept in memory, the body goes to storage.

The header is held back, because fields are put before it and submission edits it. The body is written as it arrives,
and is not touched again.
"""

from collections.abc import Callable, Sequence

from waypost.intake.memory import ArrivingMemory
from waypost.message.headers import find_header_end
from waypost.protocol.reply import Reply
from waypost.protocol.smtp import replies
from waypost.storage import Body

_SMALL = 2048
_SPARED = 16 * 1024  # octets that a message may hold even where memory is scarce
_GATHERED = 16 * 1024  # octets; small pieces are joined, so that a client can't make us keep an object for each


class ArrivingContent:
    """Takes the octets of one message.

    `header` is complete after `finish`, and `size` counts all octets. `failure` is the refusal of the message if
    something went wrong while it arrived; octets after that are not kept. Each of `taps` gets the octets of the body,
    which follow the header, as they arrive.
    """

    __slots__ = (
        "_arriving",
        "_counted",
        "_gathered",
        "_in_body",
        "_limit",
        "_memory",
        "body",
        "failure",
        "header",
        "size",
        "taps",
    )

    def __init__(self, new_body: Callable[[], Body], header_limit: int, memory: ArrivingMemory | None = None) -> None:
        """`memory` is shared with all messages of the worker; with None, memory is not counted."""
        self.body = new_body()
        self.header: bytes | None = None
        self.size = 0
        self.failure: Reply | None = None
        self.taps: Sequence[Callable[[bytes], object]] = ()
        self._limit = header_limit
        self._arriving = bytearray()  # the beginning of a header whose end has not arrived yet
        self._gathered = bytearray()  # small pieces that wait to be written together
        self._memory = memory
        self._counted = 0  # the octets of this message that `memory` counts
        self._in_body = 0  # octets that the body may hold in memory

    async def write(self, data: bytes) -> None:  # hot: bench/accept
        """Take octets. Raises `StorageFull`, `StorageError`."""
        if self.failure is not None:
            return
        self.size += len(data)
        if self.header is None:
            data = self._take_header(data)
        if self.taps and data:
            for tap in self.taps:
                tap(data)
        if len(data) < _SMALL or self._gathered:
            self._gathered += data
            if len(self._gathered) < _GATHERED:
                self._count()
                return
            data = self._take_gathered()
        self._in_body += len(data)
        await self.body.write(data)
        self._count()
        if self._memory is not None and self._memory.scarce and self._in_body > _SPARED and self.failure is None:
            await self.body.spill()
            self._in_body = 0
            self._count()

    def _count(self) -> None:
        """Count what is held in memory. While that is scarce, a large header is refused."""
        memory = self._memory
        if memory is None or self.failure is not None:
            return
        header = len(self._arriving) if self.header is None else len(self.header)
        self._count_as(header + len(self._gathered) + min(self._in_body, memory.per_message))
        if memory.scarce and header > _SPARED:
            self.fail(replies.MEMORY_FULL)

    def _count_as(self, octets: int) -> None:
        if self._memory is not None:
            self._memory.used += octets - self._counted
            self._counted = octets

    def _take_header(self, data: bytes) -> bytes:
        """Return the octets that follow the header; b"" while the header has not ended."""
        if self._arriving:
            searched = len(self._arriving)
            self._arriving += data
            end = find_header_end(self._arriving, searched)
            arrived = len(self._arriving)
        else:
            end = find_header_end(data)
            arrived = len(data)
        if (end or arrived) > self._limit:
            self.fail(replies.HEADER_TOO_LARGE)
            return b""
        if end is None:
            if not self._arriving:
                self._arriving += data
            return b""
        if not self._arriving:
            self.header = data[:end]
            return data[end:]
        self.header, rest = bytes(self._arriving[:end]), bytes(self._arriving[end:])
        self._arriving = bytearray()
        return rest

    def _take_gathered(self) -> bytes:
        data, self._gathered = bytes(self._gathered), bytearray()
        return data

    async def finish(self) -> None:
        """The content is whole. Raises `StorageFull`, `StorageError`."""
        if self.failure is not None:
            return
        if self.header is None:  # it is all header
            self.header, self._arriving = bytes(self._arriving), bytearray()
        if self._gathered:
            await self.body.write(self._take_gathered())

    def fail(self, reply: Reply) -> None:
        """Refuse the message with `reply` at its end; drop at once what was kept of it."""
        self.failure = reply
        self.discard()

    def discard(self) -> None:
        """Forget the octets; may be called twice, and after the message was stored."""
        self._arriving, self._gathered = bytearray(), bytearray()
        self._count_as(0)
        self.body.discard()
