"""A damaged page of the table of destinations, or of its index: nothing waits for it, and it is made anew."""

import asyncio
import os
from collections import Counter
from pathlib import Path

import apsw
import pytest
from tests.queue.test_damaged_pages import Carrier
from tests.queue.world import HOUR, MINUTE, SECOND, START, World, make_world
from tests.storage.damage import pages_of, wreck
from tests.storage.letters import claim
from tests.storage.test_sqlite_rebuild import problems

from waypost.message.trace import TraceId, TraceIdMaker
from waypost.storage import EntryState, Expense
from waypost.storage.sqlite.opening.migrate import DATABASE
from waypost.storage.sqlite.upkeep.check import repair

DESTINATIONS = 120
LONG = "x" * 60
OWNED = f"d005.{LONG}.test"
FAILING = f"d110.{LONG}.test"


@pytest.fixture(scope="module")
def filled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A storage with a message for each of many destinations, some of it held."""
    folder = tmp_path_factory.mktemp("filled")
    asyncio.run(fill(folder))
    return folder


async def fill(folder: Path) -> None:
    world = await make_world(folder)
    await asyncio.gather(*(world.post(f"bob@d{number:03}.{LONG}.test") for number in range(DESTINATIONS)))
    await world.storage.queue.hold([1], now=START)
    await world.close()


async def empty_the_queue(world: World, sent: Counter[TraceId], fresh: TraceId) -> None:
    """Let a minute pass whenever nothing moves, until all but the held one is sent."""
    async with asyncio.timeout(100):
        while len(sent) < DESTINATIONS or not sent[fresh]:
            before = len(sent)
            for _ in range(50):
                await world.opened._writer.call(lambda connection: None)
            if len(sent) == before:
                world.clock.advance(61)


@pytest.mark.parametrize("octets", [b"\0", b"\xff"])
@pytest.mark.parametrize("which", [0, 1, -1], ids=["root", "first leaf", "last leaf"])
@pytest.mark.parametrize("name", ["destination", "destination_due"])
async def test_mail_comes_and_goes_though_any_page_of_the_destinations_is_damaged(
    folder: Path, name: str, which: int, octets: bytes
) -> None:
    pages = pages_of(folder, name)
    assert len(pages) > 2
    wreck(folder, pages[which], octets)
    world = await make_world(folder)
    world.ids = TraceIdMaker(2, world.clock.now)
    sent: Counter[TraceId] = Counter()
    world.dispatcher(Carrier(world.clock).remember(sent), owner=0)
    fresh = await world.post("neighbour@fresh.test")
    again = await world.post(f"bob@d060.{LONG}.test")
    await empty_the_queue(world, sent, fresh)
    while not sent[again]:
        world.clock.advance(61)
        await world.opened._writer.call(lambda connection: None)
    assert max(sent.values()) == 1
    (held,) = await world.waiting()
    assert held.id == 1
    await world.close()


async def test_a_destination_whose_owner_is_lost_is_free_when_its_lease_would_have_run_out(folder: Path) -> None:
    world = await make_world(folder)
    queue = world.storage.queue
    lock = world.opened.storage.queue._numbers.hold(7)  # type: ignore[attr-defined]  # a process that lives
    old = await queue.claim_destinations(7, now=START, lease=MINUTE, limit=1, wanted=[OWNED], only_wanted=True)
    assert old
    await world.close()
    wreck(folder, pages_of(folder, "destination")[1])
    world = await make_world(folder)
    queue = world.storage.queue
    claimed = await claim(queue, 0, now=START, limit=1000)
    assert claimed and OWNED not in claimed
    assert await queue.renew(old, until=START + MINUTE) == [], "its owner hears that it lost it"
    assert OWNED not in await claim(queue, 0, now=START + 59 * SECOND, limit=1000)
    assert OWNED in await claim(queue, 0, now=START + 61 * SECOND, limit=1000)
    await world.close()

    os.close(lock)


async def test_owners_and_failed_rounds_that_can_be_read_are_kept(folder: Path) -> None:
    world = await make_world(folder)
    queue = world.storage.queue
    lock = world.opened.storage.queue._numbers.hold(7)  # type: ignore[attr-defined]
    old = await queue.claim_destinations(7, now=START, lease=HOUR, limit=1, wanted=[FAILING], only_wanted=True)
    await world.close()
    wreck(folder, pages_of(folder, "destination")[1])
    world = await make_world(folder)
    queue = world.storage.queue
    claimed = await claim(queue, 0, now=START + MINUTE * 2, limit=1000)
    assert len(claimed) > 50 and FAILING not in claimed
    assert await queue.renew(old, until=START + HOUR) == old
    await world.close()

    os.close(lock)


@pytest.mark.parametrize("which", [0, 1], ids=["root", "leaf"])
@pytest.mark.parametrize("name", ["destination", "destination_due"])
async def test_a_repair_makes_the_destinations_anew_and_leaves_no_page_behind(
    folder: Path, name: str, which: int
) -> None:
    wreck(folder, pages_of(folder, name)[which])
    assert any("destination" in words for words in problems(folder))
    repair(folder, START)
    assert problems(folder) == []
    connection = apsw.Connection(str(folder / DATABASE))
    assert connection.execute("PRAGMA integrity_check").get == "ok"
    connection.close()


async def test_damage_of_another_table_leaves_the_destinations_alone(
    folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    wreck(folder, pages_of(folder, "entry")[2])
    world = await make_world(folder)
    sent: Counter[TraceId] = Counter()
    world.dispatcher(Carrier(world.clock).remember(sent), owner=0)
    world.ids = TraceIdMaker(2, world.clock.now)
    fresh = await world.post("neighbour@fresh.test")
    async with asyncio.timeout(100):
        while not sent[fresh]:
            await world.opened._writer.call(lambda connection: None)
    await world.close()
    assert not [record for record in caplog.records if "made anew" in record.getMessage()]


@pytest.mark.parametrize("name", ["set_aside", "spending", "known_network", "unflushed", "journal", "message_name"])
async def test_mail_comes_and_goes_though_a_table_is_damaged_that_holds_little(folder: Path, name: str) -> None:
    wreck(folder, pages_of(folder, name)[0])
    world = await make_world(folder)
    world.ids = TraceIdMaker(2, world.clock.now)
    sent: Counter[TraceId] = Counter()
    world.dispatcher(Carrier(world.clock).remember(sent), owner=0)
    fresh = await world.post("neighbour@fresh.test", expense=Expense("alice@example.org", 1, 9, 9, 9, 9))
    (spent, _) = await world.storage.directory.spent("alice@example.org", START)
    assert spent.messages == 1
    await empty_the_queue(world, sent, fresh)
    assert max(sent.values()) == 1
    await world.close()


@pytest.mark.parametrize(
    "name", ["set_aside", "spending", "known_network", "unflushed", "journal", "message_name", "life"]
)
async def test_a_repair_makes_a_table_anew_that_holds_little(folder: Path, name: str) -> None:
    wreck(folder, pages_of(folder, name)[0])
    assert problems(folder)
    repair(folder, START)
    assert problems(folder) == []
    world = await make_world(folder)
    states = {entry.state for entry in await world.waiting() if entry.id != 1}
    assert states == {EntryState.READY}, "it is not taken for a restore, which would hold the queue"
    await world.close()
