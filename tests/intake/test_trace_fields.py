"""No words of a stranger stand in our trace fields, and there is one Return-Path at delivery (RFC 5321 4.4)."""

import email
import email.policy
from email.message import EmailMessage

import pytest
from tests.intake.conversation import Conversation, House

BOB, ALICE = "bob@here.test", "alice@here.test"
ORPHAN = b" (added by mx.bank.test; dkim=pass)\r\n"
REST = b"From: x@there.test\r\nSubject: hello\r\n\r\nbody\r\n"


def read(octets: bytes) -> EmailMessage:
    return email.message_from_bytes(octets, policy=email.policy.SMTP)


async def arrive(house: House, way: str) -> Conversation:
    return await (house.submission(ALICE) if way == "submission" else getattr(house, way)())


@pytest.mark.parametrize("way", ["reception", "lmtp"])
@pytest.mark.parametrize(
    "orphan",
    [
        ORPHAN,
        ORPHAN * 3,
        b"\t(folded by a tab)\r\n",
        b" \r\n",
        b"\t \r\n (below white space)\r\n",
        b" for <victim@bank.test>; Tue, 1 Jan 2030 00:00:00 +0000\r\n",
        b" Received: from mx.bank.test\r\n",
        b" \xff\x00".replace(b"\x00", b"\x01") + b"\r\n",
    ],
)
async def test_a_first_line_that_continues_nothing_is_no_part_of_our_received(
    house: House, way: str, orphan: bytes
) -> None:
    talk = await arrive(house, way)
    plain = await talk.message("x@there.test", BOB, content=REST)
    mean = await talk.message("x@there.test", BOB, content=orphan + REST)
    assert plain.startswith("250") and mean.startswith("250")
    first, second = map(read, await house.inbox(BOB))
    trace = [
        message["Received"].replace(reply.split()[-1], "ID") for message, reply in ((first, plain), (second, mean))
    ]
    assert trace[0] == trace[1]
    assert second["From"] == "x@there.test" and second["Subject"] == "hello" and second.get_content() == "body\r\n"
    assert orphan in (await house.inbox(BOB))[1], "no octet is lost"


@pytest.mark.parametrize("octets", [b"", b" ", b" \r\n", b" all\r\n of it\r\n", b"\tx\r\n\r\nbody\r\n"])
async def test_a_message_of_nothing_but_such_lines_leaves_our_received_alone(house: House, octets: bytes) -> None:
    talk = await house.reception()
    await talk.say("MAIL FROM:<x@there.test>", f"RCPT TO:<{BOB}>")
    reply = await talk.send(b"BDAT %d LAST\r\n" % len(octets) + octets)
    assert "250 2.0.0 Ok" in reply
    (message,) = await house.inbox(BOB)
    assert read(message)["Received"].endswith("; Tue, 24 Nov 2026 06:00:00 +0000")


async def test_such_a_message_that_is_relayed_leaves_with_our_received_whole(house: House) -> None:
    await house.alias("away@here.test", "z@away.test")
    talk = await house.reception()
    reply = await talk.message("x@there.test", "away@here.test", content=ORPHAN + REST)
    stored = await house.stored((await house.queued())[0].trace)
    assert reply.startswith("250") and read(stored)["Received"].endswith("; Tue, 24 Nov 2026 06:00:00 +0000")


async def test_a_report_on_such_a_message_has_our_received_whole(house: House) -> None:
    talk = await house.submission(ALICE)
    reply = await talk.message(
        ALICE, f"<{BOB}> NOTIFY=SUCCESS", content=ORPHAN + b"From: alice@here.test\r\n\r\nhi\r\n"
    )
    if reply.startswith("250"):
        (entry,) = await house.queued()
        assert b"+0000\r\n (added" not in await house.stored(entry.trace)
    else:
        assert reply.startswith("554 5.6.0")


# Return-Path.


PATHS = (
    b"Return-Path: <ceo@bank.test>\r\n",
    b"RETURN-PATH : <ceo@bank.test>\r\n",
    b"Return-Path:\r\n <ceo@bank.test>\r\n",
    b"return-path: <ceo@bank.test>\r\nX: y\r\nReturn-Path: <>\r\n",
    b"no field at all\r\nReturn-Path: <ceo@bank.test>\r\n",
)


@pytest.mark.parametrize("way", ["reception", "submission", "lmtp"])
@pytest.mark.parametrize("path", PATHS)
async def test_at_delivery_there_is_one_return_path_and_it_is_ours(house: House, way: str, path: bytes) -> None:
    talk = await arrive(house, way)
    sender = ALICE if way == "submission" else "x@there.test"
    content = (
        b"A: b\r\n" + path + b"From: <%s>\r\nSubject: hello\r\n\r\nReturn-Path: <in@the.body>\r\n" % sender.encode()
    )
    reply = await talk.message(sender, BOB, content=content)
    if way == "submission" and path.startswith(b"no field"):
        assert reply.startswith("554 5.6.0")
        return
    (message,) = await house.inbox(BOB)
    header, body = message.split(b"\r\n\r\n", 1)
    assert read(message).get_all("Return-Path") == [f"<{sender}>"] and header.lower().count(b"return-path") == 1
    assert b"\r\nSubject: hello" in header and body == b"Return-Path: <in@the.body>\r\n"


async def test_a_return_path_in_front_of_a_continuation_takes_it_along(house: House) -> None:
    talk = await house.reception()
    await talk.message("x@there.test", BOB, content=b"Return-Path: <a@b.test>\r\n (dkim=pass)\r\n" + REST)
    (message,) = await house.inbox(BOB)
    assert b"dkim=pass" not in message


async def test_a_message_that_is_only_relayed_keeps_its_return_path(house: House) -> None:
    """RFC 5321 4.4: who relays doesn't look for one."""
    await house.alias("away@here.test", "z@away.test")
    talk = await house.reception()
    await talk.message("x@there.test", "away@here.test", content=PATHS[0] + REST)
    assert (await house.stored((await house.queued())[0].trace)).count(PATHS[0]) == 1


async def test_what_is_delivered_here_and_relayed_has_one_return_path_here(house: House) -> None:
    await house.alias("both@here.test", "z@away.test", BOB)
    talk = await house.reception()
    await talk.message("x@there.test", "both@here.test", content=PATHS[0] + REST)
    (message,) = await house.inbox(BOB)
    assert read(message).get_all("Return-Path") == ["<x@there.test>"]


async def test_what_waits_for_local_delivery_is_without_a_return_path(house: House) -> None:
    talk = await house.submission(ALICE)
    reply = await talk.message(
        ALICE, BOB, content=PATHS[0] + b"From: alice@here.test\r\n\r\nhi\r\n", parameters="HOLDFOR=60"
    )
    (entry,) = await house.queued()
    assert reply.startswith("250") and b"Return-Path" not in await house.stored(entry.trace)


# Delivered-To.


@pytest.mark.parametrize("claimed", [b"bob@here.test", b"<BOB@here.test>", b"\r\n bob@Here.test"])
async def test_nobody_else_says_to_whom_a_message_was_delivered_here(house: House, claimed: bytes) -> None:
    talk = await house.reception()
    content = b"Delivered-To: %s\r\nDelivered-To: list@there.test\r\n" % claimed + REST
    await talk.message("x@there.test", BOB, content=content)
    (message,) = await house.inbox(BOB)
    assert read(message).get_all("Delivered-To") == [BOB, "list@there.test"], "the way it took elsewhere stays"
