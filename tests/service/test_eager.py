"""Work begun at once: what happens before its first wait, and that a task does the rest, in every Python."""

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

import pytest
import uvloop

from waypost.service.sockets.eager import begin


async def test_work_that_never_waits_is_done_at_once_and_makes_no_task() -> None:
    done: list[str] = []

    async def work() -> None:
        done.append("all")

    assert begin(asyncio.get_running_loop(), work()) is None
    assert done == ["all"]


async def test_what_it_raises_before_its_first_wait_is_raised_to_the_caller() -> None:
    async def work() -> None:
        raise KeyError("at once")

    with pytest.raises(KeyError, match="at once"):
        begin(asyncio.get_running_loop(), work())


async def test_a_task_does_what_comes_after_the_first_wait() -> None:
    gates = [asyncio.get_running_loop().create_future() for _ in range(3)]
    heard: list[int] = []

    async def work() -> None:
        for gate in gates:
            heard.append(await gate)

    task = begin(asyncio.get_running_loop(), work())
    assert isinstance(task, asyncio.Task) and heard == []
    for number, gate in enumerate(gates):
        gate.set_result(number)
    await task
    assert heard == [0, 1, 2]


async def test_what_it_waits_for_may_fail_and_the_work_may_go_on() -> None:
    loop = asyncio.get_running_loop()
    first, second = loop.create_future(), loop.create_future()
    heard: list[str] = []

    async def work() -> None:
        try:
            await first
        except OSError as error:
            heard.append(str(error))
        heard.append(await second)

    task = begin(loop, work())
    assert task is not None
    first.set_exception(OSError("reset"))
    second.set_result("went on")
    await task
    assert heard == ["reset", "went on"]


async def test_what_it_raises_later_is_the_tasks() -> None:
    gate = asyncio.get_running_loop().create_future()

    async def work() -> None:
        await gate
        raise KeyError("later")

    task = begin(asyncio.get_running_loop(), work())
    assert task is not None
    gate.set_result(None)
    with pytest.raises(KeyError, match="later"):
        await task


async def test_the_work_is_cancelled_where_it_waits() -> None:
    heard: list[str] = []

    async def work() -> None:
        try:
            await asyncio.get_running_loop().create_future()
        finally:
            heard.append("cleared up")

    task = begin(asyncio.get_running_loop(), work())
    assert task is not None
    await asyncio.sleep(0)  # the task waits now
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert heard == ["cleared up"]


async def test_two_may_begin_to_wait_for_the_same_future_in_one_turn_of_the_loop() -> None:
    loop = asyncio.get_running_loop()
    shared = loop.create_future()
    heard: list[str] = []

    async def work() -> None:
        heard.append(await shared)

    tasks = [begin(loop, work()) for _ in range(3)]
    shared.set_result("the answer")
    await asyncio.gather(*(task for task in tasks if task is not None))
    assert heard == ["the answer"] * 3


async def test_a_task_that_is_cancelled_before_its_first_turn_tells_the_work_so() -> None:
    heard: list[str] = []

    async def work() -> None:
        try:
            await asyncio.get_running_loop().create_future()
        finally:
            heard.append("cleared up")

    task = begin(asyncio.get_running_loop(), work())
    assert task is not None
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert heard == ["cleared up"]


# What asks for the current task, on both event loops. Work begins in a callback of the loop, as input arrives.

LOOPS = [asyncio.new_event_loop, uvloop.new_event_loop]


def run_begun(
    make_loop: Callable[[], asyncio.AbstractEventLoop], work: Callable[[], Coroutine[Any, Any, None]]
) -> None:
    """Begin work in a callback of a new loop, and run the loop until the work is done."""

    async def main() -> None:
        loop = asyncio.get_running_loop()
        begun: asyncio.Future[asyncio.Task[None] | None] = loop.create_future()
        loop.call_soon(lambda: begun.set_result(begin(loop, work())))
        task = await begun
        if task is not None:
            await task

    with asyncio.Runner(loop_factory=make_loop) as runner:
        runner.run(main())


@pytest.mark.parametrize("make_loop", LOOPS)
@pytest.mark.parametrize("first", [True, False], ids=["before the first wait", "behind it"])
def test_work_may_wait_under_a_deadline(make_loop: Callable[[], asyncio.AbstractEventLoop], first: bool) -> None:
    heard: list[str] = []

    async def work() -> None:
        if not first:
            await asyncio.sleep(0)
        try:
            async with asyncio.timeout(0.001):
                await asyncio.get_running_loop().create_future()
        except TimeoutError:
            heard.append("late")
        task = asyncio.current_task()
        assert task is not None and task.cancelling() == 0
        async with asyncio.timeout(None):
            heard.append(await _soon("went on"))

    run_begun(make_loop, work)
    assert heard == ["late", "went on"]


@pytest.mark.parametrize("make_loop", LOOPS)
def test_work_may_wait_for_a_group_of_tasks_before_its_first_wait(
    make_loop: Callable[[], asyncio.AbstractEventLoop],
) -> None:
    heard: list[str] = []

    async def fail() -> None:
        await asyncio.sleep(0)
        raise KeyError("one of them")

    async def work() -> None:
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(fail())
                await asyncio.get_running_loop().create_future()
        except* KeyError:
            heard.append("failed")
        async with asyncio.TaskGroup() as group:
            group.create_task(_add(heard, "done"))
        heard.append(await asyncio.wait_for(_soon("last"), 60))

    run_begun(make_loop, work)
    assert heard == ["failed", "done", "last"]


@pytest.mark.parametrize("make_loop", LOOPS)
def test_work_that_cancels_itself_in_its_first_step_is_cancelled(
    make_loop: Callable[[], asyncio.AbstractEventLoop],
) -> None:
    heard: list[str] = []

    async def work() -> None:
        task = asyncio.current_task()
        assert task is not None and not task.done()
        task.cancel()
        assert task.cancelling() == 1
        try:
            await asyncio.sleep(0)
        except asyncio.CancelledError:
            heard.append("cancelled")
            task.uncancel()

    run_begun(make_loop, work)
    assert heard == ["cancelled"]


@pytest.mark.parametrize("make_loop", LOOPS)
def test_work_that_another_task_begins_leaves_that_one_the_current_task(
    make_loop: Callable[[], asyncio.AbstractEventLoop],
) -> None:
    async def inner() -> None:
        task = asyncio.current_task()
        assert task is not None and task.cancelling() == 0

    async def work() -> None:
        await asyncio.sleep(0)
        ours = asyncio.current_task()
        assert begin(asyncio.get_running_loop(), inner()) is None
        assert asyncio.current_task() is ours

    run_begun(make_loop, work)


async def _soon(words: str) -> str:
    await asyncio.sleep(0)
    return words


async def _add(heard: list[str], words: str) -> None:
    heard.append(await _soon(words))
