"""The threads that check passwords: few, with a bounded queue, so that a burst of logins can't starve delivery.

The queue is not first come, first served. Logins of the best standing go first; among equals, those whose client
network had the fewest logins in the queue when they arrived. Every fourth turn goes to the oldest login, so each gets
its turn. A full queue refuses the last login in this order, not the newest.
"""

import asyncio
import contextlib
import os
import threading
from collections import Counter
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor

from waypost import processors
from waypost.login.passwords import verify_password

_NICENESS = 5
_OLDEST_EACH = 4


class HashingBusy(Exception):
    """Too many logins wait for a check already, or the process is stopping."""


class _Waiting:
    """A login in the queue."""

    __slots__ = ("number", "order", "turn")

    def __init__(self, order: tuple[int, int, int], turn: asyncio.Future[None]) -> None:
        self.order = order
        self.number = order[-1]
        self.turn = turn


class HashPool:
    """Checks at most `threads` passwords at a time (64 MiB each); at most `waiting` more may wait."""

    def __init__(self, *, threads: int = 2, waiting: int = 256) -> None:
        self._executor = ThreadPoolExecutor(threads, "password", initializer=_step_back)
        self._free = threads
        self._most = waiting
        self._queue: list[_Waiting] = []
        self._present: Counter[str] = Counter()
        self._arrived = 0
        self._given = 0
        self._closed = False

    @contextlib.asynccontextmanager
    async def turn(self, standing: int = 0, network: str = "") -> AsyncIterator[None]:
        """Wait for a turn to call `verify`; the turn lasts for the block. A low `standing` goes first.

        Raises `HashingBusy`.
        """
        if self._closed:
            raise HashingBusy("the service is stopping")
        ahead = self._present[network]
        self._present[network] += 1
        try:
            if self._free:
                self._free -= 1
            else:
                await self._wait(standing, ahead)
            try:
                yield
            finally:
                self._free += 1
                self._give()
        finally:
            self._present[network] -= 1
            if not self._present[network]:
                del self._present[network]

    async def _wait(self, standing: int, ahead: int) -> None:
        self._arrived += 1
        waiting = _Waiting((standing, ahead, self._arrived), asyncio.get_running_loop().create_future())
        self._queue.append(waiting)
        if len(self._queue) > self._most:
            last = max(self._queue, key=lambda one: one.order)
            self._queue.remove(last)
            last.turn.set_exception(HashingBusy("too many logins are waiting"))
        try:
            await waiting.turn
        except asyncio.CancelledError:
            if waiting in self._queue:
                self._queue.remove(waiting)
            elif not waiting.turn.cancelled() and waiting.turn.exception() is None:
                self._free += 1  # the turn was given already
                self._give()
            raise

    def _give(self) -> None:
        """Give the free turns to waiting logins."""
        while self._free and self._queue:
            self._given += 1
            if self._given % _OLDEST_EACH:
                next_ = min(self._queue, key=lambda one: one.order)
            else:
                next_ = min(self._queue, key=lambda one: one.number)
            self._queue.remove(next_)
            if not next_.turn.done():
                self._free -= 1
                next_.turn.set_result(None)

    async def verify(self, argon2: str, prepared: str) -> bool:
        """Check a prepared password in a thread. Raises `HashingBusy`; `ValueError` when the hash is damaged."""
        if self._closed:
            raise HashingBusy("the service is stopping")
        try:
            checking = asyncio.get_running_loop().run_in_executor(self._executor, verify_password, argon2, prepared)
        except RuntimeError as error:
            raise HashingBusy(f"no thread could be started: {error}") from error
        return await checking

    def close(self) -> None:
        """End the threads without waiting; a running check is still finished, in its thread."""
        self._closed = True
        self._executor.shutdown(wait=False)


def _step_back() -> None:
    processors.use_any()
    # On Linux each thread has its own niceness, so the event loop goes first. Other systems don't have this.
    with contextlib.suppress(OSError):
        os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), _NICENESS)
