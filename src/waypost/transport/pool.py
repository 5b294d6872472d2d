"""The sockets of a worker: how many may be open at once, and those that wait, idle, for another message.

Each socket has one slot from before it connects until it is gone, on every way out. An idle connection keeps its
slot for a few seconds, and gives it up earlier when somebody else needs it. No submitter and no server has more than
its share of them (`queue/places.py`); idle ones count for nobody.
"""

import asyncio
from collections.abc import Hashable
from dataclasses import dataclass

from waypost.queue.places import Holder, PlaceClaim, Places, may_take
from waypost.transport.connection import OutboundConnection
from waypost.transport.next_hops import Server

Key = Hashable
"""What a connection is good for: a destination, or the servers of many, how they are spoken to, and our source."""

_KEPT = 8  # one slot in so many is kept for destinations that answered lately


@dataclass(frozen=True, slots=True)
class Wish:
    """A connection that is wanted for a submitter's mail.

    `proven`: the destination answered lately. `first`: it is the only one of its destination, which waits for a slot;
    further ones have a smaller share, and wait for nothing.
    """

    submitter: Holder
    proven: bool
    first: bool


class Pool:
    """Slots and idle connections. `idle` is how many seconds a connection waits for another message."""

    def __init__(self, slots: int, *, idle: float) -> None:
        self._slots = slots
        self._places = Places(slots, room=lambda: self.free > 0)
        self._uncounted = 0  # sockets that count for nobody: idle ones, and those that say goodbye after that
        self._idle_seconds = idle
        self._idle: dict[OutboundConnection, tuple[Key, asyncio.TimerHandle]] = {}  # the one that waits longest first
        self._by_key: dict[Key, list[OutboundConnection]] = {}
        self._open: dict[OutboundConnection, PlaceClaim | None] = {}  # what it counts for; None: it is idle
        self._closed = False

    @property
    def open(self) -> int:
        """How many connections are open, idle ones included."""
        return len(self._open)

    @property
    def free(self) -> int:
        """How many slots no socket has."""
        return self._slots - self._places.taken - self._uncounted

    async def slot(self, wish: Wish, server: Server) -> PlaceClaim | None:
        """Take a slot; `opened` or `give_back` follows.

        None if there is none for a connection that is not the first, or when the server has its share of them: who
        waited for that would keep the destination's place from others.
        """
        claim = self._claim(wish, server)
        if not self._places.allows(claim):
            if self.free <= 0:
                self._make_room()
            if not wish.first or self._has_its_share(server, claim):
                return None
            waiting = self._places.wait(claim)
            try:
                await waiting
            except BaseException:
                self._places.leave(claim, waiting)
                raise
        else:
            self._places.take(claim)
        return claim

    def give_back(self, claim: PlaceClaim) -> None:
        """Return a slot that came to no connection."""
        self._places.give(claim)

    def opened(self, connection: OutboundConnection, claim: PlaceClaim) -> None:
        """A connection has the slot now, until its socket is gone."""
        self._open[connection] = claim
        connection.when_gone(self._gone)

    def park(self, key: Key, connection: OutboundConnection) -> None:
        """Keep a connection for the next message, or let it go: not fit for one, or somebody needs its slot."""
        needed = self._places.waiting and self.free <= 0
        if not connection.fit or self._closed or needed or self._idle_seconds <= 0:
            connection.leave()
            return
        timer = asyncio.get_running_loop().call_later(self._idle_seconds, self._let_go, connection)
        self._idle[connection] = (key, timer)
        self._by_key.setdefault(key, []).append(connection)
        self._count_for_nobody(connection)

    def take(self, key: Key, wish: Wish) -> OutboundConnection | None:
        """Return an idle connection, the one that was used last; None if there is none."""
        waiting = self._by_key.get(key)
        while waiting:
            connection = waiting[-1]
            self._forget(connection)
            if connection.fit:
                self._open[connection] = claim = self._claim(wish, connection.server)
                self._uncounted -= 1
                self._places.take(claim)
                return connection
            connection.leave()
        return None

    def idle(self, key: Key) -> int:
        """Return how many connections of a kind are idle."""
        return len(self._by_key.get(key, ()))

    async def quit_idle(self, key: Key) -> None:
        """Quit the idle connection of a kind that waits longest, and return when it is gone."""
        connection = self._by_key[key][0]
        self._forget(connection)
        await connection.quit()

    async def close(self) -> None:
        """Quit every connection, and return when they are gone. Nobody may use one any more."""
        self._closed = True
        await asyncio.gather(*(connection.quit() for connection in list(self._open)))

    def _claim(self, wish: Wish, server: Server) -> PlaceClaim:
        reserve = 0 if wish.proven else self._slots // _KEPT
        return PlaceClaim((wish.submitter, _place(server)), wish.proven, reserve, 1 if wish.first else 2)

    def _has_its_share(self, server: Server, claim: PlaceClaim) -> bool:
        """True when slots are free, and none of them for this server."""
        free = self._places.free(claim)
        return free > 0 and not may_take(self._places.held(_place(server)), free)

    def _gone(self, connection: OutboundConnection) -> None:
        self._forget(connection)
        self._count_for_nobody(connection)
        del self._open[connection]
        self._uncounted -= 1
        self._places.wake()

    def _count_for_nobody(self, connection: OutboundConnection) -> None:
        claim, self._open[connection] = self._open[connection], None
        if claim is not None:
            self._uncounted += 1
            self._places.give(claim)

    def _make_room(self) -> None:
        if self._idle:
            self._let_go(next(iter(self._idle)))

    def _let_go(self, connection: OutboundConnection) -> None:
        self._forget(connection)
        connection.leave()

    def _forget(self, connection: OutboundConnection) -> None:
        known = self._idle.pop(connection, None)
        if known is None:
            return
        key, timer = known
        timer.cancel()
        waiting = self._by_key[key]
        waiting.remove(connection)
        if not waiting:
            del self._by_key[key]


def _place(server: Server) -> Holder:
    """The holder that a server is: its address and port, whatever it is called."""
    return (server.address, server.port)
