"""A dispatcher whose disk fails and whose clock is set: nothing is lost, nothing spins, nothing expires."""

import asyncio
from typing import Any

from tests.queue.world import DAY, MINUTE, SCHEDULE, SECOND, START, ScriptedCarrier, World

from waypost.storage import PlannedPage, StorageError, StorageFull


async def test_a_full_disk_loses_no_result_and_the_outcome_is_written_when_there_is_space(world: World) -> None:
    carrier = ScriptedCarrier(world.clock)
    carrier.fail()
    world.dispatcher(carrier)
    world.queue.faults["settle"].extend([StorageFull("disk full")] * 3)
    await world.submit("bob@builder.test")
    for pause in (1.0, 2.0, 4.0):
        await world.clock.somebody_sleeps(pause)
        assert world.queue.counts["settle"] == {1.0: 1, 2.0: 2, 4.0: 3}[pause]
        world.clock.advance(pause)
    result = await carrier.attempts.get()
    assert result.entry.recipients[0].address.local == "bob"
    stations = await world.stations(result.entry.trace)
    assert stations == ["attempt", "returned"], "once, and not once a try"
    [report] = await world.waiting()
    assert report.envelope.reverse_path is None


async def test_trouble_with_claims_and_releases_is_waited_for_without_a_busy_loop(world: World) -> None:
    carrier = ScriptedCarrier(world.clock)
    world.queue.faults["release_all"].append(StorageError("trouble"))
    world.queue.faults["claim_destinations"].append(StorageFull("full"))
    world.queue.faults["release"].append(StorageFull("full"))
    await world.submit("bob@builder.test")
    world.dispatcher(carrier)
    for name in ("release_all", "claim_destinations"):
        await world.clock.somebody_sleeps(1.0)
        assert world.queue.counts[name] == 1
        world.clock.advance(1)
    await carrier.attempts.get()
    await world.clock.somebody_sleeps(1.0)
    world.clock.advance(1)
    await world.queue.done("release")
    await world.submit("carol@builder.test")
    await carrier.attempts.get()


async def test_a_queue_that_cannot_be_read_rests_the_destination(world: World) -> None:
    carrier = ScriptedCarrier(world.clock)
    world.queue.faults["due"].append(StorageError("damaged"))
    world.dispatcher(carrier)
    await world.submit("bob@builder.test")
    await world.queue.done("release")
    assert await world.storage.queue.next_due(now=START) == START + 10 * SECOND
    await world.clock.somebody_sleeps(10.0)
    world.clock.advance(10)
    await carrier.attempts.get()


async def test_a_cancelled_carriers_result_is_written_all_the_same(world: World) -> None:
    carrier = ScriptedCarrier(world.clock)
    dispatcher = world.dispatcher(carrier)
    world.queue.faults["settle"].append(StorageFull("full"))
    await world.submit("bob@builder.test")
    await world.clock.somebody_sleeps(1.0)
    stopping = asyncio.create_task(dispatcher.stop(7))
    await world.clock.somebody_sleeps(7)
    world.clock.advance(7)  # the grace ends, and the carrier with it, while its result waits for the disk
    await stopping
    assert await world.waiting() == [], "the message was relayed, and must not be sent again"


async def test_a_clock_set_ahead_expires_nothing_and_frees_no_lease_of_the_living(world: World) -> None:
    carrier = ScriptedCarrier(world.clock)
    carrier.defer()
    world.dispatcher(carrier)
    await world.submit("bob@builder.test")
    await carrier.attempts.get()
    await world.queue.done("release")
    await world.clock.somebody_sleeps(30.0)
    world.clock.set_by(30 * 24 * 3600)
    world.clock.advance(30)
    await world.queue.done("shorten_leases")
    assert carrier.attempts.empty(), "for a while nobody claims: living workers renew their leases first"
    await world.clock.somebody_sleeps(20.0, people=2)  # the claims, and the renewal
    world.clock.advance(20)
    await carrier.attempts.get()
    [entry] = await world.waiting()
    assert entry.waited <= SCHEDULE.longest_wait
    assert entry.attempts == 2


async def test_a_clock_set_back_pulls_planned_attempts_back(world: World) -> None:
    carrier = ScriptedCarrier(world.clock)
    carrier.defer()
    world.dispatcher(carrier)
    await world.submit("bob@builder.test")
    await carrier.attempts.get()
    await world.queue.done("release")
    await world.clock.somebody_sleeps(30.0)
    world.clock.set_by(-30 * 24 * 3600)
    world.clock.advance(30)
    await world.queue.done("shorten_leases")
    [entry] = await world.waiting()
    assert entry.next_attempt == world.clock.now() + MINUTE, "as long as after any first attempt"
    for _ in range(2):
        await world.clock.somebody_sleeps(30.0)
        world.clock.advance(30)
    await carrier.attempts.get()
    [entry] = await world.waiting()
    assert (entry.attempts, entry.waited) == (2, 0)


async def test_a_clock_set_back_while_nobody_ran_is_mended_at_the_start(world: World) -> None:
    await world.submit("bob@builder.test", next_attempt=START + 300 * DAY)
    carrier = ScriptedCarrier(world.clock)
    world.dispatcher(carrier, owner=0)
    assert (await carrier.attempts.get()).started < START + DAY


async def test_who_retires_gives_its_leases_back_though_the_disk_fails_once(world: World) -> None:
    dispatcher = world.dispatcher(ScriptedCarrier(world.clock, gate=asyncio.Event()))
    await world.submit("bob@builder.test")
    await world.queue.done("due")
    world.queue.faults["release_all"].append(StorageFull("full"))
    stopping = asyncio.create_task(dispatcher.stop(7))
    await world.clock.somebody_sleeps(7)
    world.clock.advance(7)
    await world.clock.somebody_sleeps(1.0)  # before the second try
    world.clock.advance(1)
    await stopping
    (lease,) = await world.storage.queue.claim_destinations(9, now=world.clock.now(), lease=1, limit=9)
    assert lease.destination == "builder.test"


async def test_claims_do_not_wait_until_a_huge_queue_is_pulled_back(world: World) -> None:
    gate = asyncio.Event()
    real = world.storage.queue.planned

    async def slow(**arguments: Any) -> PlannedPage:
        await gate.wait()
        return await real(**arguments)

    world.queue.planned = slow  # type: ignore[attr-defined]
    carrier = ScriptedCarrier(world.clock)
    world.dispatcher(carrier, owner=0)
    await world.submit("bob@builder.test")
    assert (await carrier.attempts.get()).started == START and not gate.is_set()
    gate.set()


async def test_a_queue_that_cannot_be_pulled_back_keeps_no_claim(world: World) -> None:
    world.queue.faults["planned"].extend(StorageError("damaged") for _ in range(3))
    carrier = ScriptedCarrier(world.clock)
    world.dispatcher(carrier, owner=0)
    await world.submit("bob@builder.test")
    assert (await carrier.attempts.get()).entry.destination == "builder.test"
    assert world.queue.faults["planned"], "it could not be done yet"
