"""Flow control of one connection: when its session waits, for its peer, for the other sessions, or because it must.

A session that never waits keeps the event loop for itself. asyncio suspends nobody whose peer reads fast, so `drain`
gives the loop away each time (docs/decisions/0022).
"""

import asyncio


class Flow:
    """What one session waits for. `choked` is True while the transport has more to write than it likes."""

    __slots__ = ("_ended", "_loop", "_resting", "_waiter", "choked")

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._waiter: asyncio.Future[None] | None = None  # somebody waits until the peer has read
        self._resting: asyncio.Future[None] | None = None  # the session is made to wait
        self._ended = False
        self.choked = False

    @property
    def waits_for_peer(self) -> bool:
        """True while nothing goes on until the peer has read."""
        return self._waiter is not None

    async def until_writable(self) -> bool:
        """Return when the peer has read most of what was written, or when the connection has ended; True after a wait,
        in which others have worked.
        """
        waited = False
        while self.choked and not self._ended:
            waited = True
            self._waiter = self._loop.create_future()
            try:
                await self._waiter
            finally:
                self._waiter = None
        return waited

    async def let_others_work(self) -> None:
        """Return in the next turn of the loop."""
        await asyncio.sleep(0)

    async def rest(self, seconds: float) -> None:
        """Return after `seconds`, or at once when the session is to end."""
        if self._ended:
            return
        self._resting = self._loop.create_future()
        over = self._loop.call_later(seconds, self.wake)
        try:
            await self._resting
        finally:
            over.cancel()
            self._resting = None

    def writable(self) -> None:
        """The peer has read."""
        self.choked = False
        _finish(self._waiter)

    def wake(self) -> None:
        """Nobody rests any longer."""
        _finish(self._resting)

    def end(self) -> None:
        """The connection has ended: nothing waits for it any more."""
        self._ended = True
        _finish(self._waiter)
        self.wake()


def _finish(future: asyncio.Future[None] | None) -> None:
    if future is not None and not future.done():
        future.set_result(None)
