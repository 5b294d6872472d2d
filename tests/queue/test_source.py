"""The source of one destination's entries, as several connections of a carrier use it at once."""

import asyncio
import random
from typing import cast

import pytest
from tests.queue.world import MINUTE, SCHEDULE, START, ScriptedCarrier, World

from waypost.queue.carrier import Fate
from waypost.queue.settler import Settler
from waypost.queue.source import DestinationSource
from waypost.storage import Lease, NotFound, Queue, StorageFull


@pytest.fixture
def source(world: World) -> DestinationSource:
    queue = cast(Queue, world.queue)
    settler = Settler(
        queue=queue,
        reporter=world.reporter(),
        schedule=SCHEDULE,
        now=world.clock.now,
        random=random.Random(1),
        sleep=world.clock.sleep,
    )
    made = DestinationSource(
        Lease("builder.test", 0),
        queue=queue,
        settler=settler,
        now=world.clock.now,
        monotonic=world.clock.monotonic,
        sleep=world.clock.sleep,
    )
    world.bus.subscribe("destination", lambda notice: made.notice())
    return made


async def test_entries_come_best_first_and_each_to_one_taker(world: World, source: DestinationSource) -> None:
    low = await world.submit("bob@builder.test", priority=-2)
    old = await world.submit("bob@builder.test", next_attempt=START - MINUTE)
    new = await world.submit("bob@builder.test")
    urgent = await world.submit("bob@builder.test", priority=4)
    taken = await asyncio.gather(*(source.take(0) for _ in range(5)))
    assert [entry.id for entry in taken if entry] == [urgent, old, new, low]
    assert taken[4] is None


async def test_every_taker_that_waits_gets_an_entry_when_several_come_at_once(
    world: World, source: DestinationSource
) -> None:
    waiting = [asyncio.create_task(source.take(60)) for _ in range(3)]
    await world.clock.somebody_sleeps(60, people=3)
    ids = {await world.submit("bob@builder.test"), await world.submit("bob@builder.test")}
    done, left = await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
    while len(done) < 2:
        more, left = await asyncio.wait(left, return_when=asyncio.FIRST_COMPLETED)
        done |= more
    assert {entry.id for task in done if (entry := task.result())} == ids
    source.close()
    assert await left.pop() is None


async def test_what_becomes_due_while_somebody_waits_is_found_when_the_wait_ends(
    world: World, source: DestinationSource
) -> None:
    later = await world.submit("bob@builder.test", next_attempt=START + 1)
    waiting = asyncio.create_task(source.take(5))
    await world.clock.somebody_sleeps(5)
    world.clock.advance(5)
    entry = await waiting
    assert entry is not None and entry.id == later


async def test_an_entry_that_is_given_back_is_the_next_again(world: World, source: DestinationSource) -> None:
    await world.submit("bob@builder.test")
    await world.submit("bob@builder.test")
    first = await source.take(0)
    assert first is not None
    source.give_back(first)
    again = await source.take(0)
    assert again == first


async def test_an_entry_stays_in_flight_until_its_outcome_is_durable(world: World, source: DestinationSource) -> None:
    carrier = ScriptedCarrier(world.clock)
    await world.submit("bob@builder.test")
    world.queue.faults["settle"].append(StorageFull("full"))
    entry = await source.take(0)
    assert entry is not None
    reporting = source.report(carrier.result(entry))
    await world.clock.somebody_sleeps(1.0)
    assert await source.take(0) is None
    world.clock.advance(1)
    await reporting
    assert await world.waiting() == []


async def test_an_entry_whose_mailbox_went_meanwhile_is_tried_again_by_the_schedule(
    world: World, source: DestinationSource
) -> None:
    await world.submit("bob@builder.test")
    world.queue.faults["settle"].append(NotFound("no such mailbox"))
    entry = await source.take(0)
    assert entry is not None
    await source.report(ScriptedCarrier(world.clock, fate=Fate.DELIVERED).result(entry))
    assert await source.take(0) is None
    [waiting] = await world.waiting()
    assert (waiting.attempts, waiting.next_attempt) == (1, START + MINUTE)


async def test_a_closed_source_hands_out_nothing_and_still_takes_reports(
    world: World, source: DestinationSource
) -> None:
    await world.submit("bob@builder.test")
    await world.submit("bob@builder.test")
    entry = await source.take(0)
    assert entry is not None
    source.close()
    assert await source.take(100) is None
    await source.report(ScriptedCarrier(world.clock).result(entry))
    assert len(await world.waiting()) == 1
