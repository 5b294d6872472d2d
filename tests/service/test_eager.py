"""Work begun at once: what happens before its first wait, and that a task does the rest, in every Python."""

import asyncio

import pytest

from waypost.service.eager import begin


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
