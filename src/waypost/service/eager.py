"""Work begun at once: a task is made only for what has to wait, and most of a session's work does not.

A task costs more than answering a command does. Until its first wait the work has no task of its own, so it must not
ask for one (`asyncio.timeout`, `TaskGroup`): that raises `RuntimeError` at once.
"""

import asyncio
import types
from collections.abc import Coroutine, Generator
from typing import Any


def begin(loop: asyncio.AbstractEventLoop, work: Coroutine[Any, Any, None]) -> asyncio.Task[None] | None:
    """Run a coroutine up to its first wait; returns the task that does the rest, None when nothing is left to do.

    What the coroutine raises before its first wait is raised here.
    """
    # hot: bench/accept
    try:
        waits_for = work.send(None)
    except StopIteration:
        return None
    return loop.create_task(_rest(work, waits_for))


async def _rest(work: Coroutine[Any, Any, None], waits_for: Any) -> None:
    """Finish a coroutine that waits already. Since Python 3.12 a task takes coroutines only, not generators."""
    await _steps(work, waits_for)


@types.coroutine
def _steps(work: Coroutine[Any, Any, None], waits_for: Any) -> Generator[Any, Any, None]:
    """Take each step by hand: a coroutine that waits already can't be awaited any more."""
    try:
        while True:
            try:
                yield waits_for
            except BaseException as error:  # noqa: BLE001  a cancellation, or what it waited for: it is the work's
                waits_for = work.throw(error)
            else:
                waits_for = work.send(None)
    except StopIteration:
        return
