"""Addresses that every peer takes: as senders on port 25, as recipients in submission, and as names of our own."""

import pytest
from tests.intake.conversation import House

BOB, ALICE = "bob@here.test", "alice@here.test"
FORMS = [
    "taro..yamada@docomo.test",
    "taro.@docomo.test",
    ".taro@docomo.test",
    "root@web_1.app.test",
    "bounces+19390322-d49f-firstname.lastname=some-longer-company-name.test@em7169.news.test",
]


@pytest.mark.parametrize("address", FORMS)
@pytest.mark.parametrize("brackets", [True, False])
async def test_they_write_to_us_and_their_return_path_is_unchanged(house: House, address: str, brackets: bool) -> None:
    talk = await house.reception()
    assert (await talk.say(f"MAIL FROM:<{address}>" if brackets else f"MAIL FROM:{address} SIZE=100")).startswith("250")
    assert (await talk.say(f"RCPT TO:<{BOB}>")).startswith("250")
    await talk.say("DATA")
    assert (await talk.send(b"Subject: hello\r\n\r\nhello\r\n.\r\n")).startswith("250")
    (message,) = await house.inbox(BOB)
    assert message.startswith(f"Return-Path: <{address}>\r\n".encode())


@pytest.mark.parametrize("address", FORMS)
async def test_our_users_write_to_them(house: House, address: str) -> None:
    talk = await house.submission(ALICE)
    assert (await talk.message(ALICE, address)).startswith("250")
    (entry,) = await house.queued()
    assert [str(one.address) for one in entry.recipients] == [address]


@pytest.mark.parametrize(
    "recipient", ["<bob@here.test.>", "bob@here.test", "bob@here.test.", " bob@here.test", "postmaster", "POSTMASTER"]
)
async def test_a_dot_behind_our_domain_and_missing_brackets_hide_nobody(house: House, recipient: str) -> None:
    talk = await house.reception()
    await talk.say("MAIL FROM:<x@there.test>")
    assert (await talk.say(f"RCPT TO:{recipient}")).startswith("250")


@pytest.mark.parametrize("command", ["MAIL FROM:postmaster", "MAIL FROM:<postmaster>", "MAIL FROM:alice"])
async def test_nobody_sends_without_a_domain(house: House, command: str) -> None:
    talk = await house.reception()
    assert (await talk.say(command))[:3] in ("501", "553")


@pytest.mark.parametrize("recipient", ["bob", "postmaster@", "postmasters", '"postmaster"', "postmaster,bob", "abuse"])
async def test_nobody_else_is_reached_without_a_domain(house: House, recipient: str) -> None:
    talk = await house.reception()
    await talk.say("MAIL FROM:<x@there.test>")
    assert (await talk.say(f"RCPT TO:{recipient}")).startswith("501")


@pytest.mark.parametrize("recipient", ["<x@there.test.>", "x@there.test", "x@there.test.", "<x@there_1.test>"])
async def test_they_open_no_relay(house: House, recipient: str) -> None:
    talk = await house.reception()
    await talk.say("MAIL FROM:<x@away.test>")
    assert (await talk.say(f"RCPT TO:{recipient}")).startswith("550 5.7.1")


OURS = ["bob.@here.test", ".bob@here.test", "b..ob@here.test", "bob+.@here.test", "bob+a..b@here.test"]


@pytest.mark.parametrize("address", OURS)
async def test_a_name_of_ours_in_such_a_form_is_unknown_unless_it_is_exactly_so(house: House, address: str) -> None:
    await house.alias("@here.test", ALICE)
    talk = await house.reception()
    await talk.say("MAIL FROM:<x@there.test>")
    assert (await talk.say(f"RCPT TO:<{address}>")).startswith("550 5.1.1")
    assert (await talk.say("RCPT TO:<somebody@here.test>")).startswith("250"), "the catch-all is for others"
    await house.account(address)
    assert (await talk.say(f"RCPT TO:<{address}>")).startswith("250")


@pytest.mark.parametrize("sender", ["alice.@here.test", ".alice@here.test", "alice+a..b@here.test", "bob@here.test."])
async def test_nobody_sends_as_another_by_such_a_form(house: House, sender: str) -> None:
    talk = await house.submission(ALICE)
    assert (await talk.say(f"MAIL FROM:<{sender}>")).startswith("553 5.7.1")
    content = f"From: {sender}\r\nSubject: x\r\n\r\nhello\r\n"
    assert (await talk.message(ALICE, BOB, content=content))[:3] in ("553", "554")
    assert await house.inbox(BOB) == []
