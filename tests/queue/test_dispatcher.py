"""A dispatcher over real storage: it wakes when it should, survives what storage does, and does nothing twice."""

import asyncio
import itertools
import logging
from typing import Any

import pytest
from tests.queue.world import ALICE, DAY, MINUTE, SECOND, START, ScriptedCarrier, World

from waypost.journal import fields
from waypost.message.envelope import DeliverBy, Envelope
from waypost.message.trace import iso_time
from waypost.queue.carrier import CarryResult, EntrySource, Fate
from waypost.storage import Filter, Lease, Pacing, StorageError


async def test_fresh_mail_is_carried_at_once_and_leaves_the_queue(world: World) -> None:
    carrier = ScriptedCarrier(world.clock)
    world.dispatcher(carrier)
    await world.submit("bob@builder.test")
    result = await carrier.attempts.get()
    assert result.entry.destination == "builder.test"
    assert await world.waiting() == []
    assert await world.stations(result.entry.trace) == ["relayed"]


async def test_mail_that_waited_before_the_start_is_found(world: World) -> None:
    await world.submit("bob@builder.test")
    carrier = ScriptedCarrier(world.clock)
    world.dispatcher(carrier)
    await carrier.attempts.get()
    assert await world.waiting() == []


async def test_a_deferred_entry_is_tried_again_when_its_time_comes(world: World) -> None:
    carrier = ScriptedCarrier(world.clock)
    carrier.defer()
    world.dispatcher(carrier)
    await world.submit("bob@builder.test")
    await carrier.attempts.get()
    await world.queue.done("release")
    [entry] = await world.waiting()
    assert (entry.attempts, entry.next_attempt) == (1, START + MINUTE)
    assert entry.last_error == "451 4.3.0 Not now"
    await world.clock.somebody_sleeps(30.0)
    world.clock.advance(30)
    await world.clock.somebody_sleeps(30.0)
    assert carrier.attempts.empty()
    world.clock.advance(30)
    await carrier.attempts.get()
    [entry] = await world.waiting()
    assert (entry.attempts, entry.waited, entry.next_attempt) == (2, MINUTE, START + 6 * MINUTE)


async def test_the_log_tells_the_next_attempt_as_people_read_a_time(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "waypost")
    carrier = ScriptedCarrier(world.clock)
    carrier.defer()
    world.dispatcher(carrier)
    await world.submit("bob@builder.test")
    await world.queue.done("release")
    [record] = [one for one in caplog.records if one.message == "delivery failed"]
    assert record.fields["next_attempt"] == iso_time(START + MINUTE)  # type: ignore[attr-defined]
    assert iso_time(START) == "2026-11-24T16:57:26.000Z"


async def test_the_timer_fires_at_the_due_time_and_not_at_the_next_sweep(world: World) -> None:
    carrier = ScriptedCarrier(world.clock)
    world.dispatcher(carrier)
    await world.submit("bob@builder.test", next_attempt=START + 7 * SECOND)
    await world.clock.somebody_sleeps(7.0)
    world.clock.advance(7)
    assert (await carrier.attempts.get()).started == START + 7 * SECOND


async def test_a_lost_notice_is_repaired_by_the_sweep(world: World) -> None:
    carrier = ScriptedCarrier(world.clock)
    world.dispatcher(carrier)
    await world.clock.somebody_sleeps(30.0)
    world.bus.deaf = True
    await world.submit("bob@builder.test")
    assert carrier.carried.empty()
    world.clock.advance(30)
    await carrier.attempts.get()


async def test_nobody_polls_an_empty_queue(world: World) -> None:
    world.dispatcher(ScriptedCarrier(world.clock))
    await world.clock.somebody_sleeps(30.0)
    for _ in range(100):
        await asyncio.sleep(0)
    assert world.queue.counts["claim_destinations"] == 1


async def test_a_carrier_that_waits_gets_mail_that_comes_meanwhile(world: World) -> None:
    carrier = ScriptedCarrier(world.clock, wait=5.0)
    world.dispatcher(carrier)
    await world.submit("bob@builder.test")
    await carrier.attempts.get()
    await world.clock.somebody_sleeps(5.0)
    await world.submit("bob@builder.test")
    await carrier.attempts.get()
    assert world.queue.counts["claim_destinations"] <= 3
    assert carrier.carried.qsize() == 1, "one carrier took both"


async def test_a_destination_that_is_left_alone_is_not_claimed_before_its_time(world: World) -> None:
    carrier = ScriptedCarrier(world.clock, parting=CarryResult(START + 10 * MINUTE))
    world.dispatcher(carrier)
    await world.submit("bob@builder.test")
    await carrier.attempts.get()
    await world.queue.done("release")
    await world.submit("carol@builder.test")
    await world.clock.somebody_sleeps(30.0)
    world.clock.advance(9 * 60)
    await world.clock.somebody_sleeps(30.0)
    assert carrier.attempts.empty()
    world.clock.advance(60)
    await carrier.attempts.get()


async def test_a_slow_destination_does_not_delay_another(world: World) -> None:
    slow, fast = ScriptedCarrier(world.clock, gate=asyncio.Event()), ScriptedCarrier(world.clock)
    dispatcher = world.dispatcher(fast)
    dispatcher._carrier_for = lambda name: slow if name == "slow.test" else fast
    await world.submit("bob@slow.test")
    assert await slow.carried.get() == "slow.test"
    await world.submit("bob@fast.test")
    await fast.attempts.get()
    assert slow.gate is not None
    slow.gate.set()
    await slow.attempts.get()


async def test_no_more_destinations_are_worked_than_there_are_places(world: World) -> None:
    carrier = ScriptedCarrier(world.clock, gate=asyncio.Event())
    for name in ("one.test", "two.test", "three.test"):
        await world.submit(f"bob@{name}", account=f"{name}@wonderland.test")
    world.dispatcher(carrier, most_destinations=2)
    await carrier.carried.get()
    await carrier.carried.get()
    await world.clock.somebody_sleeps(30.0)
    assert carrier.carried.empty()
    assert carrier.gate is not None
    carrier.gate.set()
    await carrier.carried.get()


async def test_retries_leave_places_for_destinations_with_fresh_mail(world: World) -> None:
    carrier = ScriptedCarrier(world.clock, gate=asyncio.Event())
    for number in range(5):
        await world.submit(f"bob@old{number}.test", account=f"account{number}@wonderland.test")
    world.dispatcher(carrier, most_destinations=4)
    old = {await carrier.carried.get() for _ in range(3)}
    await world.clock.somebody_sleeps(30.0)
    assert carrier.carried.empty()
    await world.submit("bob@fresh.test")
    assert await carrier.carried.get() == "fresh.test"
    assert len(old) == 3


async def test_a_mass_retry_of_one_destination_starts_at_once(world: World) -> None:
    carrier = ScriptedCarrier(world.clock)
    ids = [await world.submit("bob@builder.test", next_attempt=START + 2 * DAY) for _ in range(50)]
    world.dispatcher(carrier)
    await world.clock.somebody_sleeps(30.0)
    assert await world.storage.queue.retry(ids, now=world.clock.now()) == 50
    for _ in range(50):
        await carrier.attempts.get()
    assert carrier.carried.qsize() == 1


async def test_a_bug_in_a_carrier_is_logged_and_the_destination_rests_a_minute(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    class Broken(ScriptedCarrier):
        async def carry(self, destination: str, source: EntrySource) -> CarryResult:
            self.carried.put_nowait(destination)
            raise KeyError("a bug")

    carrier = Broken(world.clock)
    world.dispatcher(carrier)
    await world.submit("bob@builder.test")
    await carrier.carried.get()
    await world.queue.done("release")
    assert any(record.message == "a carrier failed" and record.exc_info for record in caplog.records)
    assert await world.storage.queue.next_due(now=START) == START + MINUTE
    [entry] = await world.waiting()
    assert entry.attempts == 0, "nothing was lost, nothing was counted"


async def test_a_carrier_that_does_nothing_is_not_called_in_a_busy_loop(world: World) -> None:
    class Idle(ScriptedCarrier):
        async def carry(self, destination: str, source: EntrySource) -> CarryResult:
            self.carried.put_nowait(destination)
            entry = await source.take(0)
            assert entry is not None
            source.give_back(entry)
            return CarryResult()

    carrier = Idle(world.clock)
    world.dispatcher(carrier)
    await world.submit("bob@builder.test")
    await world.queue.done("release")
    assert carrier.carried.qsize() == 1
    assert await world.storage.queue.next_due(now=START) == START + SECOND


async def test_a_dead_workers_destinations_are_taken_over_when_the_lease_ends(world: World) -> None:
    dying = ScriptedCarrier(world.clock, gate=asyncio.Event())
    world.dispatcher(dying, owner=3)  # of which no process lives
    await world.submit("bob@builder.test")
    await dying.carried.get()
    _, task = world.running[0]
    task.cancel()  # no goodbye: nothing is released
    await asyncio.gather(task, return_exceptions=True)
    heir = ScriptedCarrier(world.clock)
    world.dispatcher(heir, owner=2)
    await world.clock.somebody_sleeps(30.0)
    world.clock.advance(30)
    await world.clock.somebody_sleeps(30.0)
    assert heir.carried.empty(), "the lease still holds"
    world.clock.advance(31)
    await heir.attempts.get()
    assert await world.waiting() == []


async def test_mail_for_a_destination_of_another_worker_costs_no_question_each(world: World) -> None:
    owner = ScriptedCarrier(world.clock, gate=asyncio.Event())
    world.dispatcher(owner, owner=1)
    await world.submit("bob@builder.test")
    await owner.carried.get()
    await world.clock.somebody_sleeps(30.0)
    other = ScriptedCarrier(world.clock)
    world.dispatcher(other, owner=2)
    await world.clock.somebody_sleeps(30.0, people=2)
    for _ in range(6):
        await world.submit("bob@builder.test")
    await world.clock.somebody_sleeps(0.25)
    assert world.queue.counts["claim_destinations"] <= 3, "one of each, and one in vain"
    assert owner.gate is not None
    owner.gate.set()
    await world.queue.done("release")
    world.bus.deaf = True
    await world.submit("carol@builder.test")
    assert await world.waiting()
    world.clock.advance(0.25)
    await other.attempts.get()


async def test_a_worker_that_starts_again_needs_not_wait_for_its_own_leases(world: World) -> None:
    await world.submit("bob@builder.test")
    await world.storage.queue.claim_destinations(3, now=START, lease=MINUTE, limit=10)
    carrier = ScriptedCarrier(world.clock)
    world.dispatcher(carrier, owner=3)
    assert (await carrier.attempts.get()).started == START


async def test_leases_are_renewed_while_a_carrier_works(world: World) -> None:
    slow = ScriptedCarrier(world.clock, gate=asyncio.Event())
    world.dispatcher(slow, owner=1)
    await world.submit("bob@builder.test")
    await slow.carried.get()
    for _ in range(6):
        await world.clock.somebody_sleeps(20.0)
        world.clock.advance(20)
        assert [lease.destination for lease in await world.queue.done("renew")] == ["builder.test"]
    claimed = await world.storage.queue.claim_destinations(2, now=world.clock.now(), lease=MINUTE, limit=10)
    assert claimed == []
    assert slow.gate is not None
    slow.gate.set()


async def test_a_lease_that_was_lost_ends_the_taking_and_is_not_given_back(world: World) -> None:
    released: list[Lease] = []
    release = world.queue.release

    async def watched(leases: list[Lease], **more: Any) -> None:
        released.extend(leases)
        await release(leases, **more)

    world.queue.release = watched  # type: ignore[attr-defined]
    carrier = ScriptedCarrier(world.clock, wait=500.0)
    world.dispatcher(carrier, owner=1)
    await world.submit("bob@builder.test")
    await carrier.attempts.get()
    await world.clock.somebody_sleeps(500.0)
    await world.storage.queue.release_all(1)
    await world.submit("carol@elsewhere.test")
    await carrier.attempts.get()
    await world.storage.queue.release_all(1)
    await world.clock.somebody_sleeps(20.0)
    world.clock.advance(20)
    assert await world.queue.done("renew") == []
    await asyncio.sleep(0)
    assert released == [Lease("builder.test", 2)], "claimed again while the carrier of the lost lease still ends"


async def test_a_carrier_whose_lease_was_lost_takes_nothing_more_when_an_outcome_is_refused(world: World) -> None:
    """Else it would try the same message again and again until the leases are renewed."""
    carrier = ScriptedCarrier(world.clock, gate=asyncio.Event())
    carrier.defer()
    world.dispatcher(carrier, owner=3)  # of which no process lives
    await world.submit("bob@builder.test")
    await carrier.carried.get()
    queue = world.storage.queue
    heir = await queue.claim_destinations(2, now=START + 2 * MINUTE, lease=MINUTE, limit=9)
    assert [lease.destination for lease in heir] == ["builder.test"]
    assert carrier.gate is not None
    carrier.gate.set()
    await carrier.attempts.get()
    await world.queue.done("settle")
    for _ in range(20):
        await asyncio.sleep(0)
    assert carrier.attempts.empty()
    [entry] = await queue.due(heir[0], now=START + 2 * MINUTE, limit=9)
    assert entry.attempts == 0, "it is the heir's to try"
    assert await queue.renew(heir, until=START + 3 * MINUTE) == heir


async def test_stop_lets_what_is_in_flight_end_and_gives_the_leases_back(world: World) -> None:
    carrier = ScriptedCarrier(world.clock, gate=asyncio.Event())
    dispatcher = world.dispatcher(carrier)
    await world.submit("bob@builder.test")
    await world.submit("carol@builder.test")
    await carrier.carried.get()
    stopping = asyncio.create_task(dispatcher.stop(30))
    await world.clock.somebody_sleeps(30)
    assert carrier.gate is not None
    carrier.gate.set()
    await stopping
    assert carrier.attempts.qsize() == 1, "the second was not begun"
    assert len(await world.waiting()) == 1
    (lease,) = await world.storage.queue.claim_destinations(2, now=START, lease=MINUTE, limit=9)
    assert lease.destination == "builder.test"


async def test_stop_ends_carriers_that_outlast_the_grace(world: World) -> None:
    carrier = ScriptedCarrier(world.clock, gate=asyncio.Event())
    dispatcher = world.dispatcher(carrier)
    await world.submit("bob@builder.test")
    await carrier.carried.get()
    stopping = asyncio.create_task(dispatcher.stop(17))
    await world.clock.somebody_sleeps(17)
    world.clock.advance(17)
    await stopping
    [entry] = await world.waiting()
    assert entry.attempts == 0
    assert await world.storage.queue.claim_destinations(2, now=entry.queued_at + MINUTE, lease=MINUTE, limit=9)


async def test_stop_before_run_is_nothing(world: World) -> None:
    dispatcher = world.dispatcher(ScriptedCarrier(world.clock))
    _, task = world.running.pop()
    task.cancel()
    await dispatcher.stop(1)
    assert world.queue.counts["release_all"] == 0


async def test_a_failure_of_the_destination_counts_for_all_that_was_due_though_one_was_tried(world: World) -> None:
    carrier = ScriptedCarrier(world.clock, down=True, more={"host": None, "address": None})
    carrier.fate, carrier.status, carrier.reply = Fate.DEFERRED, "4.4.1", None
    carrier.problem = "no mail server answered"
    for _ in range(250):
        await world.submit("bob@builder.test")
    world.dispatcher(carrier)
    await world.queue.done("release")
    assert carrier.attempts.qsize() == 1
    entries = await world.waiting()
    assert {entry.attempts for entry in entries} == {1}
    assert {entry.last_error for entry in entries} == {"no mail server answered"}
    assert {entry.next_attempt for entry in entries} == {START + MINUTE}


async def test_memory_follows_what_is_in_flight(world: World) -> None:
    carrier = ScriptedCarrier(world.clock, gate=asyncio.Event())
    for _ in range(120):
        await world.submit("bob@builder.test")
    world.dispatcher(carrier)
    page = await world.queue.done("due")
    assert len(page) == 20
    assert carrier.gate is not None
    carrier.gate.set()
    taken = [(await carrier.attempts.get()).entry.id for _ in range(120)]
    assert taken == sorted(taken) and len(set(taken)) == 120


async def test_an_entry_that_is_deleted_or_held_is_not_handed_out_from_an_old_page(world: World) -> None:
    carrier = ScriptedCarrier(world.clock, gate=asyncio.Event())
    ids = [await world.submit("bob@builder.test") for _ in range(4)]
    world.dispatcher(carrier)
    await world.queue.done("due")
    await world.storage.queue.hold([ids[1]], now=START)
    await world.storage.queue.delete([ids[2]], now=START)
    world.clock.advance(1)
    assert carrier.gate is not None
    carrier.gate.set()
    taken = [(await carrier.attempts.get()).entry.id for _ in range(2)]
    assert taken == [ids[0], ids[3]]
    await world.queue.done("release")
    assert await world.storage.queue.count(Filter(), now=START) == 1


async def test_a_deadline_of_the_sender_returns_the_message_untried(world: World) -> None:
    carrier = ScriptedCarrier(world.clock)
    envelope = Envelope(ALICE, deliver_by=DeliverBy(START - 1, "R"))
    entry = await world.submit("bob@builder.test", envelope=envelope)
    trace = (await world.storage.queue.get(entry)).trace
    world.dispatcher(carrier)
    await world.queue.done("settle")
    assert carrier.attempts.empty()
    assert "returned" in await world.stations(trace)
    events = await world.storage.journal.of(trace)
    assert fields(events[-1])["status"] == "5.4.7"


async def test_rounds_that_are_due_together_begin_a_few_in_each_turn_of_the_loop(world: World) -> None:
    for number in range(100):
        await world.submit(f"bob@d{number}.test")
    carrier = ScriptedCarrier(world.clock)
    carrier.gate = asyncio.Event()
    begun: list[int] = []
    all_begun = asyncio.Event()

    def turn() -> None:
        begun.append(carrier.carried.qsize())
        if begun[-1] < 100:
            asyncio.get_running_loop().call_soon(turn)
        else:
            all_begun.set()

    turn()
    world.dispatcher(carrier)
    await asyncio.wait_for(all_begun.wait(), 30)
    assert max(after - before for before, after in itertools.pairwise(begun)) <= 10
    carrier.gate.set()


async def test_how_a_destination_is_paced_is_written_when_it_is_left(world: World) -> None:
    pacing = (Pacing("192.0.2.1", "hoster.test", 3, "growing", START),)
    carrier = ScriptedCarrier(world.clock, parting=CarryResult(pacing=pacing))
    carrier.defer()
    world.dispatcher(carrier)
    await world.submit("bob@builder.test")
    await world.queue.done("release")
    assert await world.storage.queue.pacing("builder.test") == list(pacing)


async def test_a_change_of_pace_is_written_while_a_destination_is_carried_and_once(world: World) -> None:
    now = [Pacing("192.0.2.1", "hoster.test", 1, "dropped", START)]
    carrier = ScriptedCarrier(world.clock, gate=asyncio.Event())
    world.dispatcher(carrier, pacing=lambda name: now)
    await world.submit("bob@builder.test")
    await carrier.carried.get()
    for connections in (1, 1, 2):
        now[0] = Pacing("192.0.2.1", "hoster.test", connections, "dropped", START)
        await world.clock.somebody_sleeps(20.0)
        world.clock.advance(20)
        await world.queue.done("renew")
        await world.clock.somebody_sleeps(20.0)
        assert await world.storage.queue.pacing("builder.test") == now
    assert world.queue.counts["note_pacing"] == 2
    assert carrier.gate is not None
    carrier.gate.set()


async def test_a_pace_that_can_not_be_written_keeps_no_lease_from_its_renewal_and_is_written_later(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    pacing = [Pacing("192.0.2.1", "hoster.test", 1, "dropped", START)]
    carrier = ScriptedCarrier(world.clock, gate=asyncio.Event())
    world.dispatcher(carrier, pacing=lambda name: pacing)
    world.queue.faults["note_pacing"].append(StorageError("the disk is full"))
    await world.submit("bob@builder.test")
    await carrier.carried.get()
    for noted in ([], pacing):
        await world.clock.somebody_sleeps(20.0)
        world.clock.advance(20)
        assert len(await world.queue.done("renew")) == 1
        await world.clock.somebody_sleeps(20.0)
        assert await world.storage.queue.pacing("builder.test") == noted
    assert [record.message for record in caplog.records if "pace" in record.message] == [
        "the pace of destinations can't be noted"
    ]
    assert carrier.gate is not None
    carrier.gate.set()
