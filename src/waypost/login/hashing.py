"""The threads that check passwords: few, with a bounded queue, so that a burst of logins can't starve delivery."""

import asyncio
import contextlib
import os
import threading
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor

from waypost import processors
from waypost.login.passwords import verify_password

_NICENESS = 5


class HashingBusy(Exception):
    """Too many logins wait for a check already, or the process is stopping."""


class HashPool:
    """Checks at most `threads` passwords at a time (64 MiB each), while at most `waiting` more wait."""

    def __init__(self, *, threads: int = 2, waiting: int = 256) -> None:
        self._executor = ThreadPoolExecutor(threads, "password", initializer=_step_back)
        self._turns = asyncio.Semaphore(threads)
        self._most = threads + waiting
        self._present = 0
        self._closed = False

    @contextlib.asynccontextmanager
    async def turn(self) -> AsyncIterator[None]:
        """Wait for a turn to call `verify`; keep it for the block. Raises `HashingBusy`."""
        if self._closed or self._present >= self._most:
            raise HashingBusy("too many logins are waiting")
        self._present += 1
        try:
            async with self._turns:
                yield
        finally:
            self._present -= 1

    async def verify(self, argon2: str, prepared: str) -> bool:
        """Check a prepared password in a thread. Raises `HashingBusy`; `ValueError` when the hash is damaged."""
        if self._closed:
            raise HashingBusy("the service is stopping")
        try:
            checking = asyncio.get_running_loop().run_in_executor(self._executor, verify_password, argon2, prepared)
        except RuntimeError as error:
            raise HashingBusy(f"there is no thread for it: {error}") from error
        return await checking

    def close(self) -> None:
        """End the threads; a check that runs is finished first, in its thread."""
        self._closed = True
        self._executor.shutdown(wait=False)


def _step_back() -> None:
    processors.use_any()
    # On Linux a thread has a niceness of its own: the event loop goes first. Elsewhere there is no such thread.
    with contextlib.suppress(OSError):
        os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), _NICENESS)
