"""From content to commit: the trace field, the journal, loops, quotas, and the replies of LMTP."""

import pytest
from msgspec.structs import replace
from tests.intake.conversation import CLIENT, MESSAGE, NOW, SECOND, TLS, Conversation, House, trace_of

from waypost.config.settings import ListenerProtocol
from waypost.journal import Station, fields
from waypost.message.received import Hop, received_field
from waypost.message.trace import TraceId, iso_time
from waypost.protocol.session import Peer
from waypost.protocol.smtp.capabilities import parse_capabilities
from waypost.protocol.smtp.outgoing import scan
from waypost.protocol.smtp.transaction import CommandPlan, plan_transaction
from waypost.storage import StorageFull


async def test_the_received_field_stands_in_front_and_nothing_else_changes(house: House) -> None:
    talk = await house.reception()
    reply = await talk.message("x@there.test", "bob@here.test")
    trace = reply.split()[-1]
    assert (
        await house.stored(trace_of(reply))
        == (
            "Received: from mx.there.test ([192.0.2.7])\r\n"
            "\tby mx.here.test (Waypost) with ESMTP\r\n"
            f"\tid {trace}\r\n"
            "\tfor <bob@here.test>; Tue, 24 Nov 2026 06:00:00 +0000\r\n" + MESSAGE
        ).encode()
    )


async def test_the_received_field_names_no_recipient_where_there_are_several(house: House) -> None:
    reply = await (await house.reception()).message("x@there.test", "bob@here.test", "alice@here.test")
    assert b"for <" not in await house.stored(trace_of(reply))


async def test_the_received_field_says_how_the_message_came(house: House) -> None:
    talk = Conversation(house.session(ListenerProtocol.SMTP), Peer("2001:db8::7", 1, "2001:db8::1", 25, TLS))
    await talk.open()
    await talk.say("EHLO [IPv6:2001:db8::7]")
    reply = await talk.message("x@there.test", "bob@here.test", parameters="SMTPUTF8")
    field = await house.stored(trace_of(reply))
    assert field.startswith(b"Received: from [IPv6:2001:db8::7] ([IPv6:2001:db8::7])\r\n")
    assert b"with UTF8SMTPS (TLSv1.3 TLS_AES_256_GCM_SHA384)" in field
    await talk.say("HELO old.test")
    reply = await talk.message("x@there.test", "bob@here.test")
    assert b"from old.test" in await house.stored(trace_of(reply))
    assert b"with SMTP (TLS" in await house.stored(trace_of(reply))


async def test_a_recipient_outside_ascii_stays_ascii_in_the_trace_where_it_can(house: House) -> None:
    await house.account("carol@xn--exmple-cua.test")
    talk = await house.reception()
    reply = await talk.message("x@there.test", "carol@exämple.test", parameters="SMTPUTF8")
    assert (await house.stored(trace_of(reply))).isascii()


async def test_a_message_in_ascii_for_an_alias_outside_ascii_goes_on_in_ascii(house: House) -> None:
    await house.alias("аскии@here.test", "ascii@there.test")
    talk = await house.reception()
    await talk.message("x@there.test", "аскии@here.test", parameters="SMTPUTF8")
    (entry,) = await house.queued()
    stored = await house.stored(entry.trace)
    assert stored.isascii() and b"with UTF8SMTP\r\n" in stored
    facts, older = scan(stored), parse_capabilities(["mx.there.test", "8BITMIME"])
    plan = plan_transaction(entry.envelope, entry.recipients, facts, older, NOW)
    assert isinstance(plan, CommandPlan) and plan.rcpt == (b"RCPT TO:<ascii@there.test>\r\n",), "no SMTPUTF8 is needed"


async def test_the_journal_tells_of_reception_and_delivery(house: House) -> None:
    await house.alias("sales@here.test", "bob@here.test", "s@there.test")
    talk = await house.reception()
    content = "Message-ID: <1@there.test>\r\n" + MESSAGE
    reply = await talk.message("x@there.test", "sales@here.test", "bob@here.test", content=content)
    received, delivered, queued = await house.events(reply)
    assert received.station is Station.RECEIVED and received.time == NOW
    assert fields(received) == {
        "peer": "192.0.2.7",
        "helo": "mx.there.test",
        "tls": None,
        "sender": "x@there.test",
        "recipients": ["sales@here.test", "bob@here.test"],
        "size": len(content),
        "message_id": "<1@there.test>",
    }
    assert (delivered.station, fields(delivered)) == (
        Station.DELIVERED,
        {"recipients": ["sales@here.test", "bob@here.test"], "mailbox": "bob@here.test"},
    )
    assert (queued.station, fields(queued)) == (
        Station.QUEUED,
        {"destination": "there.test", "recipients": ["s@there.test"]},
    )
    assert await house.storage.journal.find_message_id("<1@there.test>") == [trace_of(reply)]


async def test_the_journal_tells_of_submission_and_of_what_is_held(house: House) -> None:
    talk = await house.submission("alice@here.test")
    reply = await talk.message("alice@here.test", "bob@here.test", "x@there.test", parameters="HOLDFOR=60")
    submitted, *queued = await house.events(reply)
    assert submitted.station is Station.SUBMITTED
    assert fields(submitted)["account"] == "alice@here.test"
    assert fields(submitted)["tls"] == "TLSv1.3 TLS_AES_256_GCM_SHA384"
    assert [fields(event) for event in queued] == [
        {"destination": "[local]", "recipients": ["bob@here.test"], "not_before": iso_time(NOW + 60 * SECOND)},
        {"destination": "there.test", "recipients": ["x@there.test"], "not_before": iso_time(NOW + 60 * SECOND)},
    ]
    assert await house.inbox("bob@here.test") == []
    assert {entry.next_attempt for entry in await house.queued()} == {NOW + 60 * SECOND}


async def test_what_is_held_wakes_who_waits_for_it(house: House) -> None:
    talk = await house.submission("alice@here.test")
    await talk.message("alice@here.test", "bob@here.test", "x@there.test")
    assert {(notice.topic, notice.name) for notice in house.notices} >= {("destination", "there.test")}


# Loops.


def hops(hostname: str, number: int) -> str:
    hop = Hop("x", "192.0.2.1", hostname, "ESMTP")
    return received_field(hop, TraceId(1), NOW).decode() * number


async def test_a_message_that_has_passed_too_many_servers_is_in_a_loop(house: House) -> None:
    talk = await house.reception()
    assert (await talk.message("x@there.test", "bob@here.test", content=hops("y.test", 50) + MESSAGE)).startswith("250")
    reply = await talk.message("x@there.test", "bob@here.test", content=hops("y.test", 51) + MESSAGE)
    assert reply.startswith("554 5.4.6")


async def test_a_message_that_comes_back_to_us_again_and_again_is_in_a_loop(house: House) -> None:
    talk = await house.reception()
    ours = house.settings.hostname
    assert (await talk.message("x@there.test", "bob@here.test", content=hops(ours, 4) + MESSAGE)).startswith("250")
    reply = await talk.message("x@there.test", "bob@here.test", content=hops(ours.upper(), 5) + MESSAGE)
    assert reply.startswith("554 5.4.6")
    assert len(await house.inbox("bob@here.test")) == 1


async def test_two_hosts_that_forward_to_each_other_stop(house: House) -> None:
    await house.alias("round@here.test", "round@there.test")
    content: str = MESSAGE
    passed = 0
    while True:
        reply = await (await house.reception()).message("x@there.test", "round@here.test", content=content)
        if reply.startswith("554"):
            break
        content = (await house.stored(trace_of(reply))).decode()
        passed += 1
    assert reply.startswith("554 5.4.6") and passed == 5


async def test_a_bare_line_end_in_the_header_of_binary_content_hides_no_field(house: House) -> None:
    talk = await house.reception()
    await talk.say("MAIL FROM:<x@there.test> BODY=BINARYMIME", "RCPT TO:<bob@here.test>")
    content = b"Subject: x\nFrom: bob@here.test\r\n\r\nbody"
    assert (await talk.send(b"BDAT %d LAST\r\n" % len(content) + content)).startswith("550 5.6.11")


# Quotas.


async def test_a_full_mailbox_is_refused_with_the_declared_size_and_with_the_real_one(house: House) -> None:
    await house.account("carol@here.test", quota=5000)
    talk = await house.reception()
    assert (await talk.message("x@there.test", "carol@here.test", parameters="SIZE=5001")).startswith("452 4.2.2")
    await talk.say("RSET")
    large = MESSAGE + "x" * 70 + "\r\n" + ("x" * 70 + "\r\n") * 100
    assert (await talk.message("x@there.test", "carol@here.test", content=large)).startswith("452 4.2.2")
    assert (await talk.message("x@there.test", "carol@here.test")).startswith("250")
    assert len(await house.inbox("carol@here.test")) == 1


async def test_one_answer_for_several_recipients_makes_a_quota_soft(house: House) -> None:
    await house.account("carol@here.test", quota=5000)
    talk = await house.reception()
    large = MESSAGE + ("x" * 70 + "\r\n") * 100
    assert (await talk.message("x@there.test", "carol@here.test", "bob@here.test", content=large)).startswith("250")
    assert len(await house.inbox("carol@here.test")) == len(await house.inbox("bob@here.test")) == 1
    assert (await talk.message("x@there.test", "carol@here.test")).startswith("452 4.2.2"), "but never twice"


async def test_the_member_of_a_group_who_has_no_room_waits_in_the_queue(house: House) -> None:
    await house.account("carol@here.test", quota=1)
    await house.alias("all@here.test", "bob@here.test", "carol@here.test")
    await (await house.reception()).message("x@there.test", "all@here.test", parameters="SIZE=40")
    assert len(await house.inbox("bob@here.test")) == 1
    (entry,) = await house.queued()
    assert entry.destination == "[local]" and str(entry.recipients[0].address) == "carol@here.test"


# LMTP (RFC 2033).


async def test_lmtp_answers_for_each_recipient_and_a_full_mailbox_is_one_of_them(house: House) -> None:
    await house.account("carol@here.test", quota=5000)
    talk = await house.lmtp()
    large = MESSAGE + ("x" * 70 + "\r\n") * 100
    recipients = ("bob@here.test", "carol@here.test", "alice@here.test")
    answers = (await talk.message("x@there.test", *recipients, content=large)).split("\r\n")
    assert [answer[:9] for answer in answers] == ["250 2.0.0", "452 4.2.2", "250 2.0.0"]
    assert answers[0] == answers[2]
    assert len(await house.inbox("bob@here.test")) == 1 and await house.inbox("carol@here.test") == []
    (event, *_) = await house.events(answers[0])
    assert fields(event)["recipients"] == ["bob@here.test", "alice@here.test"]
    assert b"with LMTP" in await house.stored(trace_of(answers[0]))


async def test_lmtp_stores_nothing_when_nobody_has_room(house: House) -> None:
    await house.account("carol@here.test", quota=5000)
    talk = await house.lmtp()
    large = MESSAGE + ("x" * 70 + "\r\n") * 100
    assert (await talk.message("x@there.test", "carol@here.test", content=large)).startswith("452 4.2.2")
    answers = await talk.message("x@there.test", "carol@here.test", "bob@here.test", content=hops("y.test", 51))
    assert [answer[:9] for answer in answers.split("\r\n")] == ["452 4.2.2", "554 5.4.6"]


async def test_lmtp_answers_each_recipient_when_our_disk_fails(house: House) -> None:
    spool = house.watch_spool()
    spool.accept_error = StorageFull("no space")
    talk = await house.lmtp()
    answers = await talk.message("x@there.test", "alice@here.test", "bob@here.test")
    assert [answer[:9] for answer in answers.split("\r\n")] == ["452 4.3.1"] * 2
    spool.accept_error = None
    spool.write_error = StorageFull("no space")
    large = MESSAGE + ("x" * 70 + "\r\n") * 300
    answers = await talk.message("x@there.test", "alice@here.test", "bob@here.test", content=large)
    assert [answer[:9] for answer in answers.split("\r\n")] == ["452 4.3.1"] * 2
    assert not spool.in_use


async def test_lmtp_knows_lhlo_only(house: House) -> None:
    talk = Conversation(house.session(ListenerProtocol.LMTP))
    assert (await talk.open()).startswith("220 mx.here.test LMTP")
    assert (await talk.say("EHLO x")).startswith("500")


async def test_the_client_of_a_proxy_is_who_is_named(house: House) -> None:
    talk = Conversation(house.session(ListenerProtocol.SMTP), replace(CLIENT, address="203.0.113.9"))
    await talk.open()
    await talk.say("EHLO x")
    reply = await talk.message("x@there.test", "bob@here.test")
    assert fields((await house.events(reply))[0])["peer"] == "203.0.113.9"


@pytest.mark.parametrize("size", [0, 1])
async def test_an_empty_message_is_a_message(house: House, size: int) -> None:
    talk = await house.reception()
    assert (await talk.message("x@there.test", "bob@here.test", content="\r\n" * size)).startswith("250")
    assert (await house.inbox("bob@here.test"))[0].endswith(b"+0000\r\n" + b"\r\n" * size)
