"""Beside messages of tens of MiB that are read, or leave, and whose reader stops in the middle, a neighbour is served;
and each arrives octet for octet when its reader goes on."""

import asyncio
import contextlib
import hashlib
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest
from tests.neighbours.frame import ALICE, CAROL, MOST, Work, brings, flooding, lines, maildrop, visit
from tests.security.live import SECOND, Live
from tests.storage.letters import Letters

from waypost.config.settings import Route

MIB = 1024 * 1024
SIZE = 32 * MIB
HEAD = b"From: alice@here.test\r\nSubject: much\r\n\r\n"
CONTENTS = {
    "lines": HEAD + (b"x" * 76 + b"\r\n") * (SIZE // 78),
    "dots": HEAD + (b"." * 76 + b"\r\n") * (SIZE // 78),
    "one line": HEAD + b"x" * SIZE + b"\r\n",
}
BARE = HEAD + (b"x" * 77 + b"\n") * (SIZE // 78)


def digest(octets: bytes) -> bytes:
    return hashlib.sha256(octets).digest()


async def stored(live: Live, content: bytes) -> None:
    storage = live.assembly.storage.storage
    account = await storage.directory.account(CAROL)
    assert account is not None
    await Letters(storage, live.now, 5).post(content, mailboxes=[account.inbox], head=b"")


@pytest.mark.parametrize("what", [*CONTENTS, "bare line feeds"])
async def test_a_neighbour_of_a_giant_whose_pop3_client_stops_reading(live: Live, work: Work, what: str) -> None:
    await stored(live, CONTENTS.get(what, BARE))
    wire = await maildrop(live, CAROL)
    wire.writer.transport.pause_reading()  # type: ignore[attr-defined]  # it has one
    await wire.send(b"RETR 1\r\n")
    with work.counting():
        await visit(live)
        wire.writer.transport.resume_reading()  # type: ignore[attr-defined]
        said = await lines(wire)
    assert work.most <= MOST
    answer, _, content = said.partition(b"\r\n")
    sent = content.removesuffix(b".\r\n").replace(b"\r\n..", b"\r\n.")
    expected = CONTENTS.get(what) or BARE.replace(b"\r\n", b"\n").replace(b"\n", b"\r\n")
    assert answer == b"+OK %d octets" % len(sent)
    assert digest(sent[sent.index(b"From: ") :]) == digest(expected)


class SlowServer:
    """A server that says 354 and reads no content before it is told to."""

    def __init__(self) -> None:
        self.asked = asyncio.Event()
        self.go_on = asyncio.Event()
        self.contents: list[bytes] = []

    @contextlib.asynccontextmanager
    async def open(self) -> AsyncIterator[int]:
        server = await asyncio.start_server(self._serve, "127.0.0.1", 0, limit=1 << 26)
        try:
            yield server.sockets[0].getsockname()[1]
        finally:
            server.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.closing(writer), contextlib.suppress(OSError, asyncio.IncompleteReadError):
            writer.write(b"220 there.test\r\n")
            while line := await reader.readuntil(b"\r\n"):
                if not line.startswith(b"DATA"):
                    writer.write(b"250 2.0.0 ok\r\n")
                    continue
                writer.transport.pause_reading()  # type: ignore[attr-defined]  # it has one
                writer.write(b"354 go\r\n")
                self.asked.set()
                await self.go_on.wait()
                writer.transport.resume_reading()  # type: ignore[attr-defined]
                self.contents.append(await reader.readuntil(b"\r\n.\r\n"))
                writer.write(b"250 2.0.0 taken\r\n")


@pytest.mark.parametrize("what", CONTENTS)
async def test_a_neighbour_of_a_giant_whose_next_server_stops_reading(
    opened: Callable[..., Any], work: Work, what: str
) -> None:
    there = SlowServer()
    async with there.open() as port:
        patient = {"data_timeout": 600 * SECOND, "allow_private_addresses": True}
        live = await opened(routes=(Route(("there.test",), "[127.0.0.1]", port=port),), outbound=patient)
        wire = await live.submitter(ALICE)
        on_the_wire = CONTENTS[what].replace(b"\r\n.", b"\r\n..")
        assert (await brings(wire, ALICE, ["x@there.test"], on_the_wire)).startswith("250")
        async with asyncio.timeout(60):
            await there.asked.wait()
        with work.counting():
            await visit(live)
            there.go_on.set()
            await live.idle()
        assert work.most <= MOST
        [left] = there.contents
        assert digest(left[left.index(b"From: ") :].removesuffix(b".\r\n")) == digest(on_the_wire)


async def test_a_neighbour_of_giants_that_are_brought_relayed_and_read_at_once(
    opened: Callable[..., Any], work: Work
) -> None:
    there = SlowServer()
    there.go_on.set()
    async with there.open() as port:
        live = await opened(routes=(Route(("there.test",), "[127.0.0.1]", port=port),))
        await stored(live, CONTENTS["lines"])
        sender, reader = await live.submitter(ALICE), await maildrop(live, CAROL)

        async def read() -> None:
            await reader.send(b"RETR 1\r\n")
            await lines(reader)

        with work.counting():
            async with flooding(lambda: brings(sender, ALICE, ["x@there.test"], CONTENTS["lines"]), read) as [
                brought,
                reading,
            ]:
                await visit(live)
                await asyncio.gather(brought.more(), reading.more())
        assert work.most <= MOST
