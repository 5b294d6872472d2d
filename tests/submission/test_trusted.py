"""Devices without a login: only from their networks, only as named senders, within the limits of their account."""

from dataclasses import replace
from ipaddress import ip_network

import pytest
from msgspec import structs
from tests.intake.conversation import CLIENT, TLS, Conversation, House, trace_of

from waypost.config.settings import ListenerProtocol, Submission, TrustedNetwork
from waypost.journal import Station, fields

SCANNER = "scanner@here.test"
DEVICE = structs.replace(CLIENT, address="192.168.7.40", local_address="192.168.7.1", local_port=2525)
ELSEWHERE = "x@there.test"


def trusting(house: House, **changes: object) -> None:
    """Trust the network of the scanner."""
    network = TrustedNetwork((ip_network("192.168.7.40/31"), ip_network("fd00:7::/64")), "bob@here.test", (SCANNER,))
    other = TrustedNetwork((ip_network("192.168.8.0/24"),), "alice@here.test", ("door@here.test",))
    house.settings = replace(house.settings, trusted_networks=(network, other), **changes)  # type: ignore[arg-type]


async def device(house: House, address: str = DEVICE.address) -> Conversation:
    """Return a conversation with a device that has said EHLO."""
    talk = Conversation(
        house.session(ListenerProtocol.TRUSTED_SUBMISSION), structs.replace(DEVICE, address=address, tls=None)
    )
    assert (await talk.open()).startswith("220 ")
    await talk.say("EHLO printer")
    return talk


def scan(sender: str = SCANNER, more: str = "") -> str:
    return f"From: {sender}\r\n{more}Subject: scan\r\n\r\npage\r\n"


async def test_a_device_sends_without_a_login_in_the_name_of_its_account(house: House) -> None:
    trusting(house)
    for address in ("192.168.7.40", "192.168.7.41", "::ffff:192.168.7.41", "fd00:7::1"):
        talk = await device(house, address)
        reply = await talk.message(SCANNER, ELSEWHERE, "alice@here.test", content=scan())
        assert reply.startswith("250 2.0.0"), reply
        stored = await house.stored(trace_of(reply))
        assert b"with ESMTP\r\n" in stored and b"192.168" not in stored, "no A of RFC 3848: nobody has logged in"
        assert b"Message-ID: <" in stored and b"Date: " in stored
        [first, *_] = await house.events(reply)
        assert first.station is Station.SUBMITTED and fields(first)["account"] == "bob@here.test"
    assert {entry.account for entry in await house.queued()} == {"bob@here.test"}


@pytest.mark.parametrize(
    "address",
    [
        *("192.168.7.42", "192.168.7.39", "192.168.9.1", "10.0.0.1", "127.0.0.1", "203.0.113.7", "::1", "fd00:8::1"),
        *("::ffff:203.0.113.7", "64:ff9b::c0a8:728", "fe80::1%eth0", "192.168.7.1", "", "/run/mail.sock"),
    ],
)
async def test_a_stranger_hears_no_greeting(house: House, address: str) -> None:
    trusting(house)
    talk = Conversation(house.session(ListenerProtocol.TRUSTED_SUBMISSION), structs.replace(DEVICE, address=address))
    assert await talk.open() == (
        "554 5.7.1 This port is for known devices; mail programs log in on port 465 or 587\r\n"
    )
    assert await talk.send(b"EHLO x\r\nMAIL FROM:<scanner@here.test>\r\nRCPT TO:<x@there.test>\r\n") == ""


async def test_the_address_that_was_connected_to_is_never_trusted(house: House) -> None:
    trusting(house)
    proxy = structs.replace(DEVICE, local_address=DEVICE.address)
    talk = Conversation(house.session(ListenerProtocol.TRUSTED_SUBMISSION), proxy)
    assert (await talk.open()).startswith("554 5.7.1"), "a proxy on this machine stands for everybody"


async def test_no_header_of_a_proxy_is_believed(house: House) -> None:
    trusting(house)
    for header in (b"PROXY TCP4 192.168.7.40 192.168.7.1 1 2525\r\n", b"\r\n\r\n\x00\r\nQUIT\n!\x11\x00\x0c"):
        talk = Conversation(
            house.session(ListenerProtocol.TRUSTED_SUBMISSION), structs.replace(DEVICE, address="203.0.113.7")
        )
        await talk.open()
        assert await talk.send(header + b"EHLO x\r\n") == ""


@pytest.mark.parametrize(
    "sender",
    [
        *("bob@here.test", "alice@here.test", "scanner+x@here.test", "door@here.test", "ceo@there.test", ""),
        *("scanner@there.test", "@here.test", "postmaster@here.test"),
    ],
)
async def test_only_named_senders_are_taken(house: House, sender: str) -> None:
    await house.alias("sales@here.test", "bob@here.test")
    trusting(house, submission=Submission(send_as=(("bob@here.test", ("ceo@there.test", "@here.test")),)))
    talk = await device(house)
    reply = await talk.say(f"MAIL FROM:<{sender}>")
    assert reply[:3] in ("553", "501"), "what the account may send as does not count"
    if reply.startswith("553"):
        assert reply == f"553 5.7.1 Devices of this network may not send as {sender or '<>'}"
    if sender and sender[0] != "@":
        for content in (scan(sender), scan(more=f"Sender: {sender}\r\n"), scan(more=f"Resent-From: {sender}\r\n")):
            reply = await talk.message(SCANNER, ELSEWHERE, content=content)
            assert reply == f"553 5.7.1 bob@here.test may not send as {sender}"
    assert await house.queued() == []


async def test_case_is_no_difference_and_a_missing_author_is_the_named_sender(house: House) -> None:
    trusting(house)
    talk = await device(house)
    reply = await talk.message("Scanner@HERE.test", ELSEWHERE, content="Subject: scan\r\n\r\npage\r\n")
    assert reply.startswith("250") and b"\r\nFrom: Scanner@HERE.test\r\n" in await house.stored(trace_of(reply))


async def test_each_network_has_its_own_senders(house: House) -> None:
    trusting(house)
    talk = await device(house, "192.168.8.7")
    assert (await talk.say(f"MAIL FROM:<{SCANNER}>")).startswith("553 5.7.1")
    assert (await talk.message("door@here.test", ELSEWHERE, content=scan("door@here.test"))).startswith("250")
    [entry] = await house.queued()
    assert entry.account == "alice@here.test"


async def test_devices_have_the_limits_of_their_account_together(house: House) -> None:
    trusting(house, submission=Submission(messages_per_hour=2, recipients_per_day=3))
    for address in ("192.168.7.40", "192.168.7.41"):
        assert (await (await device(house, address)).message(SCANNER, ELSEWHERE, content=scan())).startswith("250")
    reply = await (await device(house)).message(SCANNER, ELSEWHERE, content=scan())
    assert reply == "452 4.7.1 You have reached the limit of 2 messages an hour; please try later"
    bob = await house.submission("bob@here.test")
    content = scan("bob@here.test")
    assert (await bob.message("bob@here.test", ELSEWHERE, content=content)).startswith("452"), "it is one account"
    alice = await house.submission("alice@here.test")
    assert (await alice.message("alice@here.test", ELSEWHERE, content=scan("alice@here.test"))).startswith("250")


async def test_an_account_that_is_closed_or_missing_stops_its_devices(house: House) -> None:
    trusting(house)
    talk = await device(house)
    await house.storage.directory.set_disabled("bob@here.test", True)
    assert (await talk.message(SCANNER, ELSEWHERE, content=scan())) == "525 5.7.13 This account is closed"
    await house.storage.directory.remove_account("bob@here.test")
    assert (await talk.message(SCANNER, ELSEWHERE, content=scan())).startswith("525 5.7.13")


async def test_a_device_may_use_tls_and_is_offered_no_login(house: House) -> None:
    trusting(house)
    talk = Conversation(house.session(ListenerProtocol.TRUSTED_SUBMISSION), DEVICE)
    await talk.open()
    offers = await talk.send(b"EHLO printer\r\n")
    assert "STARTTLS" in offers and "AUTH" not in offers
    assert (await talk.say("AUTH PLAIN AHgAeQ==")).startswith("502")
    assert (await talk.say("STARTTLS")).startswith("220")
    talk.session.tls_started(TLS)
    assert (await talk.say("EHLO printer")).startswith("250")
    reply = await talk.message(SCANNER, ELSEWHERE, content=scan())
    assert b"with ESMTPS (TLSv1.3" in await house.stored(trace_of(reply))


async def test_a_device_may_end_its_lines_with_lf_alone(house: House) -> None:
    trusting(house)
    talk = await device(house)
    content = (
        f"From root@printer Tue Nov 24 06:00:00 2026\nFrom: Kopierer, 2. Stock <{SCANNER}>\nSubject: für\n\npage\n\r\n"
    )
    reply = await talk.message(SCANNER, ELSEWHERE, content=content)
    assert reply.startswith("250"), reply
    stored = await house.stored(trace_of(reply))
    assert stored.count(b"\n") == stored.count(b"\r\n") and b"root@printer" not in stored
    assert f'From: "Kopierer, 2. Stock" <{SCANNER}>\r\nSubject: =?utf-8?q?f=C3=BCr?=\r\n\r\npage'.encode() in stored
    two = f"From: {SCANNER}\nFrom: ceo@there.test\n\nx\r\n"
    assert (await talk.message(SCANNER, ELSEWHERE, content=two)).startswith("554 5.6.0 There is more than one From")


async def test_no_other_way_in_knows_trusted_networks(house: House) -> None:
    trusting(house)
    for protocol, answer in ((ListenerProtocol.SMTP, "550 5.7.1"), (ListenerProtocol.SUBMISSION, "530 5.7.0")):
        talk = Conversation(house.session(protocol), DEVICE)
        await talk.open()
        await talk.say("EHLO printer")
        assert (await talk.say(f"MAIL FROM:<{SCANNER}>", f"RCPT TO:<{ELSEWHERE}>"))[:3] in (answer[:3], "503")
