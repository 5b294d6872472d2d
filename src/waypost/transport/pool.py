"""The sockets of a worker: how many may be open at once, and those that wait, idle, for another message.

Each socket has one slot from before it connects until it is gone, on every way out. An idle connection keeps its
slot for a few seconds, and gives it up earlier when somebody else needs it.
"""

import asyncio
from collections.abc import Hashable

from waypost.transport.connection import Connection

Key = Hashable
"""What a connection is good for: a destination, or the servers of many, and how they are spoken to."""


class Pool:
    """Slots and idle connections. `idle` is how many seconds a connection waits for another message."""

    def __init__(self, slots: int, *, idle: float) -> None:
        self._slots = asyncio.Semaphore(slots)
        self._idle_seconds = idle
        self._idle: dict[Connection, tuple[Key, asyncio.TimerHandle]] = {}  # the one that waits longest first
        self._by_key: dict[Key, list[Connection]] = {}
        self._open: set[Connection] = set()
        self._waiting = 0
        self._closed = False

    @property
    def open(self) -> int:
        """How many connections are open, idle ones included."""
        return len(self._open)

    async def slot(self, *, patient: bool) -> bool:
        """Take a slot; False when there is none and the caller is not patient. `opened` or `give_back` follows."""
        if self._slots.locked():
            self._make_room()
            if not patient:
                return False
        self._waiting += 1
        try:
            await self._slots.acquire()
        finally:
            self._waiting -= 1
        return True

    def give_back(self) -> None:
        """Return a slot that came to no connection."""
        self._slots.release()

    def opened(self, connection: Connection) -> None:
        """A connection has the slot now, until its socket is gone."""
        self._open.add(connection)
        connection.when_gone(self._gone)

    def park(self, key: Key, connection: Connection) -> None:
        """Keep a connection for the next message, or let it go: not fit for one, or somebody needs its slot."""
        if not connection.fit or self._closed or self._waiting or self._idle_seconds <= 0:
            connection.leave()
            return
        timer = asyncio.get_running_loop().call_later(self._idle_seconds, self._let_go, connection)
        self._idle[connection] = (key, timer)
        self._by_key.setdefault(key, []).append(connection)

    def take(self, key: Key) -> Connection | None:
        """Return an idle connection, the one that was used last; None when there is none."""
        waiting = self._by_key.get(key)
        while waiting:
            connection = waiting[-1]
            self._forget(connection)
            if connection.fit:
                return connection
            connection.leave()
        return None

    async def close(self) -> None:
        """Quit every connection, and return when they are gone. Nobody may use one any more."""
        self._closed = True
        await asyncio.gather(*(connection.quit() for connection in list(self._open)))

    def _gone(self, connection: Connection) -> None:
        self._forget(connection)
        self._open.discard(connection)
        self._slots.release()

    def _make_room(self) -> None:
        if self._idle:
            self._let_go(next(iter(self._idle)))

    def _let_go(self, connection: Connection) -> None:
        self._forget(connection)
        connection.leave()

    def _forget(self, connection: Connection) -> None:
        known = self._idle.pop(connection, None)
        if known is None:
            return
        key, timer = known
        timer.cancel()
        waiting = self._by_key[key]
        waiting.remove(connection)
        if not waiting:
            del self._by_key[key]
