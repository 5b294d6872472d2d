"""Mailboxes: the data model of RFC 9051 and RFC 7162, and exclusive sessions (RFC 1939 section 4)."""

import asyncio

import pytest
from tests.storage.letters import START, Engine, Letters, finished, octets_of

from waypost.storage import Account, Conflict, Mailboxes, NotFound, Notice


class TestMailboxes:
    async def test_inbox_is_there_from_the_first_day_and_found_in_any_case(
        self, mailboxes: Mailboxes, bob: Account
    ) -> None:
        inbox = await mailboxes.get(bob.id, "iNbOx")
        assert (inbox.id, inbox.name, inbox.account) == (bob.inbox, "INBOX", bob.id)
        assert inbox.uidnext == 1 and inbox.uidvalidity > 0
        with pytest.raises(Conflict):
            await mailboxes.create(bob.id, "inbox")

    async def test_mailboxes_are_made_once_and_listed_by_name(self, mailboxes: Mailboxes, bob: Account) -> None:
        await mailboxes.create(bob.id, "Sent")
        await mailboxes.create(bob.id, "Archive")
        with pytest.raises(Conflict):
            await mailboxes.create(bob.id, "Sent")
        assert [mailbox.name for mailbox in await mailboxes.all(bob.id)] == ["Archive", "INBOX", "Sent"]
        with pytest.raises(NotFound):
            await mailboxes.get(bob.id, "Nowhere")

    async def test_no_uidvalidity_is_ever_used_twice(
        self, mailboxes: Mailboxes, letters: Letters, bob: Account
    ) -> None:
        seen = {(await mailboxes.get(bob.id)).uidvalidity}
        for number in range(3):
            seen.add((await mailboxes.create(bob.id, f"box {number}")).uidvalidity)
        await letters.storage.directory.remove_account(bob.address)
        letters.clock.time -= 10**12  # the clock stepped back
        again = await letters.account()
        seen.add((await mailboxes.get(again.id)).uidvalidity)
        assert len(seen) == 5
        assert max(seen) < 2**32  # RFC 9051 2.3.1.1: 32 bits


class TestMessages:
    async def test_uids_only_grow_and_are_never_used_again(
        self, mailboxes: Mailboxes, letters: Letters, bob: Account
    ) -> None:
        for _ in range(3):
            await letters.post(mailboxes=[bob.inbox])
        await mailboxes.expunge(bob.inbox, [3])
        await letters.post(mailboxes=[bob.inbox])
        messages = await mailboxes.messages(bob.inbox)
        assert [message.uid for message in messages] == [1, 2, 4]
        assert (await mailboxes.get(bob.id)).uidnext == 5
        assert messages[0].internal_date == START

    async def test_messages_of_one_commit_get_uids_in_the_order_of_their_arrival(
        self, mailboxes: Mailboxes, letters: Letters, bob: Account
    ) -> None:
        messages = [await letters.letter(mailboxes=[bob.inbox]) for _ in range(20)]
        await asyncio.gather(*(letters.storage.spool.accept(message) for message in messages))
        rows = await mailboxes.messages(bob.inbox)
        assert [row.trace for row in rows] == [message.trace for message in messages]
        assert [row.uid for row in rows] == list(range(1, 21))
        modseqs = [row.modseq for row in rows]
        assert modseqs == sorted(set(modseqs))
        assert (await mailboxes.get(bob.id)).highest_modseq == modseqs[-1]

    async def test_flags_are_replaced_and_modseq_grows(
        self, engine: Engine, mailboxes: Mailboxes, letters: Letters, bob: Account
    ) -> None:
        for _ in range(2):
            await letters.post(mailboxes=[bob.inbox])
        before = (await mailboxes.get(bob.id)).highest_modseq
        await mailboxes.set_flags(bob.inbox, [2], frozenset({"\\Seen", "$Forwarded"}))
        one, two = await mailboxes.messages(bob.inbox)
        assert one.flags == frozenset() and two.flags == {"\\Seen", "$Forwarded"}
        assert one.modseq < before < two.modseq == (await mailboxes.get(bob.id)).highest_modseq
        assert engine.notices[-1] == Notice("mailbox", str(bob.inbox))

    async def test_usage_counts_what_a_reader_gets(self, mailboxes: Mailboxes, letters: Letters, bob: Account) -> None:
        sent = await mailboxes.create(bob.id, "Sent")
        for box in (bob.inbox, bob.inbox, sent.id):
            await letters.post(b"x" * 1000, mailboxes=[box])
        sizes = [message.size for box in (bob.inbox, sent.id) for message in await mailboxes.messages(box)]
        octets = await octets_of(await mailboxes.open(bob.inbox, 1))
        assert sizes[0] == len(octets)
        assert await mailboxes.usage(bob.id) == sum(sizes)
        assert await mailboxes.expunge(bob.inbox, [1]) == 1
        assert await mailboxes.usage(bob.id) == sum(sizes[1:])
        account = await letters.storage.directory.account(bob.address)
        assert account is not None and account.usage == sum(sizes[1:])

    async def test_expunged_messages_are_gone_with_their_octets(
        self, engine: Engine, mailboxes: Mailboxes, letters: Letters, bob: Account
    ) -> None:
        trace = await letters.post(mailboxes=[bob.inbox])
        engine.notices.clear()
        assert await mailboxes.expunge(bob.inbox, [1, 2, 3]) == 1
        assert engine.notices == [Notice("mailbox", str(bob.inbox))]
        assert await mailboxes.expunge(bob.inbox, [1]) == 0
        with pytest.raises(NotFound):
            await mailboxes.open(bob.inbox, 1)
        with pytest.raises(NotFound):
            await letters.storage.spool.open(trace)

    async def test_octets_stay_while_another_mailbox_or_the_queue_needs_them(
        self, mailboxes: Mailboxes, letters: Letters, bob: Account
    ) -> None:
        carol = await letters.account("carol@builder.test")
        trace = await letters.post(mailboxes=[bob.inbox, carol.inbox], to=["eve@elsewhere.test"])
        await mailboxes.expunge(bob.inbox, [1])
        (entry,) = await letters.due("elsewhere.test")
        await letters.storage.queue.settle([finished(entry)])
        assert (await octets_of(await mailboxes.open(carol.inbox, 1))).endswith(b"Hello.\r\n")
        await mailboxes.expunge(carol.inbox, [1])
        with pytest.raises(NotFound):
            await letters.storage.spool.open(trace)


class TestLocks:
    async def test_a_mailbox_is_locked_once_even_within_one_process(
        self, engine: Engine, mailboxes: Mailboxes, letters: Letters, bob: Account
    ) -> None:
        other = (await engine.open(worker=1)).storage.mailboxes
        lock = await mailboxes.lock(bob.inbox)
        for rival in (mailboxes, other):
            with pytest.raises(Conflict, match="in use"):
                await rival.lock(bob.inbox)
        await letters.post(mailboxes=[bob.inbox])  # deliveries go on
        lock.release()
        lock.release()
        again = await other.lock(bob.inbox)
        again.release()

    async def test_other_mailboxes_are_free(self, mailboxes: Mailboxes, letters: Letters, bob: Account) -> None:
        lock = await mailboxes.lock(bob.inbox)
        carol = await letters.account("carol@builder.test")
        other = await mailboxes.lock(carol.inbox)
        assert other is not lock
        other.release()
        lock.release()
