"""A spool that fails where a test wants it to, and counts the bodies that it gave out."""

from collections.abc import Hashable, Sequence

from msgspec.structs import replace

from waypost.message.trace import TraceId
from waypost.storage import Body, NewMessage, Spool, StorageError, StoredMessage


class WatchedBody:
    """A body that tells its spool when it is given back."""

    def __init__(self, body: Body, spool: "FaultySpool") -> None:
        self.body = body
        self._spool = spool
        self.pieces = 0

    @property
    def size(self) -> int:
        return self.body.size

    async def write(self, data: bytes) -> None:
        if self._spool.write_error is not None:
            raise self._spool.write_error
        self.pieces += 1
        await self.body.write(data)

    async def spill(self) -> None:
        await self.body.spill()

    def discard(self) -> None:
        self.body.discard()
        self._spool.in_use.discard(self)


class FaultySpool:
    """Wraps a spool. `write_error` and `accept_error` are raised while they are set.

    `in_use` are the bodies that were not given back, `expected` who is said to send a message soon.
    """

    def __init__(self, spool: Spool) -> None:
        self._spool = spool
        self.write_error: StorageError | None = None
        self.accept_error: Exception | None = None
        self.in_use: set[WatchedBody] = set()
        self.expected: set[Hashable] = set()
        self.made: list[WatchedBody] = []
        self.accepted: list[NewMessage] = []

    def new_body(self) -> WatchedBody:
        body = WatchedBody(self._spool.new_body(), self)
        self.in_use.add(body)
        self.made.append(body)
        return body

    def expect(self, source: Hashable) -> None:
        self.expected.add(source)
        self._spool.expect(source)

    def expect_no_more(self, source: Hashable) -> None:
        self.expected.discard(source)
        self._spool.expect_no_more(source)

    async def accept(self, message: NewMessage, reports: Sequence[NewMessage] = ()) -> None:
        if self.accept_error is not None:
            raise self.accept_error
        assert isinstance(message.body, WatchedBody)
        self.accepted.append(message)
        plain = [replace(one, body=one.body.body) for one in (message, *reports) if isinstance(one.body, WatchedBody)]
        await self._spool.accept(plain[0], plain[1:])

    async def open(self, trace: TraceId) -> StoredMessage:
        return await self._spool.open(trace)
