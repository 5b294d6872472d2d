"""A dead destination: a failed round is one event and a few rows, whatever waits, and each entry ages as if tried."""

import asyncio
import random
from collections import Counter
from typing import cast

import pytest
from tests.queue.world import DAY, HOUR, MINUTE, SCHEDULE, START, ScriptedCarrier, World

from waypost.journal import AttemptFailed, Station
from waypost.message.envelope import DeliverBy, Envelope
from waypost.message.reply import Reply
from waypost.queue.carrier import AttemptResult, DestinationFailure, Fate, RecipientResult
from waypost.queue.clock_repair import pull_back
from waypost.queue.settler import Settler
from waypost.queue.source import DestinationSource
from waypost.storage import Filter, Lease, Queue, QueueEntry

DEAD = "builder.test"
WORDS = "no mail server answered"


def carrier(world: World) -> ScriptedCarrier:
    made = ScriptedCarrier(world.clock, down=True, more={"host": None, "address": None})
    made.fate, made.status, made.reply, made.problem = Fate.DEFERRED, "4.4.1", None, WORDS
    return made


def source_of(world: World, lease: Lease) -> DestinationSource:
    settler = Settler(
        queue=cast(Queue, world.queue),
        reporter=world.reporter(),
        schedule=SCHEDULE,
        now=world.clock.now,
        random=random.Random(1),
        sleep=world.clock.sleep,
    )
    return DestinationSource(
        lease,
        queue=cast(Queue, world.queue),
        settler=settler,
        now=world.clock.now,
        monotonic=world.clock.monotonic,
        sleep=world.clock.sleep,
    )


async def claimed(queue: Queue, now: int) -> Lease:
    """Claim the destination."""
    leases = await queue.claim_destinations(1, now=now, lease=MINUTE, limit=9)
    return next(lease for lease in leases if lease.destination == DEAD)


async def a_round(world: World) -> None:
    """Claim the destination, try one entry in vain, and give it back: what a dispatcher does."""
    queue = world.storage.queue
    lease = await claimed(queue, world.clock.now())
    source = source_of(world, lease)
    parting = await carrier(world).carry(DEAD, source)
    assert parting.failure is not None
    await source.spread(parting.failure)
    await queue.release([lease])


async def until_due(world: World) -> None:
    """Let time pass until the destination is due."""
    wake = await next_try(world)
    world.clock.advance((wake - world.clock.now()) / 1_000_000)


async def next_try(world: World) -> int:
    return int(world.opened._reading.value("SELECT wake FROM destination WHERE name = ?", (DEAD,)))


async def waiting_in(world: World) -> list[QueueEntry]:
    """Return what waits for the dead destination."""
    return [entry for entry in await world.waiting() if entry.destination == DEAD]


def changes(world: World) -> int:
    return int(world.opened._writer._connection.total_changes())


async def events(world: World) -> Counter[str]:
    """Count the events of all messages that waited."""
    found: Counter[str] = Counter()
    for (trace,) in world.opened._reading.rows("SELECT DISTINCT message FROM journal"):
        found.update(await world.stations(trace))
    return found


async def test_a_round_is_one_event_and_few_rows_whatever_waits(world: World) -> None:
    for _ in range(300):
        await world.post(f"bob@{DEAD}")
    for number in range(1, 6):
        before = changes(world)
        await a_round(world)
        assert changes(world) - before < 10
        assert await events(world) == Counter({"attempt": number})
        waiting = await waiting_in(world)
        assert {(entry.attempts, entry.last_error) for entry in waiting} == {(number, WORDS)}
        assert {entry.next_attempt for entry in waiting} == {await next_try(world)}
        stats = await world.storage.queue.stats(now=world.clock.now())
        assert (stats.entries, stats.due, stats.largest[0].last_error) == (300, 0, WORDS)
        assert await world.storage.queue.count(Filter(error="server answered"), now=0) == 300
        world.clock.advance(1)
        await until_due(world)


async def test_everybody_is_told_of_the_delay_once_and_gets_the_message_back_after_the_term(world: World) -> None:
    for number in range(40):
        await world.post(f"bob@{DEAD}", priority=number % 3)
    rounds = 0
    while True:
        await a_round(world)
        rounds += 1
        age = world.clock.now() - START
        told = await events(world)
        if age < SCHEDULE.delayed_notice:
            assert not told["delayed"] and not told["returned"]
        elif age < SCHEDULE.expire:
            assert told["delayed"] == 40 and not told["returned"]
        else:
            break
        await until_due(world)
    assert age == SCHEDULE.expire, "it was looked at on time"
    told = await events(world)
    assert (told["delayed"], told["returned"], told["generated"]) == (40, 40, 80)
    assert told["attempt"] < rounds + 2 * 40
    waiting = await waiting_in(world)
    assert waiting == []
    assert rounds < 100


async def test_a_young_message_is_retried_soon_and_ages_by_itself(world: World) -> None:
    await world.post(f"old@{DEAD}")
    while world.clock.now() < START + 2 * DAY:
        await a_round(world)
        await until_due(world)
    young = await world.submit(f"young@{DEAD}")
    await a_round(world)
    [old, fresh] = await waiting_in(world)
    assert fresh.id == young
    assert fresh.attempts == 1 and fresh.waited <= 2 * HOUR
    assert old.waited >= 2 * DAY - 2 * HOUR
    assert await next_try(world) == world.clock.now() + MINUTE


async def test_a_clock_that_jumps_ahead_expires_nothing(world: World) -> None:
    for _ in range(3):
        await world.post(f"bob@{DEAD}")
    for _ in range(4):
        await a_round(world)
        world.clock.set_by(300 * 24 * 3600)
    waiting = await waiting_in(world)
    assert len(waiting) == 3
    assert {entry.waited for entry in waiting} == {0 + 3 * SCHEDULE.longest_wait}


async def test_a_clock_that_is_set_back_wakes_the_destination(world: World) -> None:
    await world.post(f"bob@{DEAD}")
    await a_round(world)
    world.clock.set_by(-30 * 24 * 3600)
    now = world.clock.now()
    await pull_back(
        world.storage.queue, now=now, waits=SCHEDULE.longest_waits, longest_lease=MINUTE, sleep=asyncio.sleep
    )
    assert await next_try(world) <= now + SCHEDULE.longest_wait
    await a_round(world)


async def test_fresh_mail_an_operator_and_a_success_wake_all_at_once(world: World) -> None:
    ids = [await world.submit(f"bob@{DEAD}") for _ in range(5)]
    for _ in range(3):
        await a_round(world)
        await until_due(world)
    await a_round(world)
    world.clock.advance(1)
    now = world.clock.now()
    assert await world.storage.queue.retry(ids[:1], now=now) == 1
    assert await next_try(world) == now
    await a_round(world)
    world.clock.advance(1)
    await world.post(f"fresh@{DEAD}")
    assert await next_try(world) == world.clock.now()

    queue = world.storage.queue
    lease = await claimed(queue, world.clock.now())
    source = source_of(world, lease)
    parting = await ScriptedCarrier(world.clock).carry(DEAD, source)
    assert parting.failure is None
    await queue.release([lease])
    assert await waiting_in(world) == [], "it is up again: all went out"


async def test_a_destination_that_answers_again_has_nobody_resting(world: World) -> None:
    for _ in range(3):
        await world.post(f"bob@{DEAD}")
    for _ in range(6):
        await a_round(world)
        await until_due(world)
    queue = world.storage.queue
    lease = await claimed(queue, world.clock.now())
    source = source_of(world, lease)
    entry = await source.take(0)
    assert entry is not None
    await source.report(ScriptedCarrier(world.clock).result(entry))
    await queue.release([lease])
    assert await next_try(world) <= world.clock.now()


@pytest.mark.parametrize("turned", [False, True])
async def test_the_order_of_results_says_nothing_of_the_destination(world: World, turned: bool) -> None:
    await world.submit("carol@builder.test", "dave@builder.test")
    await world.post(f"bob@{DEAD}")
    queue = world.storage.queue
    lease = await claimed(queue, START)
    source = source_of(world, lease)
    entry = await source.take(0)
    while entry is not None and len(entry.recipients) != 2:
        entry = await source.take(0)
    assert entry is not None
    full = RecipientResult(entry.recipients[0], Fate.DEFERRED, "4.2.2", Reply(452, "4.2.2", ("Carol's is full",)))
    lost = RecipientResult(entry.recipients[1], Fate.DEFERRED, "4.4.2", problem="the connection was lost")
    results = (lost, full) if turned else (full, lost)
    attempt = AttemptResult(entry, START, START, results)
    await source.spread(DestinationFailure(attempt, "4.4.2", problem="the connection was lost"))
    assert {one.last_error for one in await world.waiting()} == {"the connection was lost"}
    told = [event.details for event in await world.storage.journal.of(entry.trace)]
    assert {one.reply or one.problem for one in told if isinstance(one, AttemptFailed)} == {full.reply, lost.problem}


async def test_an_attempt_that_failed_while_others_got_through_is_settled_by_itself(world: World) -> None:
    for _ in range(3):
        await world.post(f"bob@{DEAD}")
    queue = world.storage.queue
    lease = await claimed(queue, START)
    source = source_of(world, lease)
    first, second = await source.take(0), await source.take(0)
    assert first is not None and second is not None
    await source.report(carrier(world).result(first))
    await source.report(ScriptedCarrier(world.clock).result(second))
    await queue.release([lease])
    while len(waiting := await waiting_in(world)) != 2 or waiting[0].attempts != 1:
        await world.queue.done("settle")
    assert [entry.attempts for entry in waiting] == [1, 0]


async def test_a_senders_deadline_is_kept_though_its_destination_is_dead(world: World) -> None:
    deadline = START + 7 * MINUTE
    await world.post(f"bob@{DEAD}", envelope=Envelope(None, deliver_by=DeliverBy(deadline, "R")))
    await world.post(f"bob@{DEAD}")
    while world.clock.now() < deadline:
        await a_round(world)
        await until_due(world)
    assert world.clock.now() == deadline
    await a_round(world)
    assert (await events(world))["returned"] == 1


@pytest.mark.parametrize("held_for", [10 * DAY])
async def test_what_an_operator_held_does_not_age_meanwhile(world: World, held_for: int) -> None:
    held = await world.submit(f"held@{DEAD}")
    await world.post(f"bob@{DEAD}")
    await world.storage.queue.hold([held], now=START)
    while world.clock.now() < START + 4 * DAY:
        await a_round(world)
        await until_due(world)
    await world.storage.queue.unhold([held], now=world.clock.now())
    await a_round(world)
    entry = await world.storage.queue.get(held)
    assert entry.waited < 5 * HOUR


async def test_a_permanent_failure_of_the_destination_returns_each(world: World) -> None:
    for _ in range(150):
        await world.post(f"bob@{DEAD}")
    queue = world.storage.queue
    lease = await claimed(queue, START)
    source, failing = source_of(world, lease), carrier(world)
    failing.fate, failing.status = Fate.FAILED, "5.1.2"
    parting = await failing.carry(DEAD, source)
    assert parting.failure is not None
    await source.spread(parting.failure)
    assert (await events(world))[Station.RETURNED] == 150
