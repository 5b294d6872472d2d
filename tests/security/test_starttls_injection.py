"""STARTTLS and STLS: what is said in plain text is never run inside of TLS, nor believed, on either side (NO STARTTLS,
RFC 3207 section 6, RFC 2595 section 4)."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from tests.security.live import Live, Recorder, Wire, host

from waypost.config.settings import ListenerProtocol

INJECTED = ["NOOP", "EHLO evil.test", "MAIL FROM:<evil@far.test>", "MAIL FROM:<>\r\nRCPT TO:<alice@here.test>\r\nDATA"]


@pytest.fixture
async def here(tmp_path: Path) -> AsyncIterator[Live]:
    async with host(tmp_path, "here.test") as live:
        await live.account("alice@here.test")
        yield live


@pytest.mark.parametrize("injected", INJECTED)
@pytest.mark.parametrize("protocol", [ListenerProtocol.SMTP, ListenerProtocol.SUBMISSION])
async def test_a_command_behind_starttls_is_never_run(here: Live, injected: str, protocol: ListenerProtocol) -> None:
    wire = await here.client(protocol)
    await wire.reply()
    await wire.say("EHLO alice.test")
    await wire.send(b"STARTTLS\r\n" + injected.encode() + b"\r\n")
    assert (await wire.reply()).startswith("220")
    await wire.start_tls()
    await wire.send(b"NOOP\r\nQUIT\r\n")
    replies = (await wire.rest()).split(b"\r\n")[:-1]
    assert [reply[:3] for reply in replies] == [b"250", b"221"], "one answer a command that came inside TLS"


async def test_tls_forgets_hello_and_transaction(here: Live) -> None:
    wire = await here.client(ListenerProtocol.SUBMISSION)
    await wire.reply()
    await wire.say("EHLO alice.test", "STARTTLS")
    await wire.start_tls()
    assert (await wire.say("MAIL FROM:<alice@here.test>")).startswith("503"), "EHLO comes again"
    await wire.say("EHLO alice.test")
    assert (await wire.say("MAIL FROM:<alice@here.test>")).startswith("530"), "and so does the login"
    assert (await wire.say("STARTTLS")).startswith("503"), "once is enough"
    await wire.close()


async def test_a_command_behind_stls_is_never_run(here: Live) -> None:
    wire = await here.client(ListenerProtocol.POP3)
    assert (await wire.line()).startswith("+OK")
    await wire.send(b"STLS\r\nCAPA\r\nUSER alice@here.test\r\nPASS x\r\n")
    assert (await wire.line()).startswith("+OK")
    await wire.start_tls()
    await wire.send(b"QUIT\r\n")
    assert (await wire.rest()).count(b"\r\n") == 1


async def test_no_login_is_offered_or_taken_without_tls(here: Live) -> None:
    wire = await here.client(ListenerProtocol.SUBMISSION)
    await wire.reply()
    await wire.send(b"EHLO alice.test\r\n")
    offers = await _offers(wire)
    assert "STARTTLS" in offers and not any(offer.startswith("AUTH") for offer in offers)
    assert (await wire.say("AUTH PLAIN AGEAYg==")).startswith("5")
    await wire.close()
    box = await here.client(ListenerProtocol.POP3)
    await box.line()
    await box.send(b"USER alice@here.test\r\n")
    assert (await box.line()).startswith("-ERR")
    await box.close()


async def _offers(wire: Wire) -> list[str]:
    offers = []
    while (line := await wire.line())[3:4] == "-":
        offers.append(line[4:])
    return [*offers, line[4:]]


async def test_our_relay_believes_nothing_between_starttls_and_the_handshake(tmp_path: Path) -> None:
    """A man in the middle adds answers behind the 220: the session ends, and the message waits for a better one."""
    answers = {"STAR": "220 2.0.0 go\r\n250-mx.there.test\r\n250 CHUNKING\r\n250 2.1.0 ok\r\n"}
    async with (
        Recorder("STARTTLS", answers=answers).open() as there,
        host(tmp_path, "here.test", next_hop=("there.test", there.port)) as here,
    ):
        await here.account("alice@here.test")
        alice = await here.submitter("alice@here.test")
        await alice.say("MAIL FROM:<alice@here.test>", "RCPT TO:<bob@there.test>")
        assert (await alice.content(b"From: alice@here.test\r\n\r\nsecret\r\n.\r\n")).startswith("250")
        await alice.close()
        await here.idle()
        assert there.contents == [] and b"secret" not in b"".join(there.heard)
        [report] = await here.inbox("alice@here.test")
        assert b"between STARTTLS and the handshake" in report
        for heard in there.heard:
            assert heard.endswith(b"STARTTLS\r\n"), "not a word more in this session"
