"""The spool: what was accepted is read back octet by octet, and one commit writes all of it or nothing."""

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from msgspec.structs import replace
from tests.storage.letters import HEAD, Engine, Letters, octets_of, stored

from waypost.message.address import Address
from waypost.storage import MailboxDelivery, NotFound, Notice, Storage

LARGE = bytes(range(256)) * 1024  # four times the threshold of the tests


async def test_an_accepted_message_is_read_back_octet_by_octet(storage: Storage, letters: Letters) -> None:
    octets = b"Subject: \xff\x00\r\n\r\n.\r\n" + bytes(range(256))
    trace = await letters.post(octets, to=["bob@builder.test"])
    message = await storage.spool.open(trace)
    assert message.size == len(HEAD + octets)
    assert await octets_of(message) == HEAD + octets


async def test_a_large_message_is_read_back(storage: Storage, letters: Letters) -> None:
    message = await letters.letter(LARGE, to=["bob@builder.test"])
    await storage.spool.accept(message)
    trace = message.trace
    message.body.discard()
    assert await stored(storage.spool, trace) == HEAD + LARGE


@pytest.mark.parametrize("octets", [b"small" * 100, LARGE])
async def test_any_piece_of_a_message_can_be_read(storage: Storage, letters: Letters, octets: bytes) -> None:
    message = await storage.spool.open(await letters.post(octets, to=["bob@builder.test"]))
    whole = HEAD + octets
    for start in (0, 1, len(HEAD) - 1, len(HEAD), len(HEAD) + 1, len(whole) - 1, len(whole), len(whole) + 5):
        for length in (0, 1, len(HEAD), 300, len(whole)):
            assert await message.read(start, length) == whole[start : start + length]


@settings(deadline=None, max_examples=30, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(pieces=st.lists(st.binary(max_size=200), max_size=20), threshold=st.integers(1, 300))
async def test_any_split_of_the_same_octets_is_the_same_message(
    engine: Engine, pieces: list[bytes], threshold: int
) -> None:
    opened = await engine.open(threshold=threshold)
    try:
        engine.clock.time += 1
        letters = Letters(opened.storage, engine.clock)
        message = await letters.letter(b"", to=["bob@builder.test"])
        for piece in pieces:
            await message.body.write(piece)
        assert message.body.size == sum(map(len, pieces))
        await opened.storage.spool.accept(message)
        trace = message.trace
        message.body.discard()
        assert await stored(opened.storage.spool, trace) == HEAD + b"".join(pieces)
    finally:
        await engine.close()


async def test_everything_of_a_message_is_there_when_accept_returns(
    engine: Engine, storage: Storage, letters: Letters
) -> None:
    bob = await letters.account()
    trace = await letters.post(to=["carol@elsewhere.test"], mailboxes=[bob.inbox], message_id="<1@wonderland.test>")
    (entry,) = await letters.due("elsewhere.test")
    (received,) = await storage.mailboxes.messages(bob.inbox)
    assert entry.trace == received.trace == trace
    assert [event.station for event in await storage.journal.of(trace)] == ["submitted"]
    assert await storage.journal.find_message_id("<1@wonderland.test>") == [trace]
    assert engine.notices[-2:] == [Notice("destination", "elsewhere.test"), Notice("mailbox", str(bob.inbox))]


@pytest.mark.parametrize("address", ["taro..yamada@docomo.test", '"taro..yamada"@docomo.test', '"\\"a..b\\""@x.test'])
async def test_an_address_leaves_the_queue_as_it_came(storage: Storage, letters: Letters, address: str) -> None:
    await letters.post(to=[address], sender=address)
    (entry,) = await letters.due(Address.parse(address).domain)
    assert str(entry.envelope.reverse_path) == str(entry.recipients[0].address) == address


async def test_an_unknown_message_is_not_found(storage: Storage, letters: Letters) -> None:
    with pytest.raises(NotFound):
        await storage.spool.open(letters.ids())


async def test_a_message_whose_mailbox_is_gone_is_not_accepted_in_part(storage: Storage, letters: Letters) -> None:
    message = await letters.letter(to=["carol@elsewhere.test"], mailboxes=[4711])
    with pytest.raises(NotFound):
        await storage.spool.accept(message)
    message.body.discard()
    assert await letters.due("elsewhere.test") == []
    with pytest.raises(NotFound):
        await storage.spool.open(message.trace)
    assert await storage.journal.of(message.trace) == []


async def test_a_message_that_goes_nowhere_is_told_by_the_journal_and_not_stored(
    storage: Storage, letters: Letters
) -> None:
    trace = await letters.post()
    assert len(await storage.journal.of(trace)) == 1
    with pytest.raises(NotFound):
        await storage.spool.open(trace)


async def test_reports_are_written_with_the_message_that_causes_them(storage: Storage, letters: Letters) -> None:
    bob = await letters.account()
    report = await letters.letter(b"delivered", to=["alice@wonderland.test"], sender=None)
    message = await letters.letter(b"hello", mailboxes=[bob.inbox])
    await storage.spool.accept(message, [report])
    assert await stored(storage.spool, report.trace) == HEAD + b"delivered"
    (entry,) = await letters.due("wonderland.test")
    assert entry.trace == report.trace and entry.envelope.reverse_path is None


async def test_a_message_with_a_report_that_cannot_be_stored_is_not_stored_either(
    storage: Storage, letters: Letters
) -> None:
    report = await letters.letter(b"delivered", mailboxes=[4711])
    message = await letters.letter(b"hello", to=["bob@builder.test"])
    with pytest.raises(NotFound):
        await storage.spool.accept(message, [report])
    assert await letters.due("builder.test") == []


@pytest.mark.parametrize("octets", [b"once", LARGE])
async def test_the_same_octets_again_are_a_message_of_their_own(
    engine: Engine, storage: Storage, letters: Letters, octets: bytes
) -> None:
    """RFC 5321 4.2.5: by one process or by another, before a restart or after it."""
    bob = await letters.account()
    other = Letters((await engine.open(worker=1)).storage, engine.clock, maker=1)
    traces = [await one.post(octets, mailboxes=[bob.inbox]) for one in (letters, letters, other)]
    await engine.close()
    again = Letters((await engine.open()).storage, engine.clock, maker=2)
    traces.append(await again.post(octets, mailboxes=[bob.inbox]))
    assert [row.trace for row in await again.storage.mailboxes.messages(bob.inbox)] == traces
    for trace in traces:
        assert await stored(again.storage.spool, trace) == HEAD + octets


async def test_one_message_in_two_mailboxes_is_stored_once(storage: Storage, letters: Letters) -> None:
    bob, carol = await letters.account(), await letters.account("carol@builder.test")
    deliveries = (
        MailboxDelivery(bob.inbox, b"Delivered-To: bob\r\n"),
        MailboxDelivery(carol.inbox, b"Delivered-To: carol\r\n"),
    )
    message = replace(await letters.letter(b"to both"), deliveries=deliveries)
    await storage.spool.accept(message)
    for account, head in ((bob, b"Delivered-To: bob\r\n"), (carol, b"Delivered-To: carol\r\n")):
        (row,) = await storage.mailboxes.messages(account.inbox)
        octets = await octets_of(await storage.mailboxes.open(account.inbox, row.uid))
        assert octets == head + HEAD + b"to both" and row.size == len(octets)
