"""Tasks of transactions: work that runs while the content of a message arrives, in one worker.

Their number is limited, and client networks share the limit fairly (`queue/places.py`): a network may have another
place while it has fewer places than are free; networks that wait get a free place in turn. Work without a place is
a coroutine that has not begun, not a task.
"""

import asyncio
import logging
from collections.abc import Coroutine
from typing import Any

from waypost.protocol.network import network_of, site_of
from waypost.queue.places import PlaceClaim, Places

log = logging.getLogger(__name__)

MOST_TASKS = 1000
"""Tasks of one worker's transactions at a time."""

_AFTER_CANCEL = 5.0  # seconds that a task may take to end once it is cancelled


class ReplyDelay:
    """The seconds in all for which replies may be delayed by all works that share this object."""

    __slots__ = ("left",)

    def __init__(self, seconds: float) -> None:
        self.left = seconds


class Work:
    """One piece of work of a transaction: a coroutine that waits for its place, then a task, then `done`."""

    __slots__ = ("_cancelled", "_claim", "_coroutine", "_patience", "_tasks", "_waiting", "done", "task")

    def __init__(
        self, tasks: "TransactionTasks", claim: PlaceClaim, work: Coroutine[Any, Any, None], patience: ReplyDelay | None
    ) -> None:
        self._tasks = tasks
        self._claim = claim
        self._coroutine = work
        self._patience = patience
        self._waiting: asyncio.Future[bool] | None = None
        self._cancelled = False
        self.task: asyncio.Task[None] | None = None
        self.done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        """It has a result when the work is over, however it ended."""

    def begin(self) -> None:
        """Begin now, or as soon as there is a place."""
        places = self._tasks.places
        if places.allows(self._claim):
            places.take(self._claim)
            self._start()
        else:
            self._waiting = places.wait(self._claim)
            self._waiting.add_done_callback(self._let_in)

    def _let_in(self, waiting: "asyncio.Future[bool]") -> None:
        if not self._cancelled:
            self._waiting = None
            self._start()

    def _start(self) -> None:
        self.task = asyncio.get_running_loop().create_task(self._coroutine)
        self._tasks.running.add(self.task)
        self.task.add_done_callback(self._ended)

    def _ended(self, task: "asyncio.Task[None]") -> None:
        self._tasks.running.discard(task)
        self._tasks.places.give(self._claim)
        self.done.set_result(None)
        if self._cancelled:
            self._tell_failure()

    def _tell_failure(self) -> None:
        """Log the error of work that nothing waits for any more."""
        if (failure := self.failure) is not None:
            log.error("a task of a transaction failed", exc_info=failure)

    async def wait(self) -> bool:
        """Wait until the work is over, at most as long as its patience lasts; return True when the work is over."""
        patience = self._patience
        if not self.done.done() and patience is not None and patience.left > 0:
            clock = asyncio.get_running_loop().time
            began = clock()
            try:
                await asyncio.wait((self.done,), timeout=patience.left)
            finally:
                patience.left = max(0.0, patience.left - (clock() - began))
        return self.done.done()

    @property
    def failure(self) -> BaseException | None:
        """The exception that the work raised; None when it raised nothing or is not over."""
        task = self.task
        return task.exception() if task is not None and task.done() and not task.cancelled() else None

    def cancel(self) -> None:
        """Cancel the work; it may take a turn of the event loop to end."""
        self._cancelled = True
        if self.task is not None:
            if not self.task.cancel():
                self._tell_failure()
            return
        if self._waiting is not None:
            waiting, self._waiting = self._waiting, None
            self._tasks.places.leave(self._claim, waiting)
        self._coroutine.close()
        if not self.done.done():
            self.done.set_result(None)


class TransactionTasks:
    """The tasks of all transactions of one worker; `limit` run at a time."""

    def __init__(self, limit: int = MOST_TASKS) -> None:
        self.places = Places(limit)
        self.running: set[asyncio.Task[None]] = set()
        """Tasks that have begun and are not over, including those of ended transactions."""
        self._closed = False

    def run(self, work: Coroutine[Any, Any, None], client: str, patience: ReplyDelay | None = None) -> Work:
        """Run a coroutine for a client (an IP address). `patience` limits the wait for it: see `Work.wait`."""
        piece = Work(self, PlaceClaim((site_of(network_of(client)),), proven=True), work, patience)
        if self._closed:
            piece.cancel()
        else:
            piece.begin()
        return piece

    async def close(self) -> None:
        """Cancel all tasks and wait for their end; no task begins afterwards. All transactions must be over before."""
        self._closed = True
        for task in tuple(self.running):
            task.cancel()
        if self.running:
            await stopped(self.running)


async def stopped(tasks: "set[asyncio.Task[None]]") -> None:
    """Wait for cancelled tasks, for a limited time; one that ignores its cancellation is our bug, and is logged.

    Such a task keeps its place until it has ended.
    """
    _, going_on = await asyncio.wait(set(tasks), timeout=_AFTER_CANCEL)
    for task in going_on:
        log.error("a task outlives its transaction", extra={"fields": {"task": repr(task.get_coro())}})
