"""Clients that do not listen: those that talk before the greeting, and those that speak another protocol (ALPACA)."""

from pathlib import Path

import pytest
from tests.security.live import SECOND, changed, host

from waypost.config.settings import ListenerProtocol

SPAM = b"EHLO x\r\nMAIL FROM:<x@far.test>\r\nRCPT TO:<alice@here.test>\r\nDATA\r\nSubject: x\r\n\r\nbuy\r\n.\r\n"
HTTP = [
    b"GET / HTTP/1.1\r\nHost: here.test\r\n\r\n",
    b"POST /submit HTTP/1.1\r\nHost: here.test:25\r\nContent-Length: 500\r\n\r\n" + SPAM,
    b"OPTIONS * HTTP/1.0\r\n\r\n" + SPAM,
    b"CONNECT here.test:25 HTTP/1.1\r\n\r\n" + SPAM,
    b"get /\r\n" + SPAM,
]
OTHERS = [
    b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + b"\0" * 500,  # a TLS handshake
    b"SSH-2.0-OpenSSH_9.2\r\n\0\0\1\x14",
    b"* OK IMAP4rev1\r\na LOGIN x y\r\n\n" + SPAM,
    b"PROXY TCP4 1.2.3.4 5.6.7.8 1 25\n" + SPAM,
]


async def test_who_talks_before_the_greeting_is_refused_and_nothing_of_it_is_run(tmp_path: Path) -> None:
    live = changed(host(tmp_path, "here.test"), reception={"greeting_delay": 60 * SECOND})
    async with live as here:
        await here.account("alice@here.test")
        wire = await here.client()
        await wire.send(SPAM)
        said = await wire.rest()  # long before the minute is over
        assert said.startswith(b"554 ") and said.count(b"\r\n") == 1
        await wire.close()
        assert await here.inbox("alice@here.test") == []


@pytest.mark.parametrize("protocol", [ListenerProtocol.SMTP, ListenerProtocol.SUBMISSION, ListenerProtocol.POP3])
@pytest.mark.parametrize("request_", HTTP)
async def test_a_browser_that_was_lured_here_is_turned_away_at_its_first_line(
    tmp_path: Path, protocol: ListenerProtocol, request_: bytes
) -> None:
    async with host(tmp_path, "here.test") as here:
        await here.account("alice@here.test")
        wire = await here.client(protocol)
        await wire.line()
        await wire.send(request_)
        said = await wire.rest()
        assert said.count(b"\r\n") == 1 and said.startswith((b"554 5.5.1", b"-ERR"))
        await wire.close()
        assert await here.inbox("alice@here.test") == []


@pytest.mark.parametrize("words", OTHERS)
async def test_what_is_no_smtp_and_ends_its_lines_otherwise_ends_the_session(tmp_path: Path, words: bytes) -> None:
    async with host(tmp_path, "here.test") as here:
        await here.account("alice@here.test")
        wire = await here.client()
        await wire.line()
        await wire.send(words)
        wire.writer.write_eof()
        assert b"354" not in await wire.rest()
        await wire.close()
        assert await here.inbox("alice@here.test") == []


async def test_commands_behind_data_that_was_refused_are_no_content(tmp_path: Path) -> None:
    """Unsynchronised pipelining: DATA is refused, and what follows is commands, each with an answer."""
    async with host(tmp_path, "here.test") as here:
        wire = await here.client()
        await wire.reply()
        await wire.send(b"EHLO x\r\nMAIL FROM:<x@far.test>\r\nRCPT TO:<nobody@here.test>\r\nDATA\r\nNOOP\r\nQUIT\r\n")
        replies = [await wire.reply() for _ in range(6)]
        assert [reply[:3] for reply in replies] == ["250", "250", "550", "554", "250", "221"]
        await wire.close()
