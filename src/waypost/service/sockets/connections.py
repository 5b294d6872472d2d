"""All connections of one worker: numbered, found again, and brought to an end one by one or together."""

import asyncio
from collections.abc import Iterable

from waypost.protocol.session import Ending
from waypost.service.sockets.connection import Connection

_LAST_WORDS = 2.0  # seconds for farewells to arrive, before connections are dropped
_DROPPED = 1.0  # seconds for dropped connections to be gone


class Connections:
    """The open connections, and those that still arrive (a PROXY header, a TLS handshake)."""

    def __init__(self) -> None:
        self._open: dict[Connection, int] = {}
        self._last = 0
        self._arriving: set[asyncio.Task[None]] = set()
        self._none = asyncio.Event()
        self._none.set()
        self._waiting: dict[asyncio.Future[None], set[Connection]] = {}  # for these to be gone
        self._stopping = False

    def __len__(self) -> int:
        return len(self._open)

    @property
    def open(self) -> list[tuple[int, Connection]]:
        """The open connections with their numbers, which are never used again, the oldest first."""
        return [(number, connection) for connection, number in self._open.items()]

    def arriving(self, task: asyncio.Task[None]) -> None:
        """Keep a task that ends when its connection has arrived or failed to."""
        self._arriving.add(task)
        self._none.clear()
        task.add_done_callback(self._arrived)

    def add(self, connection: Connection) -> None:
        """A connection stands."""
        self._last += 1
        self._open[connection] = self._last
        self._none.clear()
        if self._stopping:
            connection.stop()

    def discard(self, connection: Connection) -> None:
        """A connection is gone, and what its session held is given back."""
        self._open.pop(connection, None)
        for waiting, left in self._waiting.items():
            left.discard(connection)
            if not left and not waiting.done():
                waiting.set_result(None)
        self._look()

    async def gone(self) -> None:
        """Return when there are none."""
        await self._none.wait()

    async def end(self, chosen: Iterable[Connection], why: Ending) -> int:
        """End these, whatever they do; return how many still work on something that can't be broken off.

        They hear the farewell of their protocol. Those that have not gone after a moment are dropped.
        """
        left = {connection for connection in chosen if connection in self._open}
        for connection in tuple(left):
            connection.end(why)
        await self._gone(left, _LAST_WORDS)
        for connection in tuple(left):
            connection.abort()
        await self._gone(left, _DROPPED)
        return len(left)

    async def _gone(self, left: set[Connection], patience: float) -> None:
        """Return when these are gone, or after so many seconds; those that are gone leave the set."""
        left.intersection_update(self._open)
        if not left:
            return
        waiting: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting[waiting] = left
        try:
            async with asyncio.timeout(patience):
                await waiting
        except TimeoutError:
            return
        finally:
            del self._waiting[waiting]

    async def stop(self, grace: float) -> None:
        """End all of them: those in a transaction may finish it within `grace` seconds, the others go at once."""
        self._stopping = True
        for task in tuple(self._arriving):
            task.cancel()
        for connection in tuple(self._open):
            connection.stop()
        try:
            await asyncio.wait_for(self.gone(), grace)
        except TimeoutError:
            await self.end(tuple(self._open), Ending.STOPPING)

    def _arrived(self, task: asyncio.Task[None]) -> None:
        self._arriving.discard(task)
        self._look()

    def _look(self) -> None:
        if not self._open and not self._arriving:
            self._none.set()
