"""The wait before the greeting: a client that speaks in this time is not a mail server (RFC 5321 section 3.1)."""

import asyncio


class GreetingDelay:
    """Waits for `seconds`, or until `end` is called: because the client spoke or is gone, or the session is to end."""

    __slots__ = ("_ended", "_seconds")

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._ended: asyncio.Event | None = None  # set while `wait` runs

    async def wait(self) -> bool:
        """Wait and return True; return False at once where there is no delay."""
        if self._seconds <= 0:
            return False
        self._ended = asyncio.Event()
        over = asyncio.get_running_loop().call_later(self._seconds, self._ended.set)
        try:
            await self._ended.wait()
        finally:
            over.cancel()
            self._ended = None
        return True

    def end(self) -> None:
        """End the wait."""
        if self._ended is not None:
            self._ended.set()
