"""What every story of a flood and its neighbour needs: a worker, clients that flood without end, and the neighbour.

Nothing is measured in time. A flood has no end, so a neighbour who waited for its end would never be served. And no
turn of the event loop may do much: `Work` counts the steps of all engines between two turns.
"""

import asyncio
import base64
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from dataclasses import dataclass
from typing import Any

import pytest
from tests.security.live import PASSWORD, Live, Wire

from waypost.config.settings import ListenerProtocol as Protocol
from waypost.protocol.pop3.server import Pop3Server
from waypost.protocol.smtp.reply_reader import ReplyReader
from waypost.protocol.smtp.server import SmtpServer

ALICE, BOB, CAROL = "alice@here.test", "bob@here.test", "carol@here.test"
STRANGER = "x@there.test"
PLAIN = base64.b64encode(f"\0{BOB}\0{PASSWORD}".encode()).decode()
PATIENCE = 120.0
MOST = 300
"""Steps of engines between two turns of the loop. A session may take some forty; there are a few in each story."""


class Work:
    """Counts what the engines of this worker hand out between two turns of the loop: events, and replies of peers."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.most = 0
        self._now = 0
        self._counting = False
        for engine, name in ((SmtpServer, "next_event"), (Pop3Server, "next_event"), (ReplyReader, "next")):
            monkeypatch.setattr(engine, name, self._counted(getattr(engine, name)))

    def _counted(self, step: Callable[[Any], object]) -> Callable[[Any], object]:
        def counted(engine: object) -> object:
            self._now += 1
            return step(engine)

        return counted

    @contextlib.contextmanager
    def counting(self) -> Iterator[None]:
        """Count; one more callback runs in each turn."""
        loop = asyncio.get_running_loop()

        def turn() -> None:
            self.most = max(self.most, self._now)
            self._now = 0
            if self._counting:
                loop.call_soon(turn)

        self._counting = True
        self._now = 0
        turn()
        try:
            yield
        finally:
            self._counting = False


@dataclass
class Flood:
    """A client that does the same again and again; `rounds` is how often it has done it."""

    again: Callable[[], Awaitable[object]]
    rounds: int = 0
    over: bool = False
    """In Python 3.11 a `wait_for` that is about to return loses the word that its task is cancelled."""
    failure: BaseException | None = None

    async def run(self) -> None:
        """Go on until it is over; what fails is kept for whoever waits."""
        try:
            while not self.over:
                await self.again()
                self.rounds += 1
        except Exception as error:  # noqa: BLE001  `more` raises it
            self.failure = error

    async def more(self) -> None:
        """Return when the flood has come round once more. Raises what it failed with."""
        wanted = self.rounds + 1
        while self.rounds < wanted:
            if self.failure is not None:
                raise self.failure
            await asyncio.sleep(0.001)


@contextlib.asynccontextmanager
async def flooding(*again: Callable[[], Awaitable[object]]) -> AsyncIterator[list[Flood]]:
    """Run floods beside each other."""
    floods = [Flood(one) for one in again]
    running = [asyncio.create_task(flood.run()) for flood in floods]
    try:
        yield floods
    finally:
        for flood, task in zip(floods, running, strict=True):
            flood.over = True
            task.cancel()
        await asyncio.wait(running)


async def stands_beside(live: Live, work: Work, *again: Callable[[], Awaitable[object]]) -> None:
    """Flood; the neighbour is served meanwhile, the flood goes on, and no turn of the loop does much."""
    async with asyncio.timeout(PATIENCE):
        with work.counting():
            async with flooding(*again) as floods:
                await visit(live)
                await asyncio.gather(*(flood.more() for flood in floods))
    assert work.most <= MOST, f"one turn of the loop took {work.most} steps"


async def visit(live: Live) -> None:
    """The neighbour: greets, brings 1 KiB, logs in and submits as much, and reads both by POP3."""
    wire = await live.client(source="127.0.0.9")
    assert (await wire.reply()).startswith("220")
    await wire.say("EHLO neighbour.test")
    await _delivers(wire, "n@there.test", b"brought")
    wire = await live.client(Protocol.SUBMISSIONS, tls=True)
    await wire.reply()
    await wire.say("EHLO laptop.test")
    assert (await wire.say(f"AUTH PLAIN {PLAIN}")).startswith("235")
    await _delivers(wire, BOB, b"submitted")
    wire = await maildrop(live, BOB)
    await wire.send(b"RETR 1\r\nRETR 2\r\nQUIT\r\n")
    assert b"Subject: brought" in await lines(wire)
    assert b"Subject: submitted" in await lines(wire)
    assert (await wire.line()).startswith("+OK")
    await wire.close()


async def _delivers(wire: Wire, sender: str, subject: bytes) -> None:
    content = b"From: %s\r\nSubject: %s\r\n\r\n%s\r\n" % (sender.encode(), subject, b"x" * 1022)
    envelope = f"MAIL FROM:<{sender}>\r\nRCPT TO:<{BOB}>\r\nBDAT {len(content)} LAST\r\n"
    await wire.send(envelope.encode() + content)
    for _ in range(3):
        assert (await wire.reply()).startswith("250")
    await wire.close()


async def maildrop(live: Live, user: str) -> Wire:
    """Return a client that has logged in to its mailbox, over TLS, by its password."""
    wire = await live.client(Protocol.POP3S, tls=True)
    await wire.line()
    await wire.send(f"USER {user}\r\nPASS {PASSWORD}\r\n".encode())
    await wire.line()
    said = await wire.line()
    assert said.startswith("+OK"), said
    return wire


async def lines(wire: Wire) -> bytes:
    """Return a multi-line answer of POP3, from its +OK to its dot."""
    said = await wire.reader.readline()
    assert said.startswith(b"+OK"), said
    return said + await wire.reader.readuntil(b"\r\n.\r\n")


async def greeted(live: Live, protocol: Protocol = Protocol.SMTP) -> Wire:
    """Return a client that has said EHLO, or LHLO, without TLS and without a login."""
    wire = await live.client(protocol)
    await wire.reply()
    await wire.say("LHLO flood.test" if protocol is Protocol.LMTP else "EHLO flood.test")
    return wire


async def brings(wire: Wire, sender: str, recipients: list[str], content: bytes, *, replies: int = 1) -> str:
    """Send a message, its recipients in one go; return the last reply. In LMTP there are several `replies`."""
    said = "".join(f"RCPT TO:<{one}>\r\n" for one in recipients)
    await wire.send(f"MAIL FROM:<{sender}>\r\n{said}DATA\r\n".encode())
    for _ in range(len(recipients) + 1):
        await wire.reply()
    reply = await wire.reply()
    if not reply.startswith("354"):
        return reply
    await wire.send(content + b".\r\n")
    for _ in range(replies):
        reply = await wire.reply()
    return reply
