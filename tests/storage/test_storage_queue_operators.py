"""The queue in an operator's hands: filters, figures, holding, retrying, deleting; and steps of the clock."""

import asyncio

import pytest
from msgspec.structs import replace
from tests.storage.letters import LEASE, SECOND, START, Engine, Letters, claim, deferral, finished, leases

from waypost.journal import Held, Station
from waypost.queue.clock_repair import pull_back
from waypost.storage import EntryState, Filter, NotFound, Notice, Queue, Storage

BOB = "bob@builder.test"
CAROL = "carol@carpenter.test"


@pytest.fixture
def queue(storage: Storage) -> Queue:
    return storage.queue


class TestOperators:
    @pytest.fixture
    async def waiting(self, letters: Letters, queue: Queue) -> list[int]:
        """Three entries: of alice to builder (deferred), of the null path to builder, of carol to carpenter."""
        await letters.post(to=[BOB], sender="alice@wonderland.test")
        letters.clock.time += 10 * SECOND
        await letters.post(to=[BOB], sender=None)
        letters.clock.time += 10 * SECOND
        await letters.post(to=[CAROL], sender="Carol@Sub.Wonderland.test")
        first, second = await letters.due("builder.test")
        (third,) = await letters.due("carpenter.test")
        await queue.settle(
            [finished(first, deferral=deferral(first, START + 100 * SECOND, "450 4.2.1 Mailbox BUSY, 100%"))]
        )
        return [first.id, second.id, third.id]

    @pytest.mark.parametrize(
        ("which", "expected"),
        [
            (Filter(), (0, 1, 2)),
            (Filter(domain="builder.test"), (0, 1)),
            (Filter(domain="uilder.test"), ()),
            (Filter(sender="alice@wonderland.test"), (0,)),
            (Filter(sender="ALICE@wonderland.test"), (0,)),
            (Filter(sender="<>"), (1,)),
            (Filter(sender="@wonderland.test"), (0,)),
            (Filter(sender="@sub.wonderland.test"), (2,)),
            (Filter(sender="@_onderland.test"), ()),
            (Filter(error="busy"), (0,)),
            (Filter(error="100%"), (0,)),
            (Filter(error="%"), (0,)),
            (Filter(older_than=10 * SECOND), (0, 1)),
            (Filter(newer_than=10 * SECOND), (1, 2)),
            (Filter(older_than=5 * SECOND, newer_than=15 * SECOND), (1,)),
            (Filter(state=EntryState.READY, domain="carpenter.test"), (2,)),
            (Filter(state=EntryState.HELD), ()),
            (Filter(domain="builder.test", sender="<>"), (1,)),
        ],
    )
    async def test_a_filter_finds_what_it_says(
        self, queue: Queue, letters: Letters, waiting: list[int], which: Filter, expected: tuple[int, ...]
    ) -> None:
        now = letters.clock()
        assert [entry.id async for entry in queue.entries(which, now=now)] == [waiting[n] for n in expected]
        assert await queue.count(which, now=now) == len(expected)

    async def test_an_entry_is_found_by_its_id_and_by_its_message(
        self, queue: Queue, letters: Letters, waiting: list[int]
    ) -> None:
        entry = await queue.get(waiting[1])
        for which in (Filter(entry=entry.id), Filter(trace=entry.trace)):
            assert [found async for found in queue.entries(which, now=START)] == [entry]
        assert [found async for found in queue.entries(Filter(entry=entry.id, domain="no.test"), now=START)] == []

    async def test_entries_are_read_in_pages_even_while_they_go(self, queue: Queue, letters: Letters) -> None:
        await asyncio.gather(*(letters.post(to=[BOB]) for _ in range(1203)))
        for which in (Filter(), Filter(domain="builder.test")):
            seen = [entry.id async for entry in queue.entries(which, now=START)]
            assert len(seen) == len(set(seen)) == 1203 and seen == sorted(seen)
        gone = 0
        async for entry in queue.entries(Filter(domain="builder.test"), now=START):
            gone += await queue.delete([entry.id, entry.id + 1], now=START)
            if gone > 4:
                break
        assert await queue.count(Filter(), now=START) == 1203 - gone

    async def test_held_entries_wait_until_they_are_released(
        self, engine: Engine, queue: Queue, letters: Letters, waiting: list[int]
    ) -> None:
        assert await queue.hold(waiting, now=START) == 3
        assert await queue.hold(waiting, now=START) == 0
        assert await claim(queue, 1, now=START + 10**9) == set()
        assert [entry.id async for entry in queue.entries(Filter(state=EntryState.HELD), now=START)] == waiting
        assert (await queue.stats(now=START)).held == 3
        engine.notices.clear()
        assert await queue.unhold([*waiting, 4711], now=START) == 3
        assert set(engine.notices) == {Notice("destination", "builder.test"), Notice("destination", "carpenter.test")}
        assert await claim(queue, 1, now=START) == {"builder.test", "carpenter.test"}
        trace = (await queue.get(waiting[0])).trace
        told = await letters.storage.journal.of(trace)
        assert [event.details.action for event in told if isinstance(event.details, Held)] == ["held", "released"]

    async def test_an_entry_held_while_it_is_attempted_stays_held(
        self, queue: Queue, letters: Letters, waiting: list[int]
    ) -> None:
        entry = await queue.get(waiting[1])
        await queue.hold([entry.id], now=START)
        await queue.settle([finished(entry, deferral=deferral(entry, START + 1))])
        assert (await queue.get(entry.id)).state is EntryState.HELD

    async def test_retry_makes_entries_due_and_wakes_their_destination(
        self, engine: Engine, queue: Queue, letters: Letters, waiting: list[int]
    ) -> None:
        await queue.delete(waiting[1:], now=START)
        await queue.release(await leases(queue, 1, now=START + 100 * SECOND), not_before=START + 500 * SECOND)
        engine.notices.clear()
        assert await queue.retry([waiting[0]], now=START) == 1
        assert engine.notices == [Notice("destination", "builder.test")]
        assert await claim(queue, 2, now=START) == {"builder.test"}
        assert (await queue.get(waiting[0])).next_attempt == START

    async def test_deleted_entries_are_gone_and_the_journal_says_so(
        self, queue: Queue, letters: Letters, waiting: list[int]
    ) -> None:
        trace = (await queue.get(waiting[0])).trace
        assert await queue.delete([waiting[0], waiting[0], 4711], now=START) == 1
        assert (await letters.storage.journal.of(trace))[-1].station is Station.DELETED
        with pytest.raises(NotFound):
            await letters.storage.spool.open(trace)

    async def test_the_figures_are_right(self, queue: Queue, letters: Letters, waiting: list[int]) -> None:
        await queue.hold([waiting[1]], now=START)
        now = letters.clock()
        stats = await queue.stats(now=now, largest=1)
        assert (stats.entries, stats.held, stats.due, stats.destinations) == (3, 1, 1, 2)
        assert stats.oldest == START
        (largest,) = stats.largest
        assert (largest.destination, largest.entries, largest.held, largest.oldest) == ("builder.test", 2, 1, START)
        assert largest.last_error == "450 4.2.1 Mailbox BUSY, 100%"

    async def test_an_empty_queue_has_figures_too(self, queue: Queue) -> None:
        stats = await queue.stats(now=START)
        assert (stats.entries, stats.held, stats.due, stats.destinations, stats.oldest) == (0, 0, 0, 0, None)
        assert stats.largest == []


class TestClockSteps:
    DAY = 86_400 * SECOND

    async def test_attempts_planned_by_a_wrong_clock_are_pulled_back(
        self, engine: Engine, queue: Queue, letters: Letters
    ) -> None:
        await letters.post(to=[BOB], next_attempt=START + 30 * self.DAY)
        await letters.post(to=[CAROL], next_attempt=START + self.DAY // 2)
        assert await pull_back(queue, now=START, waits=[self.DAY], longest_lease=LEASE, sleep=asyncio.sleep) == 1
        assert await queue.next_due(now=START) == START + self.DAY // 2, "it can be so"
        assert await claim(queue, 1, now=START + self.DAY) == {"builder.test", "carpenter.test"}
        assert engine.notices[-1] == Notice("destination", "builder.test")

    @pytest.mark.parametrize(("attempts", "wait"), [(0, 0), (1, 5), (2, 60), (3, 60), (9, 60)])
    async def test_after_a_small_step_each_waits_as_long_as_its_attempts_explain(
        self, queue: Queue, letters: Letters, attempts: int, wait: int
    ) -> None:
        await letters.post(to=[BOB])
        (entry,) = await letters.due("builder.test")
        if attempts:
            planned = replace(deferral(entry, START + 3600 * SECOND), attempts=attempts)
            await queue.settle([finished(entry, deferral=planned)])
        await queue.wake(["builder.test"])
        now = START - 7200 * SECOND
        steps = [
            await pull_back(
                queue, now=now, waits=[0, 5 * SECOND, 60 * SECOND], longest_lease=LEASE, sleep=asyncio.sleep
            )
        ]
        steps.append(
            await pull_back(
                queue, now=now, waits=[0, 5 * SECOND, 60 * SECOND], longest_lease=LEASE, sleep=asyncio.sleep
            )
        )
        assert steps == [1, 0], "each worker asks for it"
        assert await queue.next_due(now=now) == now + wait * SECOND

    async def test_a_destination_that_rests_by_a_wrong_clock_is_woken(self, queue: Queue, letters: Letters) -> None:
        await letters.post(to=[BOB])
        await queue.release(await leases(queue, 1), not_before=START + 30 * self.DAY)
        assert await pull_back(queue, now=START, waits=[self.DAY], longest_lease=LEASE, sleep=asyncio.sleep) == 0
        assert await claim(queue, 1, now=START) == {"builder.test"}

    async def test_a_lease_by_a_wrong_clock_ends(self, queue: Queue, letters: Letters) -> None:
        await letters.post(to=[BOB])
        await claim(queue, 1, now=START + 30 * self.DAY)
        await pull_back(queue, now=START, waits=[self.DAY], longest_lease=LEASE, sleep=asyncio.sleep)
        assert await claim(queue, 2, now=START + LEASE + 1) == {"builder.test"}

    async def test_a_lease_by_a_right_clock_stays_however_short_the_schedule_is(
        self, queue: Queue, letters: Letters
    ) -> None:
        await letters.post(to=[BOB])
        await claim(queue, 1, now=START)
        await pull_back(queue, now=START + SECOND, waits=[SECOND], longest_lease=LEASE, sleep=asyncio.sleep)
        assert await claim(queue, 2, now=START + LEASE) == set()

    async def test_mail_that_its_sender_holds_back_is_left_alone(self, queue: Queue, letters: Letters) -> None:
        until = START + 30 * self.DAY
        message = await letters.letter(to=[BOB], next_attempt=until)
        envelope = replace(message.envelope, hold_until=until)
        held = (replace(message.entries[0], not_before=until),)
        await letters.storage.spool.accept(replace(message, envelope=envelope, entries=held))
        assert await pull_back(queue, now=START, waits=[self.DAY], longest_lease=LEASE, sleep=asyncio.sleep) == 0
        assert await queue.next_due(now=START) == until
