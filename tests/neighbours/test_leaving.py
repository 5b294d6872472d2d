"""Beside mail that leaves slowly, or in vain, or to servers that say too much, a neighbour is served."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest
from tests.dns.bombs import BOMBS
from tests.dns.servers import ScriptedServer
from tests.neighbours.frame import ALICE, MOST, STRANGER, Work, brings, flooding, greeted, stands_beside, visit
from tests.security.live import SECOND, Live
from tests.storage.letters import Letters
from tests.transport.mail_server import ENDLESS, STALL, MailServer

from waypost.config.settings import Dns, Outbound, Route
from waypost.protocol.smtp.reply_reader import MAX_WORDS
from waypost.storage import Filter

HUGE = "\r\n".join(["550-" + "\x01" * 4000] * 7 + ["550 5.1.1 no"])
LETTER = b"From: alice@here.test\r\nSubject: hello\r\n\r\nhi\r\n"


@contextlib.asynccontextmanager
async def server(opened: Callable[..., Any], **answers: str) -> AsyncIterator[tuple[Live, MailServer]]:
    """A worker whose mail for there.test goes to a server with these answers."""
    async with MailServer("PIPELINING", **answers) as there:
        routes = tuple(Route((f"{name}.test",), "[127.0.0.1]", port=there.port) for name in ("there", "elsewhere"))
        yield await opened(routes=routes, queue={"expire": 600 * SECOND}), there


async def test_a_neighbour_of_giants_that_are_refused_and_come_back(opened: Callable[..., Any], work: Work) -> None:
    """A report for each, about two hundred people and a header of thousands of fields."""
    async with server(opened, RCPT="550 5.1.1 no such user") as (live, _):
        wire = await live.submitter(ALICE)
        to = [f"x{number}@there.test" for number in range(200)]
        giant = LETTER[:45] + b"A: b\r\n" * 10_000 + b"\r\nhi\r\n"
        await stands_beside(live, work, lambda: brings(wire, ALICE, to, giant))
        await live.idle()


async def test_a_neighbour_of_huge_replies_of_servers(opened: Callable[..., Any], work: Work) -> None:
    async with server(opened, RCPT=HUGE) as (live, there):
        wire = await live.submitter(ALICE)
        to = [f"x{number}@there.test" for number in range(100)]
        await stands_beside(live, work, lambda: brings(wire, ALICE, to, LETTER))
        await live.idle()
        assert there.visits
        report = (await live.inbox(ALICE))[0]
        assert len(report) < 100 * 2 * MAX_WORDS


@pytest.mark.parametrize("stage", ["GREETING", "EHLO", "MAIL", "CONTENT"])
@pytest.mark.parametrize("answer", [STALL, ENDLESS])
async def test_a_neighbour_of_servers_that_never_end(
    opened: Callable[..., Any], work: Work, stage: str, answer: str
) -> None:
    async with server(opened, **{stage: answer}) as (live, there):
        wire = await live.submitter(ALICE)
        with work.counting():
            async with flooding(lambda: brings(wire, ALICE, ["x@there.test", "x@elsewhere.test"], LETTER)) as [flood]:
                await there.until(lambda: there.open > 0)
                await visit(live)
                await flood.more()
        assert work.most <= MOST


async def test_a_neighbour_of_a_queue_that_is_tried_again_and_again(opened: Callable[..., Any], work: Work) -> None:
    async with server(opened, RCPT="451 4.2.1 later") as (live, _):
        storage = live.assembly.storage.storage
        letters = Letters(storage, live.now, 5)
        for number in range(1000):
            await letters.post(to=[f"x{number}@there.test"])
        ids = [entry.id async for entry in storage.queue.entries(Filter(), now=live.now())]
        await stands_beside(live, work, lambda: storage.queue.retry(ids, now=live.now()))


async def test_a_neighbour_of_messages_to_a_thousand_domains(live: Live, work: Work) -> None:
    wire = await live.submitter(ALICE)
    sent = 0

    async def again() -> None:
        nonlocal sent
        sent += 1
        await brings(wire, ALICE, [f"x@d{number}-{sent}.test" for number in range(1000)], LETTER)

    await stands_beside(live, work, again)


@pytest.mark.parametrize("name", BOMBS)
async def test_a_neighbour_of_answers_of_name_servers(opened: Callable[..., Any], work: Work, name: str) -> None:
    def bomb(query: Any) -> list[bytes]:
        return [query.id.to_bytes(2, "big") + BOMBS[name][2:]]

    def cut(query: Any) -> list[bytes]:
        return [query.id.to_bytes(2, "big") + b"\x83\x80" + query.to_wire()[4:]]

    async with ScriptedServer(cut, bomb) as names:
        live = await opened(dns=Dns((names.place,), timeout=SECOND), outbound=Outbound(command_timeout=SECOND))
        wire = await live.submitter(ALICE)
        await stands_beside(live, work, lambda: brings(wire, ALICE, ["x@bomb.test"], LETTER))
        async with asyncio.timeout(60):
            await names.asked.wait()


async def test_a_neighbour_of_strangers_who_write_to_a_relayed_group(opened: Callable[..., Any], work: Work) -> None:
    async with server(opened, RCPT="550 5.1.1 no such user") as (live, _):
        await live.alias("all@here.test", *(f"x{number}@there.test" for number in range(500)))
        wire = await greeted(live)
        await stands_beside(live, work, lambda: brings(wire, STRANGER, ["all@here.test"], LETTER))
