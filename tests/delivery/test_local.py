"""Entries that end in mailboxes here: what is put where, who waits, who hears of it; all in one commit."""

from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from msgspec.structs import replace
from tests.queue.world import ALICE, CONTENT, DAY, MINUTE, START, World, make_world

from waypost.delivery.local import LocalDelivery
from waypost.delivery.plan import LOCAL_DESTINATION, Planner
from waypost.delivery.resolve import AddressBook, Resolution
from waypost.journal import fields
from waypost.message.address import Address
from waypost.message.envelope import Envelope, Notify, Recipient
from waypost.queue.carrier import AttemptResult, CarryResult, EntrySource, Fate
from waypost.storage import Account, Alias, Credentials, QueueEntry, StorageError

NO_PASSWORD = Credentials("-", b"", 1, b"", b"")
EVERYTHING = Notify.SUCCESS | Notify.FAILURE | Notify.DELAY


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    made = await make_world(tmp_path)
    yield made
    await made.close()


def delivery(world: World) -> LocalDelivery:
    book = AddressBook(world.storage.directory, hostname="mx.wonderland.test", hosted=["wonderland.test"])
    return LocalDelivery(book, Planner(book), hostname="mx.wonderland.test", now=world.clock.now)


async def account(world: World, address: str, *, quota: int = 0) -> Account:
    return await world.storage.directory.add_account(address, NO_PASSWORD, quota=quota, now=START)


async def submit(world: World, *recipients: str | Recipient) -> QueueEntry:
    entry = await world.submit(*recipients, destination=LOCAL_DESTINATION)
    return await world.storage.queue.get(entry)


@dataclass
class Source(EntrySource):
    """Entries to carry, and what was said of them."""

    left: list[QueueEntry]
    back: list[QueueEntry] = field(default_factory=list)
    results: list[AttemptResult] = field(default_factory=list)

    async def take(self, wait: float) -> QueueEntry | None:
        return self.left.pop(0) if self.left else None

    async def report(self, result: AttemptResult) -> None:
        self.results.append(result)

    def give_back(self, entry: QueueEntry) -> None:
        self.back.append(entry)


async def mailbox(world: World, account: Account) -> list[bytes]:
    """Return the octets of every message of an account."""
    found = []
    for message in await world.storage.mailboxes.messages(account.inbox):
        stored = await world.storage.mailboxes.open(account.inbox, message.uid)
        found.append(await stored.read(0, stored.size))
    return found


async def test_a_held_message_goes_into_the_mailbox_and_leaves_the_queue(world: World) -> None:
    alice = await account(world, "alice@wonderland.test")
    world.dispatcher(delivery(world))
    entry = await submit(world, "alice@wonderland.test")
    await world.queue.done("settle")
    assert await world.waiting() == []
    [octets] = await mailbox(world, alice)
    assert octets.startswith(b"Return-Path: <alice@wonderland.test>\r\nDelivered-To: alice@wonderland.test\r\n")
    assert octets.endswith(CONTENT)
    [delivered] = await world.storage.journal.of(entry.trace)
    assert fields(delivered) == {"recipients": ["alice@wonderland.test"], "mailbox": "alice@wonderland.test"}


async def test_what_its_sender_holds_back_goes_into_the_mailbox_when_an_operator_makes_it_due(world: World) -> None:
    alice = await account(world, "alice@wonderland.test")
    world.dispatcher(delivery(world))
    envelope = Envelope(ALICE, hold_until=START + DAY)
    await world.submit("alice@wonderland.test", envelope=envelope, destination=LOCAL_DESTINATION)
    await world.queue.done("settle")
    assert await world.waiting() == []
    assert len(await mailbox(world, alice)) == 1


async def test_many_entries_share_commits_and_each_arrives_once(world: World) -> None:
    alice = await account(world, "alice@wonderland.test")
    for _ in range(40):
        await submit(world, "alice@wonderland.test")
    world.dispatcher(delivery(world))
    await world.queue.done("release")
    assert await world.waiting() == []
    assert len(await mailbox(world, alice)) == 40


async def test_a_report_reaches_our_own_user_and_says_so_to_nobody(world: World) -> None:
    alice = await account(world, "alice@wonderland.test")
    world.dispatcher(delivery(world))
    await world.submit(Recipient(ALICE, Notify.NEVER), envelope=Envelope(None), destination=LOCAL_DESTINATION)
    await world.queue.done("settle")
    [octets] = await mailbox(world, alice)
    assert octets.startswith(b"Return-Path: <>\r\n")
    assert await world.waiting() == []


async def test_a_full_mailbox_waits_by_the_schedule(world: World) -> None:
    await account(world, "alice@wonderland.test", quota=10)
    world.dispatcher(delivery(world))
    await submit(world, "alice@wonderland.test")
    await world.queue.done("settle")
    [entry] = await world.waiting()
    assert (entry.attempts, entry.last_error) == (1, "the mailbox is full")


@pytest.mark.parametrize("gone", [True, False])
async def test_a_mailbox_that_is_closed_or_gone_returns_the_message(world: World, gone: bool) -> None:
    await account(world, "bob@wonderland.test")
    entry = await submit(world, "bob@wonderland.test")
    if gone:
        await world.storage.directory.remove_account("bob@wonderland.test")
    else:
        await world.storage.directory.set_disabled("bob@wonderland.test", True)
    result = await delivery(world).deliver(entry)
    [one] = result.results
    assert one.fate is Fate.FAILED
    assert (one.status, one.problem) == (
        ("5.1.1", "there is no such user here") if gone else ("5.2.1", "the mailbox is closed")
    )


async def test_an_alias_of_one_passes_the_wishes_on_and_reports_nothing(world: World) -> None:
    await world.storage.directory.set_alias(Alias("tea@wonderland.test", ("hatter@builder.test",)))
    await account(world, "alice@wonderland.test")
    result = await delivery(world).deliver(
        await submit(world, Recipient(Address.parse("tea@wonderland.test"), EVERYTHING))
    )
    assert [one.fate for one in result.results] == [Fate.FORWARDED]
    [forward] = result.forwards
    assert forward.destination == "builder.test"
    assert forward.recipients[0].notify == EVERYTHING


async def test_a_group_reports_success_once_and_asks_its_members_for_trouble_only(world: World) -> None:
    alice = await account(world, "alice@wonderland.test")
    await world.storage.directory.set_alias(
        Alias("tea@wonderland.test", ("alice@wonderland.test", "hatter@builder.test"))
    )
    world.dispatcher(delivery(world))
    entry = await submit(world, Recipient(Address.parse("tea@wonderland.test"), EVERYTHING))
    await world.queue.done("settle")
    assert len(await mailbox(world, alice)) == 1
    stations = [(event.station, fields(event)) for event in await world.storage.journal.of(entry.trace)]
    assert stations[0] == ("delivered", {"recipients": ["tea@wonderland.test"], "mailbox": "alice@wonderland.test"})
    assert stations[1] == ("queued", {"destination": "builder.test", "recipients": ["hatter@builder.test"]})
    waiting = {one.destination: one for one in await world.waiting()}
    assert waiting["builder.test"].recipients[0].notify == Notify.FAILURE | Notify.DELAY
    report = waiting["wonderland.test"]
    stored = await world.storage.spool.open(report.trace)
    assert b"Action: expanded\r\n" in await stored.read(0, stored.size)


async def test_a_mailbox_that_is_removed_while_its_message_arrives_returns_it(world: World) -> None:
    await account(world, "bob@wonderland.test")
    carrier = delivery(world)

    class Racing(LocalDelivery):
        async def deliver(self, entry: QueueEntry) -> AttemptResult:
            result = await super().deliver(entry)
            if result.deliveries:
                await world.storage.directory.remove_account("bob@wonderland.test")
            return result

    racing = Racing(carrier._book, carrier._planner, hostname="mx.wonderland.test", now=world.clock.now)
    world.dispatcher(racing)
    entry = await submit(world, "bob@wonderland.test")
    await world.queue.done("release")
    [waiting] = await world.waiting()
    assert waiting.next_attempt == START + MINUTE
    for _ in range(2):
        await world.clock.somebody_sleeps(30.0)
        world.clock.advance(30)
    await world.queue.done("release")
    assert await world.stations(entry.trace) == ["attempt", "attempt", "returned"]


async def test_trouble_with_storage_gives_the_entry_back_and_rests(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    entry = await submit(world, "alice@wonderland.test")
    carrier = delivery(world)

    async def broken(*_: object) -> None:
        raise StorageError("the disk is gone")

    monkeypatch.setattr(AddressBook, "resolve", broken)

    source = Source([entry])
    assert await carrier.carry(LOCAL_DESTINATION, source) == CarryResult(START + 30_000_000)
    assert source.back == [entry]
    assert source.results == [], "nothing was attempted"


async def test_a_fault_of_ours_in_one_entry_defers_it_and_holds_up_no_other(
    world: World, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    await account(world, "alice@wonderland.test")
    resolve = AddressBook.resolve

    async def brittle(book: AddressBook, address: Address, size: int = 0) -> Resolution:
        if address.local == "mallory":
            raise RuntimeError("a bug")
        return await resolve(book, address, size)

    monkeypatch.setattr(AddressBook, "resolve", brittle)
    source = Source([await submit(world, f"{name}@wonderland.test") for name in ("mallory", "alice")])
    assert await delivery(world).carry(LOCAL_DESTINATION, source) == CarryResult()
    said = {str(one.recipient.address): (one.fate, one.status) for done in source.results for one in done.results}
    assert said == {
        "mallory@wonderland.test": (Fate.DEFERRED, "4.3.0"),
        "alice@wonderland.test": (Fate.DELIVERED, "2.1.5"),
    }
    assert [record.message for record in caplog.records if record.exc_info] == ["a bug in a delivery"]


async def test_an_account_without_inbox_waits_by_the_schedule_and_keeps_nobody_else(world: World) -> None:
    bob = await account(world, "bob@wonderland.test")
    eve = await account(world, "eve@wonderland.test")
    sql = "DELETE FROM mailbox WHERE id = ?"
    await world.opened._writer.call(lambda connection: connection.execute(sql, (bob.inbox,)).fetchall())
    world.dispatcher(delivery(world))
    entry = await submit(world, "bob@wonderland.test", "eve@wonderland.test")
    report = await world.submit("bob@wonderland.test", envelope=Envelope(None), destination=LOCAL_DESTINATION)
    await submit(world, "eve@wonderland.test")
    while len(await mailbox(world, eve)) < 2:
        await world.queue.done("settle")
    while any(not waiting.attempts for waiting in await world.waiting()):
        await world.queue.done("settle")
    waiting = await world.waiting()
    assert [one.id for one in waiting] == [entry.id, report]
    assert {(one.attempts, one.next_attempt) for one in waiting} == {(1, START + MINUTE)}
    assert all("can't be looked up" in str(one.last_error) for one in waiting)
    assert [str(one.address) for one in waiting[0].recipients] == ["bob@wonderland.test"]


async def test_a_mailbox_that_storage_does_not_find_is_tried_again_by_the_schedule(world: World) -> None:
    await account(world, "bob@wonderland.test")
    carrier = delivery(world)

    class Wrong(LocalDelivery):
        async def deliver(self, entry: QueueEntry) -> AttemptResult:
            result = await super().deliver(entry)
            wrong = tuple(replace(one, mailbox=99) for one in result.deliveries)
            return replace(result, deliveries=wrong)

    world.dispatcher(Wrong(carrier._book, carrier._planner, hostname="mx.wonderland.test", now=world.clock.now))
    await submit(world, "bob@wonderland.test")
    await world.queue.done("release")
    [waiting] = await world.waiting()
    assert (waiting.attempts, waiting.next_attempt) == (1, START + MINUTE)
    assert world.queue.counts["settle"] == 2
