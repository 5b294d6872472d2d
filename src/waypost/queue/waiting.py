"""Waits, with the clock as an argument: for an event or a time, and for storage to work again."""

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable, Iterable
from typing import TypeVar

from waypost.storage import NotFound, StorageError

log = logging.getLogger(__name__)
T = TypeVar("T")

Sleep = Callable[[float], Awaitable[object]]
"""Sleeps for some seconds: `asyncio.sleep`, or a test's clock."""

_FIRST_PAUSE = 1.0  # seconds
_LONGEST_PAUSE = 30.0


async def event_or_time(event: asyncio.Event, seconds: float, sleep: Sleep) -> bool:  # hot: bench/relay
    """Wait until an event is set, at most `seconds`; return whether it is set."""
    if event.is_set() or seconds <= 0:
        return event.is_set()
    if sleep is asyncio.sleep:  # the loop's own clock can do it without two tasks
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await event.wait()
        return event.is_set()
    waiting = asyncio.ensure_future(event.wait())
    sleeping = asyncio.ensure_future(sleep(seconds))
    try:
        await asyncio.wait((waiting, sleeping), return_when=asyncio.FIRST_COMPLETED)
    finally:
        waiting.cancel()
        sleeping.cancel()
    return event.is_set()


async def all_or_time(tasks: Iterable["asyncio.Future[None]"], seconds: float, sleep: Sleep) -> None:
    """Wait until all tasks have ended, at most `seconds`; then cancel those that have not."""
    together = asyncio.gather(*tasks, return_exceptions=True)
    sleeping = asyncio.ensure_future(sleep(seconds))
    try:
        await asyncio.wait((together, sleeping), return_when=asyncio.FIRST_COMPLETED)
    finally:
        sleeping.cancel()
        together.cancel()
    await asyncio.gather(together, return_exceptions=True)


class Backoff:
    """Pauses that grow while storage is in trouble; each operation that is retried has its own."""

    def __init__(self, what: str, sleep: Sleep) -> None:
        self._what = what
        self._sleep = sleep
        self._pause = _FIRST_PAUSE

    async def after(self, error: StorageError) -> None:
        """Log the trouble, and wait before the next try."""
        fields = {"what": self._what, "error": str(error), "again_in": self._pause}
        log.warning("storage is in trouble", extra={"fields": fields})
        pause, self._pause = self._pause, min(2 * self._pause, _LONGEST_PAUSE)
        await self._sleep(pause)


async def retry_while_unavailable(
    what: str, work: Callable[[], Awaitable[T]], sleep: Sleep, *, but: tuple[type[StorageError], ...] = (NotFound,)
) -> T:
    """Repeat `work` until storage does it; return its result. Errors in `but`, which waiting can't mend, are raised."""
    patience = Backoff(what, sleep)
    while True:
        try:
            return await work()
        except but:
            raise
        except StorageError as error:
            await patience.after(error)
