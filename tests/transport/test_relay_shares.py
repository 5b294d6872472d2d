"""Connections are shared, too: no submitter and no server has more than its share, and idle ones count for nobody."""

import asyncio
from collections import deque

from msgspec.structs import replace
from tests.transport.mail_server import STALL, MailServer
from tests.transport.relay_world import Source, World

from waypost.queue.carrier import CarryResult, Fate
from waypost.storage import QueueEntry
from waypost.transport.next_hops import NextHops

OFFERS = ("PIPELINING",)
MALLORY, BOB = "mallory@client.test", "bob@client.test"


def entry_of(world: World, account: str, destination: str) -> QueueEntry:
    return replace(world.entry(destination=destination), account=account)


class Carries:
    """Destinations that are carried beside each other."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.tasks: dict[str, asyncio.Task[CarryResult]] = {}
        self.sources: dict[str, Source] = {}

    def begin(self, account: str, destination: str, way: NextHops, entries: int = 1) -> asyncio.Task[CarryResult]:
        self.world.ways[destination] = way
        source = Source(deque(entry_of(self.world, account, destination) for _ in range(entries)))
        self.sources[destination] = source
        self.tasks[destination] = asyncio.create_task(self.world.relay.carry(destination, source))
        return self.tasks[destination]

    async def end(self) -> None:
        for task in self.tasks.values():
            task.cancel()
        await asyncio.gather(*self.tasks.values(), return_exceptions=True)
        for source in self.sources.values():
            assert not source.in_flight
        await self.world.close()


async def connected(servers: list[MailServer], count: int) -> None:
    """Return when so many connections stand, over all servers."""
    while sum(server.open for server in servers) < count:
        for server in servers:
            server.changed.clear()
        waiting = [asyncio.create_task(server.changed.wait()) for server in servers]
        await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
        for task in waiting:
            task.cancel()


async def test_while_the_servers_of_one_account_never_greet_mail_of_another_leaves() -> None:
    world = World(max_connections=16)
    carries = Carries(world)
    servers = [await MailServer(*OFFERS, GREETING=STALL).start() for _ in range(30)]
    async with MailServer(*OFFERS) as friendly:
        for number, server in enumerate(servers):
            carries.begin(MALLORY, f"hang{number}.test", server.way())
        await connected(servers, 7)
        for _ in range(50):
            await asyncio.sleep(0)
        assert sum(server.open for server in servers) == 7, "half of the 14 that none of the 16 is kept from"
        await carries.begin(BOB, "friends.test", friendly.way(), entries=3)
        assert [result.results[0].fate for result in carries.sources["friends.test"].results] == [Fate.RELAYED] * 3
        await carries.end()
    for server in servers:
        await server.stop()


async def test_one_server_of_many_domains_that_never_greets_leaves_connections_for_others() -> None:
    """Each of many accounts writes to a domain of its own there; who finds no connection leaves its place to others."""
    world = World(max_connections=16)
    carries = Carries(world)
    async with MailServer(*OFFERS, GREETING=STALL) as hanging, MailServer(*OFFERS) as friendly:
        for number in range(30):
            carries.begin(f"account{number}@client.test", f"hang{number}.test", hanging.way())
        await hanging.until(lambda: hanging.open == 7)
        turned_away = [task for task in carries.tasks.values() if task.done()]
        while len(turned_away) < 23:
            await asyncio.sleep(0)
            turned_away = [task for task in carries.tasks.values() if task.done()]
        assert hanging.open == 7
        comes_back = sorted(task.result().not_before for task in turned_away)
        assert comes_back[0] >= world.now + 2_000_000 and len(set(comes_back)) == 23, "one after the other"
        away = [source for name, source in carries.sources.items() if carries.tasks[name].done()]
        assert all(len(source.due) == 1 and not source.results for source in away), "no attempt was counted"
        await carries.begin("account0@client.test", "friends.test", friendly.way())
        assert len(friendly.taken) == 1
        await carries.end()


async def test_an_account_with_busy_destinations_still_reaches_a_further_one() -> None:
    """Further connections of a destination have a smaller share than the first one of another."""
    world = World(max_connections=16, max_connections_per_destination=16)
    carries = Carries(world)
    async with MailServer(*OFFERS, CONTENT=lambda *_: "250 ok") as busy, MailServer(*OFFERS) as further:
        first = carries.begin(MALLORY, "busy.test", busy.way(), entries=300)
        await busy.until(lambda: len(busy.taken) > 50)
        await carries.begin(MALLORY, "further.test", further.way())
        await first
        assert len(further.taken) == 1 and len(busy.taken) == 300
        assert busy.most_open <= 6
        await carries.end()


async def test_idle_connections_count_for_nobody() -> None:
    world = World(max_connections=4, idle=60.0)
    carries = Carries(world)
    servers = [await MailServer(*OFFERS).start() for _ in range(8)]
    for number, server in enumerate(servers):
        await carries.begin(MALLORY, f"d{number}.test", server.way())
        assert len(server.taken) == 1
    assert world.relay.connections == 4
    await carries.end()
    for server in servers:
        await server.stop()


async def test_connections_kept_for_destinations_that_answered_are_there_for_them() -> None:
    world = World(max_connections=16, idle=0.0)
    carries = Carries(world)
    servers = [await MailServer(*OFFERS, GREETING=STALL).start() for _ in range(40)]
    async with MailServer(*OFFERS) as known, MailServer(*OFFERS) as unknown:
        await carries.begin(BOB, "known.test", known.way())
        assert world.relay.answered_lately("known.test") and not world.relay.answered_lately("hang0.test")
        for number, server in enumerate(servers):
            carries.begin(f"account{number}@client.test", f"hang{number}.test", server.way())
        await connected(servers, 14)
        stranger = carries.begin("new@client.test", "unknown.test", unknown.way())
        await carries.begin(BOB, "known.test", known.way())
        assert len(known.taken) == 2 and not stranger.done() and not unknown.visits
        await carries.end()
    for server in servers:
        await server.stop()
