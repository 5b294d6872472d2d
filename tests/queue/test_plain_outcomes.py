"""The short way from a success to its outcome says what the long way says, and takes nothing else upon itself."""

import asyncio
import random
from typing import cast

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.queue.world import ALICE, SCHEDULE, START, ScriptedCarrier, World

from waypost.message.address import Address
from waypost.message.envelope import DeliverBy, Envelope, Notify, Recipient
from waypost.message.reply import Reply
from waypost.message.trace import TraceId
from waypost.queue.carrier import AttemptResult, Fate, RecipientResult
from waypost.queue.outcomes import outcome_of, plain_outcome
from waypost.queue.reporter import Reporter
from waypost.queue.settler import Settler
from waypost.queue.source import DestinationSource
from waypost.storage import EntryState, Lease, Outcome, Queue, QueueEntry, Spool, StorageFull

_NOTIFY = st.none() | st.sampled_from([Notify.NEVER, Notify.SUCCESS, Notify.FAILURE, Notify.SUCCESS | Notify.DELAY])
_RECIPIENTS = st.lists(
    st.builds(Recipient, st.sampled_from(["b@c.test", "d@c.test"]).map(Address.parse), _NOTIFY), min_size=1, max_size=3
)
_FATES = st.lists(st.sampled_from([*[Fate.RELAYED] * 9, Fate.DEFERRED, Fate.FAILED]), min_size=3, max_size=3)
_REPLIES = st.lists(st.sampled_from(["Ok", "\x1b[31mOk\r\n", "two  spaces", None]), min_size=3, max_size=3)
_ENVELOPES = st.builds(
    Envelope,
    st.sampled_from([ALICE, None]),
    deliver_by=st.none() | st.builds(DeliverBy, st.just(START), st.just("N"), st.booleans()),
)


def attempt(
    envelope: Envelope, recipients: list[Recipient], fates: list[Fate], replies: list[str | None], **more: bool
) -> AttemptResult:
    entry = QueueEntry(
        id=1,
        trace=TraceId(2),
        destination="c.test",
        recipients=tuple(recipients),
        state=EntryState.READY,
        priority=0,
        queued_at=START,
        next_attempt=START,
        last_attempt=None,
        attempts=0,
        waited=0,
        delay_notified=False,
        last_error=None,
        envelope=envelope,
        size=100,
        account=None,
    )
    results = tuple(
        RecipientResult(recipient, fate, "2.0.0", None if reply is None else Reply(250, None, (reply,)))
        for recipient, fate, reply in zip(recipients, fates, replies, strict=False)
    )
    return AttemptResult(entry, START, START, results, host="mx.c\x07.test", address="192.0.2.1:25", **more)


def reporter() -> Reporter:
    """One whose reports fail: it must not be asked for any."""
    return Reporter(
        spool=cast(Spool, None),
        ids=lambda: TraceId(3),
        hostname="mx.wonderland.test",
        destination_of=lambda address: address.domain_key,
        now=lambda: START,
        return_full_below=0,
    )


@given(_ENVELOPES, _RECIPIENTS, _FATES, _REPLIES, st.booleans(), st.booleans())
def test_the_short_way_says_what_the_long_way_says(
    envelope: Envelope,
    recipients: list[Recipient],
    fates: list[Fate],
    replies: list[str | None],
    dsn: bool,
    deadline: bool,
) -> None:
    result = attempt(envelope, recipients, fates, replies, dsn_passed_on=dsn, deadline_passed_on=deadline)
    plain = plain_outcome(result, START)
    if plain is not None:
        long_way = outcome_of(result, schedule=SCHEDULE, reporter=reporter(), luck=0.0, now=START)
        assert plain == asyncio.run(long_way)
        assert set(fates[: len(recipients)]) == {Fate.RELAYED}


def test_an_attempt_that_says_nothing_of_a_recipient_is_not_plain() -> None:
    bob, carol = (Recipient(Address.parse(f"{name}@c.test")) for name in ("bob", "carol"))
    whole = attempt(Envelope(ALICE), [bob, carol], [Fate.RELAYED] * 2, ["250 Ok"] * 2)
    assert plain_outcome(whole, START) is not None
    part = AttemptResult(whole.entry, START, START, whole.results[:1])
    twice = AttemptResult(whole.entry, START, START, (whole.results[0],) * 2)
    assert plain_outcome(part, START) is None and plain_outcome(twice, START) is None


@pytest.fixture
def settler(world: World) -> Settler:
    return Settler(
        queue=cast(Queue, world.queue),
        reporter=world.reporter(),
        schedule=SCHEDULE,
        now=world.clock.now,
        random=random.Random(1),
        sleep=world.clock.sleep,
    )


async def results(world: World, count: int) -> list[AttemptResult]:
    for _ in range(count):
        await world.submit("bob@builder.test")
    return [ScriptedCarrier(world.clock).result(entry) for entry in await world.waiting()]


async def test_successes_that_come_together_are_written_together(world: World, settler: Settler) -> None:
    done: list[bool] = []
    await asyncio.gather(*(settler.start(result, done.append) for result in await results(world, 5)))
    assert done == [True] * 5
    assert world.queue.counts["settle"] == 1
    assert await world.waiting() == []


async def test_together_they_wait_for_storage_to_come_back(world: World, settler: Settler) -> None:
    world.queue.faults["settle"].append(StorageFull("full"))
    together = asyncio.gather(*(settler.start(result, lambda written: None) for result in await results(world, 3)))
    await world.clock.somebody_sleeps(1.0)
    assert len(await world.waiting()) == 3
    world.clock.advance(1)
    await together
    assert world.queue.counts["settle"] == 2
    assert await world.waiting() == []


async def test_one_that_cannot_be_written_for_a_fault_of_ours_spoils_none_of_its_company(
    world: World, settler: Settler, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    written = world.storage.queue.settle
    first, *others = await results(world, 3)

    async def settle(outcomes: list[Outcome]) -> list[Lease]:
        if any(outcome.entry == first.entry.id and outcome.events for outcome in outcomes):
            raise ValueError("a bug")
        return await written(outcomes)

    monkeypatch.setattr(world.storage.queue, "settle", settle)
    done: list[bool] = []
    await asyncio.gather(*(settler.start(result, done.append) for result in (first, *others)))
    assert await world.waiting() == []
    assert done == [True] * 3
    assert [record.message for record in caplog.records if record.exc_info] == [
        "an attempt's outcome could not be told"
    ]


async def test_who_stops_waiting_stops_nothing(world: World, settler: Settler) -> None:
    waiting = [settler.start(result, lambda written: None) for result in await results(world, 2)]
    waiting[0].cancel()
    await waiting[1]
    assert await world.waiting() == []


async def test_what_the_disk_does_not_take_before_the_end_is_told(
    world: World, settler: Settler, caplog: pytest.LogCaptureFixture
) -> None:
    world.queue.faults["settle"].extend([StorageFull("full")] * 5)
    waiting = [settler.start(result, lambda written: None) for result in await results(world, 2)]
    await world.clock.somebody_sleeps(1.0)
    finishing = asyncio.create_task(settler.finish(5.0))
    await world.clock.somebody_sleeps(5.0)
    world.clock.advance(5)
    await finishing
    lost = [record for record in caplog.records if record.message == "an attempt's outcome could not be stored"]
    assert len(lost) == 2
    assert all(one.cancelled() for one in waiting)
    world.queue.faults.clear()


async def test_a_source_that_is_dry_asks_again_only_when_something_came(world: World, settler: Settler) -> None:
    source = DestinationSource(
        Lease("builder.test", 0),
        queue=cast(Queue, world.queue),
        settler=settler,
        now=world.clock.now,
        monotonic=world.clock.monotonic,
        sleep=world.clock.sleep,
    )
    await world.submit("bob@builder.test")
    assert await source.take(0) is not None
    for _ in range(10):
        assert await source.take(0) is None
    assert world.queue.counts["due"] == 1
    await world.submit("bob@builder.test")
    assert await source.take(0) is None, "nobody has said so yet"
    source.notice()
    assert await source.take(0) is not None
    world.clock.advance(0.6)
    assert await source.take(0) is None
    assert world.queue.counts["due"] == 3, "an old page is read anew, though nothing was said"
