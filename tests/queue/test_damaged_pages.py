"""A damaged page of the database: what it holds is set aside, nothing is sent twice, and all the rest goes out."""

import asyncio
import logging
from collections import Counter
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest
from tests.queue.world import START, ScriptedCarrier, World, make_world
from tests.storage.damage import pages_of, wreck

from waypost.journal import Event, Relayed
from waypost.message.trace import TraceId, TraceIdMaker
from waypost.queue.carrier import CarryResult, EntrySource, Fate
from waypost.queue.clock_repair import pull_back
from waypost.storage import Damaged, EntryState, Lease, Outcome
from waypost.storage.sqlite.upkeep.check import repair

MESSAGES = 1500
DESTINATIONS = 4


class Carrier(ScriptedCarrier):
    """Tells which message was sent how often."""

    def remember(self, sent: Counter[TraceId]) -> "Carrier":
        self.sent = sent
        return self

    async def carry(self, destination: str, source: EntrySource) -> CarryResult:
        while (entry := await source.take(0)) is not None:
            self.sent[entry.trace] += 1
            await source.report(self.result(entry))
        return self.parting


@pytest.fixture(scope="module")
def filled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A storage with many messages that wait."""
    folder = tmp_path_factory.mktemp("filled")
    asyncio.run(fill(folder))
    return folder


async def fill(folder: Path) -> None:
    world = await make_world(folder)
    for start in range(0, MESSAGES, 250):
        await asyncio.gather(
            *(world.post(f"bob{number}@d{number % DESTINATIONS}.test") for number in range(start, start + 250))
        )
    events = "INSERT INTO journal (message, time, events) SELECT id, 1, '[]' FROM message"
    await world.opened._writer.call(lambda connection: connection.execute(events).fetchall())
    await world.close()


def damage(folder: Path, name: str) -> None:
    """Zero one page of a table or an index, in its middle."""
    pages = pages_of(folder, name)
    assert len(pages) > 3
    wreck(folder, pages[len(pages) // 2])


async def run(folder: Path, sent: Counter[TraceId], *, owner: int, fresh: int) -> TraceId:
    """Let mail go out until nothing is due, with one more message that comes meanwhile; return that one."""
    world = await make_world(folder)
    world.ids = TraceIdMaker(2 + fresh, world.clock.now)
    carrier = Carrier(world.clock).remember(sent)
    world.dispatcher(carrier, owner=owner)
    trace = await world.post(f"neighbour@fresh{fresh}.test")
    await until_quiet(world, lambda: bool(sent[trace]))
    await world.close()
    return trace


async def until_quiet(world: World, more: Callable[[], bool]) -> None:
    """Return when nothing is due, and more is true."""
    async with asyncio.timeout(100):
        while await due(world) or not more():
            await world.opened._writer.call(lambda connection: None)


async def due(world: World) -> bool:
    """True while a destination is due, or owned."""
    found = world.opened._reading.value("SELECT 1 FROM destination WHERE owner >= 0 OR wake <= ?", (world.clock.now(),))
    return found is not None


@pytest.mark.parametrize("owner", [0, 1])
@pytest.mark.parametrize(
    "name", ["entry_of_message", "message_in_segment", "entry", "journal_of_message", "message", "entry_due"]
)
async def test_a_zeroed_page_doubles_nothing_and_stops_only_what_it_holds(
    folder: Path, name: str, owner: int, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.ERROR)
    damage(folder, name)
    sent: Counter[TraceId] = Counter()
    fresh = [await run(folder, sent, owner=owner, fresh=start) for start in range(3)]
    assert {sent[trace] for trace in fresh} == {1}, "a neighbour's mail goes out"
    assert max(sent.values()) == 1, "nothing is sent twice, over three starts"
    gone = len(sent) - 3
    if name in ("entry_of_message", "message_in_segment", "journal_of_message"):
        assert gone == MESSAGES
    elif name in ("entry", "message"):
        assert gone > MESSAGES - 70, "a page holds some dozens of rows"
    assert any(record.levelno == logging.ERROR for record in caplog.records)


async def test_what_storage_refuses_to_change_at_all_is_noted_and_held_after_the_repair(folder: Path) -> None:
    world = await make_world(folder)
    handed_out = await world.storage.queue.due(Lease("d1.test", 0), now=START, limit=MESSAGES)
    await world.close()
    damage(folder, "entry_due")
    world = await make_world(folder)
    queue = world.storage.queue
    for entry in handed_out:
        told = Event(entry.trace, START, Relayed(recipients=()))
        try:
            await queue.settle([Outcome(entry.id, entry.trace, entry.lease, events=(told,))])
        except Damaged as error:
            await queue.set_aside(
                Outcome(entry.id, entry.trace, entry.lease, events=(told,)), problem=str(error), now=START
            )
    noted = [entry for (entry,) in world.opened._reading.rows("SELECT entry FROM set_aside")]
    assert noted
    await world.close()
    repair(folder, START)
    world = await make_world(folder)
    held = [entry for entry in await world.waiting() if entry.state is EntryState.HELD]
    assert [entry.id for entry in held] == noted
    assert all(entry.last_error is not None and "set aside" in entry.last_error for entry in held)
    assert not {entry.id for entry in held} & {
        entry.id for entry in await world.storage.queue.due(Lease("d1.test", 0), now=START, limit=MESSAGES)
    }
    assert await world.storage.queue.delete(noted, now=START) == len(noted)
    await world.close()


async def test_an_operator_changes_all_but_the_damaged_entries(folder: Path) -> None:
    world = await make_world(folder)
    ids = [entry.id for entry in await world.waiting()]
    await world.close()
    damage(folder, "entry")
    world = await make_world(folder)
    queue = world.storage.queue
    changes: list[Callable[[], Awaitable[int]]] = [
        lambda: queue.retry(ids, now=START),
        lambda: queue.hold(ids, now=START),
        lambda: queue.unhold(ids, now=START),
        lambda: pull_back(queue, now=START - 1, waits=[0], longest_lease=1, sleep=asyncio.sleep),
        lambda: queue.delete(ids, now=START),
    ]
    for change in changes:
        assert MESSAGES - 250 < await change() < MESSAGES
    await world.close()


async def test_an_outcome_that_is_refused_with_its_report_is_tried_again_by_the_schedule(folder: Path) -> None:
    wreck(folder, pages_of(folder, "message_in_segment")[-1])  # where the next message's row of the index goes
    world = await make_world(folder)
    world.ids = TraceIdMaker(2, world.clock.now)
    carrier = Carrier(world.clock).remember(Counter())
    carrier.fail()
    assert carrier.fate is Fate.FAILED
    world.dispatcher(carrier, owner=0)
    await until_quiet(world, lambda: len(carrier.sent) == MESSAGES)
    assert set(carrier.sent.values()) == {1}
    waiting = await world.waiting()
    assert len(waiting) == MESSAGES
    assert {entry.attempts for entry in waiting} == {1}
    await world.close()
