"""The waits of one client's logins; they end when its session ends."""

import asyncio
from collections.abc import Awaitable, Callable


async def sleep(seconds: float) -> None:
    """Wait for seconds of real time."""
    await asyncio.sleep(seconds)


class SessionOver(Exception):
    """The session ended before the wait did."""


class LoginPatience:
    """Waits for one session. `sleep` takes seconds."""

    __slots__ = ("_over", "_sleep_for", "_sleeping")

    def __init__(self, sleep: Callable[[float], Awaitable[None]] | None = None) -> None:
        self._sleep_for = sleep
        self._sleeping: asyncio.Future[None] | None = None
        self._over = False

    async def wait(self, seconds: float) -> None:
        """Wait. Raises `SessionOver`."""
        if self._over:
            raise SessionOver
        self._sleeping = asyncio.ensure_future((self._sleep_for or sleep)(seconds))
        try:
            await self._sleeping
        except asyncio.CancelledError:
            if self._over:
                raise SessionOver from None
            raise
        finally:
            self._sleeping = None

    def end(self) -> None:
        """The session is over: end its waits."""
        self._over = True
        if self._sleeping is not None:
            self._sleeping.cancel()
