"""Tasks of transactions: so many in one worker, shared fairly by client networks, and none that anybody forgets."""

import asyncio
from collections.abc import Coroutine
from typing import Any

import pytest

from waypost.intake import TransactionTasks
from waypost.intake.tasks import Work

FLOOD, NEIGHBOUR = "203.0.113.1", "198.51.100.1"


class Yard:
    """Work that goes on until it is let go, and counts."""

    def __init__(self) -> None:
        self.running: list[str] = []
        self.most = 0
        self.gates: dict[str, asyncio.Event] = {}

    async def work(self, name: str) -> None:
        self.running.append(name)
        self.most = max(self.most, len(self.running))
        try:
            await self.gates.setdefault(name, asyncio.Event()).wait()
        finally:
            self.running.remove(name)


@pytest.fixture
def yard() -> Yard:
    return Yard()


async def turns(count: int = 5) -> None:
    for _ in range(count):
        await asyncio.sleep(0)


async def over(tasks: TransactionTasks, works: list[Work]) -> None:
    """The transactions end, and then the worker."""
    for work in works:
        work.cancel()
    await tasks.close()


async def test_never_more_than_the_limit_run_and_each_gets_its_place_in_the_end(yard: Yard) -> None:
    tasks = TransactionTasks(4)
    works = [tasks.run(yard.work(str(n)), f"198.51.100.{n}") for n in range(20)]
    for n in range(20):
        await turns()
        assert 1 <= len(yard.running) <= 4
        yard.gates.setdefault(str(n), asyncio.Event()).set()
    await asyncio.gather(*(work.done for work in works))
    assert yard.most == 4 and tasks.places.taken == 0 and not tasks.running


async def test_one_network_leaves_room_for_another_however_much_it_asks_for(yard: Yard) -> None:
    tasks = TransactionTasks(10)
    flood = [tasks.run(yard.work(f"flood {n}"), FLOOD) for n in range(1000)]
    await turns()
    assert len(yard.running) == 5
    tasks.run(yard.work("neighbour"), NEIGHBOUR)
    await turns()
    assert "neighbour" in yard.running, "it does not wait behind a thousand others"
    await over(tasks, flood)


async def test_the_addresses_of_one_customer_share_one_part(yard: Yard) -> None:
    tasks = TransactionTasks(10)
    works = [tasks.run(yard.work(str(n)), f"2001:db8:0:{n:x}::1") for n in range(100)]
    await turns()
    assert len(yard.running) == 5
    await over(tasks, works)


async def test_networks_that_wait_are_let_in_by_turns(yard: Yard) -> None:
    tasks = TransactionTasks(2)
    tasks.run(yard.work("first"), FLOOD)
    tasks.run(yard.work("second"), "192.0.2.1")
    flood = [tasks.run(yard.work(f"flood {n}"), FLOOD) for n in range(5)]
    tasks.run(yard.work("neighbour"), NEIGHBOUR)
    await turns()
    assert yard.running == ["first", "second"]
    for name in ("first", "second"):
        yard.gates[name].set()
    await turns()
    assert sorted(yard.running) == ["flood 0", "neighbour"]
    await over(tasks, flood)


async def test_work_that_is_cancelled_before_its_turn_never_begins(yard: Yard) -> None:
    tasks = TransactionTasks(1)
    holds = tasks.run(yard.work("holds"), FLOOD)
    waits = tasks.run(yard.work("waits"), FLOOD)
    await turns()
    waits.cancel()
    assert waits.done.done() and not tasks.places.waiting
    yard.gates["holds"].set()
    await holds.done
    await turns()
    assert yard.running == [] and "waits" not in yard.gates and tasks.places.taken == 0


async def test_work_that_is_cancelled_as_its_turn_comes_gives_its_place_back(yard: Yard) -> None:
    tasks = TransactionTasks(1)
    holds = tasks.run(yard.work("holds"), FLOOD)
    waits = tasks.run(yard.work("waits"), NEIGHBOUR)
    await turns()
    assert holds.task is not None
    holds.task.add_done_callback(lambda _: waits.cancel())  # after its place was given on, before the next one begins
    yard.gates["holds"].set()
    await turns()
    assert waits.done.done() and tasks.places.taken == 0 and "waits" not in yard.gates


async def test_a_place_is_taken_until_its_task_has_really_ended() -> None:
    tasks, stop = TransactionTasks(1), asyncio.Event()

    async def slow() -> None:
        try:
            await asyncio.get_running_loop().create_future()
        finally:
            await stop.wait()

    work = tasks.run(slow(), FLOOD)
    await turns()
    work.cancel()
    await turns()
    assert tasks.places.taken == 1
    stop.set()
    await work.done
    assert tasks.places.taken == 0


async def test_a_worker_that_closes_leaves_none_behind_and_begins_none(yard: Yard) -> None:
    tasks = TransactionTasks(2)
    works = [tasks.run(yard.work(str(n)), f"198.51.100.{n}") for n in range(5)]
    await turns()
    for work in works[2:]:
        work.cancel()
    await tasks.close()
    late: Coroutine[Any, Any, None] = yard.work("late")
    assert tasks.run(late, NEIGHBOUR).done.done()
    assert yard.running == [] and not tasks.running and "late" not in yard.gates
