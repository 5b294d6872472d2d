"""Devices without a login are no open relay: whoever is not one of them gets nothing through, whatever he says."""

from collections.abc import AsyncIterator
from dataclasses import replace
from ipaddress import ip_address, ip_network
from pathlib import Path

import pytest
from tests.security.live import Live, Recorder, host

from waypost.config.settings import Listener, ListenerProtocol, Submission, TrustedNetwork

DEVICE, STRANGER = "127.0.0.5", "127.0.0.6"
SCANNER = "scanner@here.test"
SCAN = b"From: scanner@here.test\r\nSubject: scan\r\n\r\npage\r\n.\r\n"
TRUSTED = ListenerProtocol.TRUSTED_SUBMISSION


def trusting(live: Live) -> Live:
    """Let one address of loopback be a device; `waypost check` would refuse it."""
    settings = live.settings
    listeners = (*settings.listeners, Listener(TRUSTED, ip_address("127.0.0.1"), 0))
    network = TrustedNetwork((ip_network(f"{DEVICE}/32"),), "devices@here.test", (SCANNER,))
    submission = Submission(messages_per_hour=3)
    return Live(replace(settings, listeners=listeners, trusted_networks=(network,), submission=submission))


@pytest.fixture
async def there() -> AsyncIterator[Recorder]:
    async with Recorder().open() as server:
        yield server


@pytest.fixture
async def here(tmp_path: Path, there: Recorder) -> AsyncIterator[Live]:
    async with trusting(host(tmp_path, "here.test", next_hop=("there.test", there.port))) as live:
        await live.account("devices@here.test")
        await live.account("alice@here.test")
        yield live


async def test_a_device_sends_what_it_scanned_here_and_elsewhere(here: Live, there: Recorder) -> None:
    wire = await here.client(TRUSTED, source=DEVICE)
    assert (await wire.reply()).startswith("220")
    await wire.say("EHLO printer", f"MAIL FROM:<{SCANNER}>")
    for recipient in ("alice@here.test", "bob@there.test"):
        assert (await wire.say(f"RCPT TO:<{recipient}>")).startswith("250")
    assert (await wire.content(SCAN)).startswith("250")
    await wire.close()
    await here.idle()
    [message] = await here.inbox("alice@here.test")
    assert b"with ESMTP\r\n" in message and DEVICE.encode() not in message
    assert len(there.contents) == 1


@pytest.mark.parametrize("source", [STRANGER, "127.0.0.1", "127.0.0.4"])
@pytest.mark.parametrize(
    "first",
    [
        b"",
        b"PROXY TCP4 127.0.0.5 127.0.0.1 1 2525\r\n",
        b"PROXY UNKNOWN\r\n",
        b"\r\n\r\n\x00\r\nQUIT\n!\x11\x00\x0c\x7f\x00\x00\x05\x7f\x00\x00\x01\x00\x01\x09\xdd",
        b"\r\n\r\n\x00\r\nQUIT\n \x00\x00\x00",
        b"XCLIENT ADDR=127.0.0.5\r\n",
        b"XFORWARD ADDR=127.0.0.5\r\n",
        b"EHLO [127.0.0.5]\r\n",
    ],
)
async def test_a_stranger_relays_nothing_over_the_port_of_devices(
    here: Live, there: Recorder, source: str, first: bytes
) -> None:
    wire = await here.client(TRUSTED, source=source)
    try:
        await wire.send(
            first + b"EHLO x\r\nMAIL FROM:<scanner@here.test>\r\nRCPT TO:<bob@there.test>\r\nDATA\r\n" + SCAN
        )
        answers = await wire.rest()
    except ConnectionError:  # closed before all of it was sent
        answers = b"554"
    assert answers.startswith(b"554") and b"250" not in answers and b"354" not in answers
    await here.idle()
    assert there.heard == [] and await here.inbox("alice@here.test") == []


@pytest.mark.parametrize("protocol", [ListenerProtocol.SMTP, ListenerProtocol.SUBMISSION, ListenerProtocol.LMTP])
async def test_a_device_is_a_stranger_at_every_other_port(
    here: Live, there: Recorder, protocol: ListenerProtocol
) -> None:
    wire = await here.client(protocol, source=DEVICE)
    await wire.reply()
    await wire.say(f"{'LHLO' if protocol is ListenerProtocol.LMTP else 'EHLO'} printer", f"MAIL FROM:<{SCANNER}>")
    assert (await wire.say("RCPT TO:<bob@there.test>"))[:3] in ("550", "530", "503")
    await wire.close()
    await here.idle()
    assert there.heard == []


@pytest.mark.parametrize(
    ("sender", "header"),
    [
        ("", "From: scanner@here.test"),
        ("alice@here.test", "From: scanner@here.test"),
        ("ceo@there.test", "From: scanner@here.test"),
        ("devices@here.test", "From: devices@here.test"),
        (SCANNER, "From: alice@here.test"),
        (SCANNER, "From: devices@here.test"),
        (SCANNER, "From: ceo@there.test"),
        (SCANNER, "From: scanner@here.test\r\nFrom: ceo@there.test"),
        (SCANNER, "From: scanner@here.test, ceo@there.test\r\nSender: scanner@here.test"),
        (SCANNER, "From: scanner@here.test\r\nSender: ceo@there.test"),
        (SCANNER, "From: scanner@here.test\r\nResent-From: ceo@there.test"),
        (SCANNER, "From: ceo@there.test <scanner@here.test>"),
        (SCANNER, "From: Board:;"),
        (SCANNER, "From scanner@here.test\r\nFrom: ceo@there.test"),
    ],
)
async def test_a_device_that_was_taken_over_sends_as_nobody_else(
    here: Live, there: Recorder, sender: str, header: str
) -> None:
    wire = await here.client(TRUSTED, source=DEVICE)
    await wire.reply()
    reply = await wire.say("EHLO printer", f"MAIL FROM:<{sender}>")
    if reply.startswith("250"):
        assert (await wire.say("RCPT TO:<bob@there.test>")).startswith("250")
        reply = await wire.content(header.encode() + b"\r\n\r\nx\r\n.\r\n")
    assert reply[:5] in ("553 5", "554 5")
    await wire.close()
    await here.idle()
    assert there.heard == []


async def test_a_device_that_was_taken_over_floods_nobody(here: Live, there: Recorder) -> None:
    replies = []
    for _ in range(5):
        wire = await here.client(TRUSTED, source=DEVICE)
        await wire.reply()
        await wire.say("EHLO printer", f"MAIL FROM:<{SCANNER}>", "RCPT TO:<bob@there.test>")
        replies.append((await wire.content(SCAN))[:9])
        await wire.close()
    assert replies == ["250 2.0.0"] * 3 + ["452 4.7.1"] * 2
    alice = await here.submitter("alice@here.test")  # its neighbours go on
    await alice.say("MAIL FROM:<alice@here.test>", "RCPT TO:<bob@there.test>")
    assert (await alice.content(b"From: alice@here.test\r\n\r\nx\r\n.\r\n")).startswith("250")
    await alice.close()
    await here.idle()
    assert len(there.contents) == 4
