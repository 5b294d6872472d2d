"""Clients that flood a worker with commands, and a neighbour who greets, logs in and delivers beside each of them.

Nothing is measured in time: what counts is how many commands of a flood are run between two turns of the event loop,
and that everything the neighbour needs happens while the flood goes on.
"""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, replace
from ipaddress import ip_address, ip_network
from pathlib import Path
from typing import Any

import pytest
from tests.security.live import Live, Wire, changed, host

from waypost.config.settings import Listener, TrustedNetwork
from waypost.config.settings import ListenerProtocol as Protocol
from waypost.protocol.pop3 import server as pop3_server
from waypost.protocol.smtp import server as smtp_server

DEVICE = "127.0.0.5"
ALICE, BOB = "alice@here.test", "bob@here.test"
NO_LIMIT = 1_000_000_000
MOST = 128  # commands between two turns of the loop

Enter = Callable[[Live], Any]


async def plain(live: Live, protocol: Protocol, hello: str = "EHLO flood.test", source: str = "127.0.0.1") -> Wire:
    """A client that has said hello, before STARTTLS and without a login."""
    wire = await live.client(protocol, source=source)
    await wire.reply()
    if hello:
        await wire.say(hello)
    return wire


async def over_starttls(live: Live) -> Wire:
    """A client of submission after STARTTLS, without a login."""
    wire = await plain(live, Protocol.SUBMISSION)
    assert (await wire.say("STARTTLS")).startswith("220")
    await wire.start_tls()
    await wire.say("EHLO flood.test")
    return wire


async def pop3(live: Live, protocol: Protocol, *, login: bool) -> Wire:
    """A client of a maildrop, over TLS."""
    wire = await live.client(protocol, tls=protocol is Protocol.POP3S)
    await wire.line()
    if protocol is Protocol.POP3 and login:
        await wire.send(b"STLS\r\n")
        await wire.line()
        await wire.start_tls()
    if login:
        await wire.send(f"USER {ALICE}\r\nPASS curiouser and curiouser\r\n".encode())
        assert (await wire.line()).startswith("+OK") and (await wire.line()).startswith("+OK")
    return wire


@dataclass(frozen=True)
class Flood:
    """What is said again and again on a listener of this protocol, and how one gets there."""

    protocol: Protocol
    enter: Enter
    commands: bytes


RECIPIENTS = b"MAIL FROM:<x@there.test>\r\n" + b"RCPT TO:<bob@here.test>\r\n" * 900 + b"RSET\r\n"
MESSAGES = b"MAIL FROM:<x@there.test>\r\nRCPT TO:<alice@here.test>\r\nBDAT 8 LAST\r\nA: b\r\n\r\n" * 20
FLOODS = {
    "EHLO on 25": Flood(Protocol.SMTP, lambda live: plain(live, Protocol.SMTP), b"EHLO x\r\n" * 500),
    "HELO on 25": Flood(Protocol.SMTP, lambda live: plain(live, Protocol.SMTP), b"HELO x\r\n" * 500),
    "NOOP on 25": Flood(Protocol.SMTP, lambda live: plain(live, Protocol.SMTP), b"NOOP\r\n" * 500),
    "recipients on 25": Flood(Protocol.SMTP, lambda live: plain(live, Protocol.SMTP), RECIPIENTS),
    "messages on 25": Flood(Protocol.SMTP, lambda live: plain(live, Protocol.SMTP), MESSAGES),
    "chunks on 25": Flood(Protocol.SMTP, lambda live: plain(live, Protocol.SMTP), b"NOOP\r\n" + b"BDAT 0\r\n" * 500),
    "chunks of one octet on 25": Flood(
        Protocol.SMTP,
        lambda live: plain(live, Protocol.SMTP),
        b"MAIL FROM:<x@there.test>\r\nRCPT TO:<bob@here.test>\r\n" + b"BDAT 1\r\nx" * 800 + b"RSET\r\n",
    ),
    "empty lines on 25": Flood(Protocol.SMTP, lambda live: plain(live, Protocol.SMTP), b"\r\n" * 1000),
    "AUTH given up on 587": Flood(
        Protocol.SUBMISSION, lambda live: over_starttls(live), b"AUTH PLAIN\r\n*\r\nAUTH LOGIN\r\n*\r\n" * 200
    ),
    "EHLO on 587": Flood(Protocol.SUBMISSION, lambda live: plain(live, Protocol.SUBMISSION), b"EHLO x\r\n" * 500),
    "MAIL on 587": Flood(
        Protocol.SUBMISSION, lambda live: plain(live, Protocol.SUBMISSION), b"MAIL FROM:<a@here.test>\r\n" * 500
    ),
    "RSET behind a login": Flood(Protocol.SUBMISSIONS, lambda live: live.submitter(ALICE), b"RSET\r\n" * 500),
    "recipients behind a login": Flood(
        Protocol.SUBMISSIONS,
        lambda live: live.submitter(ALICE),
        b"MAIL FROM:<alice@here.test>\r\n" + b"RCPT TO:<bob@here.test>\r\n" * 900 + b"RSET\r\n",
    ),
    "recipients of a device": Flood(
        Protocol.TRUSTED_SUBMISSION,
        lambda live: plain(live, Protocol.TRUSTED_SUBMISSION, source=DEVICE),
        b"MAIL FROM:<alice@here.test>\r\n" + b"RCPT TO:<bob@here.test>\r\n" * 900 + b"RSET\r\n",
    ),
    "LHLO": Flood(Protocol.LMTP, lambda live: plain(live, Protocol.LMTP, "LHLO x"), b"LHLO x\r\n" * 500),
    "CAPA before STLS": Flood(Protocol.POP3, lambda live: pop3(live, Protocol.POP3, login=False), b"CAPA\r\n" * 500),
    "NOOP behind STLS": Flood(Protocol.POP3, lambda live: pop3(live, Protocol.POP3, login=True), b"NOOP\r\n" * 500),
    "LIST over POP3S": Flood(Protocol.POP3S, lambda live: pop3(live, Protocol.POP3S, login=True), b"LIST\r\n" * 500),
    "RETR over POP3S": Flood(Protocol.POP3S, lambda live: pop3(live, Protocol.POP3S, login=True), b"RETR 1\r\n" * 500),
    "marks over POP3S": Flood(
        Protocol.POP3S, lambda live: pop3(live, Protocol.POP3S, login=True), b"DELE 1\r\nRSET\r\n" * 250
    ),
}


def test_there_is_a_flood_for_every_protocol_that_listens() -> None:
    """Whoever adds a protocol adds its flood."""
    assert {flood.protocol for flood in FLOODS.values()} == set(Protocol)


class Turns:
    """Counts the commands that are run between two turns of the event loop."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.commands = self.most = self.now = 0
        self._counting = False
        for module in (smtp_server, pop3_server):
            monkeypatch.setattr(module, "run_command", self._counted(module.run_command))

    def _counted(self, run: Callable[..., None]) -> Callable[..., None]:
        def counted(*arguments: Any) -> None:
            self.commands += 1
            self.now += 1
            if self._counting:
                self.most = max(self.most, self.now)
            run(*arguments)

        return counted

    @contextlib.contextmanager
    def counting(self) -> Any:
        """Count; one more callback runs in each turn."""
        loop = asyncio.get_running_loop()

        def turn() -> None:
            self.now = 0
            if self._counting:
                loop.call_soon(turn)

        self._counting = True
        turn()
        try:
            yield
        finally:
            self._counting = False

    async def more(self, commands: int) -> None:
        """Return when so many more commands have been run."""
        wanted = self.commands + commands
        while self.commands < wanted:  # noqa: ASYNC110  nothing tells of it
            await asyncio.sleep(0)


@pytest.fixture
def turns(monkeypatch: pytest.MonkeyPatch) -> Turns:
    return Turns(monkeypatch)


@contextlib.asynccontextmanager
async def flooding(wire: Wire, commands: bytes) -> AsyncIterator[None]:
    """Say the same again and again, and read all answers, as fast as they come."""

    async def pour() -> None:
        with contextlib.suppress(ConnectionError):
            while True:
                wire.writer.write(commands)
                await wire.writer.drain()

    async def read() -> None:
        while await wire.reader.read(1 << 16):
            pass
        wire.writer.transport.abort()

    tasks = [asyncio.create_task(pour()), asyncio.create_task(read())]
    try:
        yield
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)


async def visit(live: Live) -> None:
    """The neighbour: greets, brings a message, logs in and submits one, and reads them."""
    before = len(await live.inbox(BOB))
    wire = await live.client()
    assert (await wire.reply()).startswith("220")
    await wire.say("EHLO neighbour.test", "MAIL FROM:<n@there.test>", f"RCPT TO:<{BOB}>")
    assert (await wire.content(b"Subject: hello\r\n\r\nhow are you\r\n.\r\n")).startswith("250")
    await wire.close()
    wire = await live.submitter(BOB)
    await wire.say(f"MAIL FROM:<{BOB}>", f"RCPT TO:<{BOB}>")
    assert (await wire.content(f"From: {BOB}\r\n\r\nto myself\r\n.\r\n".encode())).startswith("250")
    await wire.close()
    assert len(await live.inbox(BOB)) >= before + 2


@pytest.fixture
async def live(tmp_path: Path) -> AsyncIterator[Live]:
    limits = {
        "junk_commands": NO_LIMIT,
        "errors": NO_LIMIT,
        "transactions": NO_LIMIT,
        "recipients": 1000,
    }
    made = host(tmp_path, "here.test")
    listeners = made.settings.listeners
    pop3s = [listener for listener in listeners if listener.protocol is Protocol.POP3]
    devices = Listener(Protocol.TRUSTED_SUBMISSION, ip_address("127.0.0.1"), 0)
    made = changed(
        made,
        limits=limits,
        listeners=(*listeners, *map(_over_tls, pop3s), devices),
        trusted_networks=(TrustedNetwork((ip_network(f"{DEVICE}/32"),), ALICE, (ALICE,)),),
    )
    async with made:
        for address in (ALICE, BOB):
            await made.account(address)
        wire = await plain(made, Protocol.SMTP)
        await wire.say("MAIL FROM:<x@there.test>", f"RCPT TO:<{ALICE}>")
        await wire.content(b"Subject: first\r\n\r\nhello\r\n.\r\n")
        await wire.close()
        yield made


def _over_tls(listener: Listener) -> Listener:
    return replace(listener, protocol=Protocol.POP3S)


@pytest.mark.parametrize("name", FLOODS)
async def test_a_neighbour_is_served_beside_a_flood(live: Live, turns: Turns, name: str) -> None:
    flood = FLOODS[name]
    wire = await flood.enter(live)
    with turns.counting():
        async with flooding(wire, flood.commands):
            await turns.more(1000)
            await visit(live)
            await turns.more(1000)
    assert turns.most <= MOST


async def test_a_neighbour_is_served_beside_many_floods(live: Live, turns: Turns) -> None:
    async with contextlib.AsyncExitStack() as stack:
        for name in ("EHLO on 25", "recipients on 25", "EHLO on 587", "CAPA before STLS"):
            await stack.enter_async_context(flooding(await FLOODS[name].enter(live), FLOODS[name].commands))
        with turns.counting():
            await turns.more(1000)
            await visit(live)
    assert turns.most <= 4 * MOST


@pytest.mark.parametrize("name", ["EHLO on 25", "recipients on 25", "RSET behind a login", "NOOP behind STLS"])
async def test_connections_that_flood_end_when_the_worker_stops(live: Live, turns: Turns, name: str) -> None:
    wire = await FLOODS[name].enter(live)
    async with flooding(wire, FLOODS[name].commands):
        await turns.more(1000)
        await live.assembly.listening.connections.stop(0.0)
    assert len(live.assembly.listening.connections) == 0


async def test_a_worker_that_stops_ends_a_flood_between_two_of_its_transactions(live: Live, turns: Turns) -> None:
    """The grace is for those who are about to deliver a message; nobody gets it by giving up one after the other."""
    wire = await plain(live, Protocol.SMTP)
    async with flooding(wire, b"MAIL FROM:<x@there.test>\r\n" + b"RSET\r\n" * 200):
        await turns.more(1000)
        await asyncio.wait_for(live.assembly.listening.connections.stop(3600.0), 60)
    assert len(live.assembly.listening.connections) == 0
