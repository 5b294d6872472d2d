"""Work begun at once: a task is made only for what has to wait, and most of a session's work does not.

A task costs more than answering a command does. During its first step the work stands in for its own task, as asyncio
allows other kinds of tasks to do: `asyncio.timeout` and `asyncio.TaskGroup` ask for the current task, keep it, and
cancel it later. What they do to the stand-in goes on to the task once there is one.
"""

import asyncio
from collections.abc import Callable, Coroutine, Generator
from typing import Any, cast

# Documented for other kinds of tasks: https://docs.python.org/3/library/asyncio-extending.html
_enter: Callable[[asyncio.AbstractEventLoop, Any], None] = asyncio._enter_task
_leave: Callable[[asyncio.AbstractEventLoop, Any], None] = asyncio._leave_task


def begin(loop: asyncio.AbstractEventLoop, work: Coroutine[Any, Any, None]) -> asyncio.Task[None] | None:
    """Run a coroutine up to its first wait; returns the task that does the rest, None when nothing is left to do.

    What the coroutine raises before its first wait is raised here.
    """
    # hot: bench/accept
    begun, caller = _Begun(work), asyncio.current_task(loop)
    if caller is not None:
        _leave(loop, caller)
    _enter(loop, begun)
    try:
        waits_for = work.send(None)
    except StopIteration:
        return None
    finally:
        _leave(loop, begun)
        if caller is not None:
            _enter(loop, caller)
    return begun.become_task(loop, waits_for)


class _Begun(Coroutine[Any, Any, None]):
    """A coroutine that takes its first step, and the task of that step."""

    __slots__ = ("__weakref__", "_cancels", "_task", "_waits_for", "_work")

    def __init__(self, work: Coroutine[Any, Any, None]) -> None:
        self._work = work
        self._task: asyncio.Task[None] | None = None
        self._cancels = 0
        self._waits_for: Any = None

    def become_task(self, loop: asyncio.AbstractEventLoop, waits_for: Any) -> asyncio.Task[None]:
        """Make the task; it has been cancelled as often as its stand-in was."""
        if waits_for is not None:  # a future; others may begin to wait for it before our task takes it from `send`
            waits_for._asyncio_future_blocking = False
        self._waits_for = waits_for
        task = self._task = loop.create_task(self)
        for _ in range(self._cancels):
            task.cancel()
        return task

    # What a coroutine does.

    def send(self, value: None) -> Any:
        """Take a step. The task's first one gives what the coroutine waits for already."""
        waits_for = self._waits_for
        if waits_for is None:
            return self._work.send(value)
        self._waits_for = None
        waits_for._asyncio_future_blocking = True
        return waits_for

    def throw(self, kind: Any, value: Any = None, traceback: Any = None) -> Any:
        """Take a step that begins with an error where the coroutine waits."""
        self._waits_for = None
        return self._work.throw(kind if value is None else value)

    def close(self) -> None:
        """End without another step."""
        self._work.close()

    def __await__(self) -> Generator[Any, Any, None]:
        """Nobody awaits it: a task runs it."""
        return cast(Generator[Any, Any, None], self)

    # What `asyncio.timeout` and `asyncio.TaskGroup` do with a task.

    def cancel(self, msg: Any = None) -> bool:
        """Cancel the work at its next wait."""
        if self._task is not None:
            return self._task.cancel(msg)
        self._cancels += 1
        return True

    def cancelling(self) -> int:
        """Return how many cancellations are still to be seen to."""
        return self._cancels if self._task is None else self._task.cancelling()

    def uncancel(self) -> int:
        """One of them is seen to."""
        if self._task is not None:
            return self._task.uncancel()
        self._cancels = max(0, self._cancels - 1)
        return self._cancels

    def done(self) -> bool:
        """True when the work is."""
        return self._task is not None and self._task.done()
