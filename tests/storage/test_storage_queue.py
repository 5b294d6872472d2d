"""The queue: destinations are owned by one worker at a time, and what an attempt changes is one commit."""

import asyncio
from typing import Any

import pytest
from msgspec.structs import replace
from tests.storage.letters import LEASE, SECOND, START, Engine, Letters, claim, deferral, finished, leases, octets_of

from waypost.journal import AttemptFailed, Delayed, Delivered, Event, Relayed, Returned, Station
from waypost.message.address import Address
from waypost.message.envelope import (
    BodyType,
    DeliverBy,
    Envelope,
    Notify,
    OriginalRecipient,
    Recipient,
    Ret,
)
from waypost.message.reply import Reply
from waypost.storage import (
    EntryState,
    FailedRound,
    Filter,
    Lease,
    MailboxDelivery,
    NotFound,
    Notice,
    Queue,
    QueueEntry,
    Storage,
)

BOB = "bob@builder.test"
CAROL = "carol@carpenter.test"


@pytest.fixture
def queue(storage: Storage) -> Queue:
    return storage.queue


async def test_an_entry_keeps_all_of_its_envelope(queue: Queue, letters: Letters) -> None:
    envelope = Envelope(
        Address.parse('"alice b"@wonderland.test'),
        body=BodyType.BINARY,
        smtputf8=True,
        size=4711,
        ret=Ret.HEADERS,
        envid="QQ314159",
        hold_until=START + 1,
        deliver_by=DeliverBy(START + 2, "N", True),
        priority=-4,
    )
    recipients = (
        Recipient(Address.parse(BOB), Notify.SUCCESS | Notify.FAILURE, OriginalRecipient("rfc822", "böb@builder.test")),
        Recipient(Address.parse("eve@builder.test"), Notify.NEVER),
        Recipient(Address.parse("fred@builder.test")),
    )
    message = await letters.letter(to=[BOB], account="alice@wonderland.test", priority=-4)
    entry = replace(message.entries[0], recipients=recipients)
    await letters.storage.spool.accept(replace(message, envelope=envelope, entries=(entry,)))
    (waiting,) = await letters.due("builder.test")
    assert waiting == await queue.get(waiting.id)
    assert waiting.envelope == envelope
    assert waiting.recipients == recipients
    assert (waiting.account, waiting.priority, waiting.queued_at) == ("alice@wonderland.test", -4, START)
    assert (waiting.attempts, waiting.waited, waiting.last_attempt, waiting.last_error) == (0, 0, None, None)
    assert waiting.state is EntryState.READY and not waiting.delay_notified


async def test_recipients_of_one_domain_share_an_entry_and_others_do_not(letters: Letters) -> None:
    await letters.post(to=[BOB, CAROL, "eve@builder.test"])
    (entry,) = await letters.due("builder.test")
    assert [str(recipient.address) for recipient in entry.recipients] == [BOB, "eve@builder.test"]
    assert len(await letters.due("carpenter.test")) == 1


async def another_owner(engine: Engine, letters: Letters) -> Any:
    """Let another process own a destination; return its storage."""
    other = await engine.open(worker=1)
    await letters.post(to=[BOB])
    await claim(other.storage.queue, 1)
    return other


class TestClaims:
    async def test_a_destination_is_owned_by_one_worker(self, queue: Queue, letters: Letters) -> None:
        await letters.post(to=[BOB, CAROL])
        assert await claim(queue, 1) == {"builder.test", "carpenter.test"}
        assert await claim(queue, 2) == set()

    async def test_a_limit_holds_and_wanted_destinations_come_first(self, queue: Queue, letters: Letters) -> None:
        for number in range(5):
            await letters.post(to=[f"bob@{number}.test"])
        assert await claim(queue, 1, limit=0) == set()
        assert await claim(queue, 1, limit=1, wanted=("3.test", "no.test")) == {"3.test"}
        assert len(await claim(queue, 1, limit=3)) == 3
        assert len(await claim(queue, 1, limit=3)) == 1

    async def test_what_is_not_due_is_not_claimed(self, queue: Queue, letters: Letters) -> None:
        await letters.post(to=[BOB], next_attempt=START + 10)
        assert await claim(queue, 1, wanted=("builder.test",)) == set()
        assert await queue.next_due(now=START) == START + 10
        assert await claim(queue, 1, now=START + 10) == {"builder.test"}
        assert await queue.next_due(now=START) is None

    async def test_an_expired_lease_is_taken_over_and_its_owner_told(self, queue: Queue, letters: Letters) -> None:
        await letters.post(to=[BOB, CAROL])
        mine = await leases(queue, 1)
        assert await queue.renew(mine, until=START + 2 * LEASE) == mine
        assert await claim(queue, 2, now=START + LEASE + 1) == set()
        assert await claim(queue, 2, now=START + 2 * LEASE + 1) == {"builder.test", "carpenter.test"}
        assert await queue.renew(mine, until=START + 9 * LEASE) == []
        await queue.release(mine)  # too late: it is no longer its own
        assert await claim(queue, 3, now=START + 2 * LEASE + 2) == set()

    async def test_the_lease_of_a_process_that_lives_outlasts_trouble_with_the_disk(
        self, engine: Engine, queue: Queue, letters: Letters
    ) -> None:
        other = await another_owner(engine, letters)
        late = START + LEASE + 1  # it could not renew its lease, and may have relayed what it can't write down yet
        for wanted in ((), ("builder.test",)):
            assert await claim(queue, 2, now=late, wanted=wanted) == set()
        assert await claim(other.storage.queue, 1, now=late) == {"builder.test"}
        assert await claim(queue, 2, now=late + LEASE + 3600 * SECOND) == set()
        assert await claim(queue, 2, now=late + LEASE + 3600 * SECOND + 1) == {"builder.test"}, "it hangs"

    async def test_the_lease_of_a_process_that_ended_is_taken_over(
        self, engine: Engine, queue: Queue, letters: Letters
    ) -> None:
        other = await another_owner(engine, letters)
        await engine.end(other)
        assert await claim(queue, 2, now=START + LEASE + 1) == {"builder.test"}

    async def test_a_released_destination_rests_as_long_as_was_asked(self, queue: Queue, letters: Letters) -> None:
        await letters.post(to=[BOB])
        await queue.release(await leases(queue, 1), not_before=START + 5)
        await letters.post(to=[BOB])  # more mail does not wake it earlier
        assert await claim(queue, 2, now=START + 4) == set()
        assert await queue.next_due(now=START) == START + 5
        assert await claim(queue, 2, now=START + 5) == {"builder.test"}

    async def test_every_lease_of_a_dead_worker_can_be_forgotten(self, queue: Queue, letters: Letters) -> None:
        await letters.post(to=[BOB, CAROL])
        await claim(queue, 1)
        await queue.release_all(2)
        assert await claim(queue, 3) == set()
        await queue.release_all(1)
        assert await claim(queue, 3) == {"builder.test", "carpenter.test"}

    async def test_an_empty_destination_is_forgotten_when_its_owner_leaves(
        self, queue: Queue, letters: Letters
    ) -> None:
        await letters.post(to=[BOB])
        mine = await leases(queue, 1)
        (entry,) = await letters.due("builder.test")
        await queue.settle([finished(entry)])
        await queue.release(mine)
        assert await queue.next_due(now=START) is None
        assert (await queue.stats(now=START)).destinations == 0

    async def test_a_destination_emptied_by_an_operator_stays_with_its_owner(
        self, queue: Queue, letters: Letters
    ) -> None:
        await letters.post(to=[BOB])
        mine = await leases(queue, 1)
        (entry,) = await letters.due("builder.test")
        await queue.delete([entry.id], now=START)
        await letters.post(to=[BOB])
        assert await claim(queue, 2) == set()
        await queue.release(mine)
        assert await claim(queue, 2) == {"builder.test"}

    async def test_two_processes_never_own_the_same_destination(self, engine: Engine, letters: Letters) -> None:
        other = (await engine.open(worker=1)).storage.queue
        for number in range(40):
            await letters.post(to=[f"bob@{number}.test"])
        mine, theirs = set(), set()
        while len(mine) + len(theirs) < 40:
            mine |= await claim(letters.storage.queue, 0, limit=3)
            theirs |= await claim(other, 1, limit=3)
        assert not mine & theirs


class TestEpochs:
    """A lease is proof: whoever was thought dead writes nothing over what the next owner does."""

    async def two_owners(self, queue: Queue, letters: Letters, heir: int = 2) -> tuple[Lease, Lease, QueueEntry]:
        """Let a lease run out and somebody else claim the destination; return both leases, and what the first has in
        flight."""
        await letters.post(to=[BOB])
        (old,) = await leases(queue, 1)
        (entry,) = await queue.due(old, now=START, limit=9)
        (new,) = await leases(queue, heir, now=START + LEASE + 1)
        return old, new, entry

    async def test_no_two_claims_have_the_same_epoch_and_later_ones_have_larger_ones(
        self, engine: Engine, queue: Queue, letters: Letters
    ) -> None:
        other = (await engine.open(worker=1)).storage.queue
        epochs = []
        for turn in range(6):
            await letters.post(to=[BOB])  # it is empty, and forgotten, between two turns
            (lease,) = await leases((queue, other)[turn % 2], turn % 2)
            epochs.append(lease.epoch)
            await queue.settle([finished(entry) for entry in await queue.due(lease, now=START, limit=9)])
            await queue.release([lease])
        await engine.close()
        again = (await engine.open()).storage
        await Letters(again, engine.clock, maker=3).post(to=[BOB])
        (lease,) = await leases(again.queue, 0)
        epochs.append(lease.epoch)
        assert epochs == sorted(set(epochs))

    async def test_what_is_handed_out_carries_the_lease_and_what_is_listed_does_not(
        self, queue: Queue, letters: Letters
    ) -> None:
        await letters.post(to=[BOB])
        (lease,) = await leases(queue, 1)
        (entry,) = await queue.due(lease, now=START, limit=9)
        assert entry.lease == lease
        assert (await queue.get(entry.id)).lease is None
        assert [one.lease async for one in queue.entries(Filter(), now=START)] == [None]

    @pytest.mark.parametrize("heir", [2, 1])
    async def test_a_lost_lease_renews_and_releases_nothing(self, queue: Queue, letters: Letters, heir: int) -> None:
        """Though the heir has the same number: a worker that started again, while the one before hangs."""
        old, new, _ = await self.two_owners(queue, letters, heir)
        assert old.destination == new.destination and old.epoch < new.epoch
        later = START + LEASE + 2
        assert await queue.renew([old], until=later + 9 * LEASE) == []
        await queue.release([old], not_before=later + 9 * LEASE)
        assert await claim(queue, 3, now=later) == set()
        assert await queue.renew([new, old], until=later + LEASE) == [new]
        await queue.release([new])
        assert await claim(queue, 3, now=later) == {"builder.test"}, "the late release let it rest for nobody"

    @pytest.mark.parametrize("heir", [2, 1])
    async def test_a_deferral_under_a_lost_lease_changes_nothing_and_is_told(
        self, queue: Queue, letters: Letters, heir: int
    ) -> None:
        _, new, entry = await self.two_owners(queue, letters, heir)
        attempt = Event(entry.trace, START, AttemptFailed(recipients=(BOB,), reply=Reply(451, "4.3.0", ("Later",))))
        queued = Event(entry.trace, START, Delayed(recipients=(BOB,), dsn=entry.trace))
        late = deferral(entry, START + 500 * SECOND)
        assert await queue.settle([finished(entry, deferral=late, events=(attempt, queued))]) == [entry.lease]
        (again,) = await queue.due(new, now=START + LEASE + 1, limit=9)
        assert replace(again, lease=entry.lease) == entry
        told = [event.station for event in await letters.storage.journal.of(entry.trace)]
        assert told == [Station.SUBMITTED, Station.ATTEMPT]

    async def test_a_failure_under_a_lost_lease_returns_delivers_and_forwards_nothing(
        self, engine: Engine, queue: Queue, letters: Letters
    ) -> None:
        bob = await letters.account()
        _, new, entry = await self.two_owners(queue, letters)
        engine.notices.clear()
        report = await letters.letter(b"returned", to=["alice@wonderland.test"], sender=None)
        await queue.settle([finished(entry, reports=(report,))])
        await queue.settle([finished(entry, deliveries=(MailboxDelivery(bob.inbox, b""),))])
        await queue.settle([finished(entry, forwards=letters.entries(CAROL))])
        await queue.settle([finished(entry)])
        assert await queue.count(Filter(), now=START) == 1 and engine.notices == []
        assert await letters.storage.mailboxes.messages(bob.inbox) == []
        (again,) = await queue.due(new, now=START + LEASE + 1, limit=9)
        assert await queue.settle([finished(again), finished(entry)]) == [entry.lease]
        assert await queue.count(Filter(), now=START) == 0

    async def test_what_the_next_hop_took_goes_under_a_lost_lease_too(self, queue: Queue, letters: Letters) -> None:
        """What was sent must not be sent again."""
        _, new, entry = await self.two_owners(queue, letters)
        relayed = Event(entry.trace, START, Relayed(recipients=(BOB,), host="mx.builder.test"))
        await queue.settle([finished(entry, relayed=True, events=(relayed,))])
        assert await queue.due(new, now=START + LEASE + 1, limit=9) == []
        assert (await letters.storage.journal.of(entry.trace))[-1] == relayed

    async def test_a_round_under_a_lost_lease_is_not_counted_and_told(self, queue: Queue, letters: Letters) -> None:
        old, new, entry = await self.two_owners(queue, letters)

        def told(next_attempt: int | None) -> list[Event]:
            attempt = AttemptFailed(recipients=(BOB,), problem="no answer", next_attempt=next_attempt)
            return [Event(entry.trace, START, attempt)]

        failed = FailedRound(old, START + LEASE, "no answer", LEASE, (LEASE,), told=told)
        assert await queue.fail(failed) is None
        (again,) = await queue.due(new, now=START + LEASE + 1, limit=9)
        assert (again.attempts, again.last_error) == (0, None)
        assert (await letters.storage.journal.of(entry.trace))[-1:] == told(None)
        again_at = await queue.fail(replace(failed, lease=new))
        assert again_at is not None and (await letters.storage.journal.of(entry.trace))[-1:] == told(again_at)
        assert (await queue.get(entry.id)).attempts == 1

    async def test_a_lease_that_ran_out_and_that_nobody_claimed_still_holds(
        self, queue: Queue, letters: Letters
    ) -> None:
        await letters.post(to=[BOB])
        (lease,) = await leases(queue, 1)
        (entry,) = await queue.due(lease, now=START, limit=9)
        late = START + 5 * LEASE
        await queue.settle([finished(entry, deferral=deferral(entry, late))])
        assert (await queue.get(entry.id)).next_attempt == late
        assert await queue.renew([lease], until=late + LEASE) == [lease]
        assert await claim(queue, 2, now=late) == set()

    async def test_what_is_settled_after_the_release_holds_until_the_next_claim(
        self, queue: Queue, letters: Letters
    ) -> None:
        for _ in range(2):
            await letters.post(to=[BOB])
        (lease,) = await leases(queue, 1)
        first, second = await queue.due(lease, now=START, limit=9)
        await queue.release([lease])
        assert await queue.renew([lease], until=START + LEASE) == [], "it was given back"
        await queue.settle([finished(first)])
        await leases(queue, 2)
        await queue.settle([finished(second)])
        assert [one.id async for one in queue.entries(Filter(), now=START)] == [second.id]

    async def test_a_lease_is_looked_at_anew_behind_a_claim_of_the_same_commit(
        self, queue: Queue, letters: Letters
    ) -> None:
        await letters.post(to=[BOB])
        (old,) = await leases(queue, 1)
        (entry,) = await queue.due(old, now=START, limit=9)
        first, second = (finished(entry, deferral=deferral(entry, START + time)) for time in (1, 2))
        _, new, _ = await asyncio.gather(
            queue.settle([first]), leases(queue, 2, now=START + LEASE + 1), queue.settle([second])
        )
        assert len(new) == 1 and (await queue.get(entry.id)).next_attempt == START + 1

    async def test_an_operators_word_holds_whoever_owns_the_destination(self, queue: Queue, letters: Letters) -> None:
        await letters.post(to=[BOB])
        await leases(queue, 1)
        (entry,) = await letters.due("builder.test")
        returned = Event(entry.trace, START, Returned(recipients=()))
        await queue.settle([finished(entry, events=(returned,))])
        assert await queue.count(Filter(), now=START) == 0

    async def test_a_destination_that_rests_is_woken_and_an_owned_one_stays_owned(
        self, queue: Queue, letters: Letters
    ) -> None:
        await letters.post(to=[BOB, CAROL])
        bob, carol = await leases(queue, 1)
        await queue.release([bob], not_before=START + 500 * SECOND)
        await queue.wake([bob.destination, carol.destination, "no.test"])
        assert await claim(queue, 2) == {bob.destination}


class TestDue:
    async def test_high_priority_goes_first_then_what_is_due_longest(self, letters: Letters) -> None:
        for priority, when in ((0, 3), (5, 9), (-9, 1), (0, 2), (5, 8)):
            await letters.post(to=[BOB], priority=priority, next_attempt=START - 100 + when)
        found = await letters.due("builder.test")
        assert [(entry.priority, entry.next_attempt - START + 100) for entry in found] == [
            (5, 8),
            (5, 9),
            (0, 2),
            (0, 3),
            (-9, 1),
        ]
        assert [entry.id for entry in await letters.due("builder.test", limit=2)] == [entry.id for entry in found[:2]]

    async def test_entries_in_flight_are_left_out(self, queue: Queue, letters: Letters) -> None:
        for _ in range(4):
            await letters.post(to=[BOB])
        first = await letters.due("builder.test", limit=2)
        rest = await queue.due(Lease("builder.test", 0), now=START, limit=9, exclude=[entry.id for entry in first])
        assert len(rest) == 2 and not {entry.id for entry in rest} & {entry.id for entry in first}

    async def test_what_waits_or_is_held_is_not_due(self, queue: Queue, letters: Letters) -> None:
        await letters.post(to=[BOB], next_attempt=START + 1)
        await letters.post(to=[BOB])
        (entry,) = await letters.due("builder.test")
        await queue.hold([entry.id], now=START)
        assert await letters.due("builder.test") == []


class TestSettling:
    async def test_a_deferred_entry_comes_back_with_what_was_learnt(self, queue: Queue, letters: Letters) -> None:
        await letters.post(to=[BOB, "eve@builder.test"])
        (entry,) = await letters.due("builder.test")
        later = replace(deferral(entry, START + 60), remaining=entry.recipients[1:], delay_notified=True)
        attempt = Event(entry.trace, START, AttemptFailed(recipients=(BOB,), reply=Reply(451, "4.3.0", ("Later",))))
        await queue.settle([finished(entry, deferral=later, events=(attempt,))])
        after = await queue.get(entry.id)
        assert [str(recipient.address) for recipient in after.recipients] == ["eve@builder.test"]
        assert (after.next_attempt, after.waited, after.attempts) == (START + 60, 1, 1)
        assert (after.last_attempt, after.last_error, after.delay_notified) == (START, "451 4.3.0 Later", True)
        assert (await letters.storage.journal.of(entry.trace))[-1] == attempt

    async def test_a_finished_entry_goes_and_its_message_with_the_last_one(
        self, queue: Queue, letters: Letters
    ) -> None:
        trace = await letters.post(to=[BOB, CAROL])
        (bob,), (carol,) = await letters.due("builder.test"), await letters.due("carpenter.test")
        await queue.settle([finished(bob)])
        await letters.storage.spool.open(trace)
        await queue.settle([finished(carol)])
        with pytest.raises(NotFound):
            await letters.storage.spool.open(trace)
        with pytest.raises(NotFound):
            await queue.get(carol.id)

    async def test_the_report_of_a_failure_is_written_with_it(
        self, engine: Engine, queue: Queue, letters: Letters
    ) -> None:
        await letters.post(to=[BOB])
        (entry,) = await letters.due("builder.test")
        report = await letters.letter(b"returned", to=["alice@wonderland.test"], sender=None)
        await queue.settle([finished(entry, reports=(report,))])
        assert [waiting.trace for waiting in await letters.due("wonderland.test")] == [report.trace]
        assert engine.notices[-1] == Notice("destination", "wonderland.test")

    async def test_an_entry_may_end_in_mailboxes_and_at_further_destinations(
        self, engine: Engine, queue: Queue, letters: Letters
    ) -> None:
        bob = await letters.account()
        trace = await letters.post(b"hello", to=[BOB])
        (entry,) = await letters.due("builder.test")
        await queue.settle(
            [
                finished(
                    entry,
                    deliveries=(MailboxDelivery(bob.inbox, b"Delivered-To: bob\r\n"),),
                    forwards=letters.entries(CAROL),
                )
            ]
        )
        (row,) = await letters.storage.mailboxes.messages(bob.inbox)
        (forward,) = await letters.due("carpenter.test")
        assert row.trace == forward.trace == trace
        octets = await octets_of(await letters.storage.mailboxes.open(bob.inbox, row.uid))
        assert len(octets) == row.size and octets.endswith(b"hello")
        assert set(engine.notices[-2:]) == {Notice("mailbox", str(bob.inbox)), Notice("destination", "carpenter.test")}
        await queue.settle([finished(forward)])
        assert await octets_of(await letters.storage.mailboxes.open(bob.inbox, row.uid)) == octets

    async def test_settling_an_entry_that_is_gone_is_no_error(self, queue: Queue, letters: Letters) -> None:
        await letters.post(to=[BOB])
        (entry,) = await letters.due("builder.test")
        await queue.delete([entry.id], now=START)
        relayed = Event(entry.trace, START, Relayed(recipients=(BOB,), host="mx.builder.test"))
        await queue.settle([finished(entry, events=(relayed,))])
        await queue.settle([finished(entry, deferral=deferral(entry, START + 1))])
        assert (await letters.storage.journal.of(entry.trace))[-1] == relayed

    async def test_an_entry_settled_twice_delivers_and_reports_once(
        self, engine: Engine, queue: Queue, letters: Letters
    ) -> None:
        bob = await letters.account()
        await letters.post(to=[BOB, CAROL])
        (entry,) = await letters.due("builder.test")
        for together in (False, True):
            outcomes = [
                finished(
                    entry,
                    deliveries=(MailboxDelivery(bob.inbox, b""),),
                    events=(
                        Event(entry.trace, START, Relayed(recipients=(BOB,))),
                        Event(entry.trace, START, Delivered(recipients=(BOB,))),
                    ),
                    reports=(await letters.letter(b"report", to=["alice@wonderland.test"], sender=None),),
                )
                for _ in range(2)
            ]
            if together:
                await queue.settle(outcomes)
            else:
                await queue.settle(outcomes[:1])
        assert len(await letters.storage.mailboxes.messages(bob.inbox)) == 1
        assert len(await letters.due("wonderland.test")) == 1
        told = [event.station for event in await letters.storage.journal.of(entry.trace)]
        assert told.count(Station.RELAYED) == 3 and told.count(Station.DELIVERED) == 1

    async def test_many_outcomes_are_settled_together(self, queue: Queue, letters: Letters) -> None:
        for _ in range(50):
            await letters.post(to=[BOB])
        entries = await letters.due("builder.test")
        await queue.settle([finished(entry) for entry in entries])
        assert await queue.count(Filter(), now=START) == 0
        await queue.settle([])
