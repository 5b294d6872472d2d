"""Reports of success for recipients whose message is in a mailbox with its acceptance (RFC 3461 5.2.3)."""

import pytest
from tests.intake.conversation import Conversation, House

from waypost.config.settings import ListenerProtocol
from waypost.journal import Station, fields
from waypost.message.envelope import Notify
from waypost.storage import StorageFull

ALICE = "alice@here.test"


async def report(house: House) -> str:
    """Return the only report that waits."""
    (entry,) = [entry for entry in await house.queued() if entry.envelope.reverse_path is None]
    return (await house.stored(entry.trace)).decode()


async def test_success_is_reported_in_the_same_commit(house: House) -> None:
    talk = await house.submission(ALICE)
    reply = await talk.message(ALICE, "<bob@here.test> NOTIFY=SUCCESS ORCPT=rfc822;b@here.test")
    (entry,) = await house.queued()
    assert entry.destination == "[local]" and entry.envelope.reverse_path is None
    assert [str(one.address) for one in entry.recipients] == [ALICE]
    dsn = await report(house)
    assert "Action: delivered" in dsn and "rfc822;bob@here.test" in dsn.replace(" ", "")
    assert "Original-Recipient: rfc822;b@here.test" in dsn.replace("rfc822; ", "rfc822;")
    generated = await house.storage.journal.of(entry.trace)
    assert generated[0].station is Station.GENERATED
    assert fields(generated[0]) == {"kind": "delivered", "about": reply.split()[-1], "recipients": ["bob@here.test"]}
    assert [event.station for event in await house.events(reply)] == [Station.SUBMITTED, Station.DELIVERED]


async def test_nobody_hears_of_success_who_did_not_ask_or_can_not(house: House) -> None:
    talk = await house.submission(ALICE)
    await talk.message(ALICE, "<bob@here.test> NOTIFY=FAILURE,DELAY", ALICE)
    await talk.message("", "<bob@here.test> NOTIFY=SUCCESS")
    assert await house.queued() == []


async def test_a_group_is_reported_once_under_the_name_that_the_sender_wrote(house: House) -> None:
    await house.alias("all@here.test", "alice@here.test", "bob@here.test", "z@away.test")
    talk = await house.submission(ALICE)
    await talk.message(ALICE, "<all@here.test> NOTIFY=SUCCESS,FAILURE")
    dsn = await report(house)
    assert (
        dsn.count("Action: expanded") == dsn.count("Action: ") == 1
        and "all@here.test" in dsn
        and "z@away.test" not in dsn
    )
    (forwarded,) = [entry for entry in await house.queued() if entry.destination == "away.test"]
    assert forwarded.recipients[0].notify is not None and forwarded.recipients[0].notify.name == "FAILURE"


async def test_a_report_to_a_user_of_ours_waits_for_local_delivery(house: House) -> None:
    talk = await house.submission(ALICE)
    await talk.message(ALICE, "<bob@here.test> NOTIFY=SUCCESS")
    (entry,) = await house.queued()
    assert entry.destination == "[local]" and str(entry.recipients[0].address) == ALICE


async def test_no_octets_are_left_behind_by_reports(house: House) -> None:
    spool = house.watch_spool()
    await (await house.submission(ALICE)).message(ALICE, "<bob@here.test> NOTIFY=SUCCESS")
    spool.accept_error = StorageFull("no space")
    await (await house.submission(ALICE)).message(ALICE, "<bob@here.test> NOTIFY=SUCCESS")
    assert len(spool.made) == 4 and not spool.in_use


@pytest.mark.parametrize(
    ("wish", "kept"),
    [
        ("SUCCESS", Notify.NEVER),
        ("SUCCESS,FAILURE", Notify.FAILURE),
        ("failure,delay,success", Notify.FAILURE | Notify.DELAY),
        ("DELAY", Notify.DELAY),
        ("NEVER", Notify.NEVER),
    ],
)
@pytest.mark.parametrize("way", ["reception", "lmtp"])
async def test_a_stranger_causes_no_report_of_success(house: House, way: str, wish: str, kept: Notify) -> None:
    await house.alias("all@here.test", "alice@here.test", "bob@here.test", "z@away.test")
    await house.alias("away@here.test", "a@away.test")
    talk = await (house.reception() if way == "reception" else house.lmtp())
    recipients = [f"<{name}@here.test> NOTIFY={wish}" for name in ("bob", "all", "away")]
    reply = await talk.message("victim@there.test", *recipients, "alice@here.test", parameters="BY=3600;NT RET=FULL")
    assert reply.startswith("250 2.0.0")
    (forwarded,) = await house.queued()
    assert forwarded.destination == "away.test" and forwarded.envelope.deliver_by is None
    assert [one.notify for one in forwarded.recipients] == [kept, kept], "the next server is not asked for it either"


@pytest.mark.parametrize(("protocol", "offered"), [("SMTP", False), ("LMTP", False), ("SUBMISSION", True)])
async def test_dsn_is_offered_to_those_whose_address_is_known(house: House, protocol: str, offered: bool) -> None:
    talk = Conversation(house.session(ListenerProtocol[protocol]))
    await talk.open()
    hello = "LHLO" if protocol == "LMTP" else "EHLO"
    keywords = [line[4:] for line in (await talk.send(f"{hello} x.test\r\n".encode())).splitlines()]
    assert "PIPELINING" in keywords and ("DSN" in keywords) is offered
