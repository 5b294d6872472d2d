"""The service stops: what is in a transaction may end, everything else is given back, untried."""

import asyncio
from collections import deque

import pytest
from tests.transport.mail_server import STALL, MailServer
from tests.transport.relay_world import SHORT, Source, World

from waypost.queue.carrier import Fate

OFFERS = ("PIPELINING",)


async def begin(world: World, server: MailServer, count: int = 5) -> tuple[asyncio.Task[object], Source]:
    """Carry entries in a task."""
    world.ways["server.test"] = server.way()
    source = Source(deque(world.entry() for _ in range(count)))
    return asyncio.create_task(world.relay.carry("server.test", source)), source


@pytest.mark.parametrize("stage", ["GREETING", "EHLO", "MAIL", "RCPT", "DATA", "CONTENT"])
async def test_a_carry_that_is_cancelled_gives_its_entries_back(stage: str) -> None:
    world = World()
    async with MailServer(*OFFERS, **{stage: STALL}) as server:
        carrying, source = await begin(world, server)
        await server.until(lambda: server.visits)
        for _ in range(20):
            await asyncio.sleep(0)
        carrying.cancel()
        with pytest.raises(asyncio.CancelledError):
            await carrying
        assert not source.in_flight and len(source.due) == 5 and not source.results
        await world.close()


async def test_a_transaction_ends_within_the_grace() -> None:
    """The dispatcher hands out nothing more, and waits: the message on its way is relayed, and the carry ends."""
    world = World(max_connections_per_destination=1)
    server = MailServer(*OFFERS)
    async with server:
        carrying, source = await begin(world, server)
        await server.until(lambda: server.taken)
        source.due.clear()
        await carrying
        await world.close()
    assert not source.in_flight
    assert {one.fate for result in source.results for one in result.results} == {Fate.RELAYED}
    assert all(visit.quit for visit in server.visits)


async def test_a_result_that_is_known_is_reported_though_the_carry_is_cancelled() -> None:
    world = World(max_connections_per_destination=1)
    async with MailServer(*OFFERS) as server:
        carrying, source = await begin(world, server)
        source.durable.clear()
        await source.reporting.wait()
        carrying.cancel()
        source.durable.set()
        with pytest.raises(asyncio.CancelledError):
            await carrying
        assert not source.in_flight
        assert len(source.results) + len(source.due) == 5
        assert len(source.results) >= 1
        await world.close()


async def test_waiting_for_a_slot_can_be_cancelled() -> None:
    world = World(max_connections=1)
    async with MailServer(*OFFERS, CONTENT=STALL) as busy, MailServer(*OFFERS) as other:
        first, first_source = await begin(world, busy, 1)
        await busy.until(lambda: busy.visits)
        world.ways["other.test"] = other.way()
        source = Source(deque([world.entry()]))
        second = asyncio.create_task(world.relay.carry("other.test", source))
        for _ in range(20):
            await asyncio.sleep(0)
        second.cancel()
        await asyncio.wait([second])
        assert not source.in_flight and len(source.due) == 1
        first.cancel()
        await asyncio.wait([first])
        assert not first_source.in_flight
        await world.close()


async def test_the_word_about_all_is_given_back_when_it_could_not_be_said() -> None:
    world = World()
    async with MailServer(*OFFERS, MAIL="421 4.3.2 busy") as server:
        world.ways["server.test"] = server.way()
        source = Source(deque(world.entry() for _ in range(6)))
        source.durable.clear()
        carrying = asyncio.create_task(world.relay.carry("server.test", source))
        await server.until(lambda: len(server.visits) == 3 and server.open == 0)
        for _ in range(20):
            await asyncio.sleep(0)
        carrying.cancel()
        source.durable.set()
        await asyncio.wait([carrying])
        assert not source.in_flight
        await world.close()


async def test_close_quits_politely_and_leaves_nothing_open() -> None:
    world = World()
    async with MailServer(*OFFERS) as one, MailServer(*OFFERS) as two:
        await world.carry(world.entry(), way=one.way(), destination="one.test")
        await world.carry(world.entry(), way=two.way(), destination="two.test")
        assert world.relay.connections == 2
        await world.close()
    assert one.visits[0].quit and two.visits[0].quit


async def test_close_does_not_wait_for_a_server_that_never_says_goodbye() -> None:
    world = World(timeouts=SHORT)
    async with MailServer(*OFFERS, QUIT=STALL) as server:
        await world.carry(world.entry(), way=server.way())
        await world.close()
        assert world.relay.connections == 0 and server.visits[0].lines[-1] == "QUIT"
