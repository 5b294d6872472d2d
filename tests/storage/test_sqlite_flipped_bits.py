"""A flipped bit in a text of the database, which is no UTF-8 then, costs its own row and no other."""

import asyncio

import apsw
import pytest
from tests.storage.letters import START, Engine, Letters, claim, deferral, finished

from waypost.queue.clock_repair import pull_back
from waypost.storage import Damaged, Filter, Queue
from waypost.storage.sqlite.opening.migrate import DATABASE
from waypost.storage.sqlite.upkeep.check import StorageChecker

BOB = "bob@builder.test"
EVE = "eve@cellar.test"


def flip(engine: Engine, table: str, column: str, where: str = "true") -> None:
    """Set the top bit of a text's second octet, which is a letter, a bracket or a quote of ours."""
    connection = apsw.Connection(str(engine.data / DATABASE))
    ((before,),) = connection.execute(f"SELECT CAST({column} AS BLOB) FROM {table} WHERE {where}").fetchall()
    after = before[:1] + bytes([before[1] | 0x80]) + before[2:]
    connection.execute(f"UPDATE {table} SET {column} = CAST(? AS TEXT) WHERE {where}", (after,)).fetchall()
    connection.close()


def problems(engine: Engine) -> list[str]:
    checker = StorageChecker(engine.data)
    try:
        return [str(problem) for problem in checker.problems(lambda done, total: None)]
    finally:
        checker.close()


@pytest.fixture
def queue(letters: Letters) -> Queue:
    return letters.storage.queue


@pytest.mark.parametrize(("table", "column"), [("entry", "recipients"), ("message", "envelope")])
async def test_an_entry_is_set_aside_and_its_destination_goes_on(
    engine: Engine, letters: Letters, queue: Queue, table: str, column: str
) -> None:
    await letters.post(to=[BOB])
    flip(engine, table, column)
    good = await letters.post(to=[BOB])
    assert [entry.trace for entry in await letters.due("builder.test")] == [good]
    assert len(problems(engine)) == 1


async def test_a_destination_wakes_nobody_any_more_and_the_others_are_claimed(
    engine: Engine, letters: Letters, queue: Queue, caplog: pytest.LogCaptureFixture
) -> None:
    for recipient in (BOB, EVE):
        await letters.post(to=[recipient])
    flip(engine, "destination", "name", "name = 'builder.test'")
    assert await claim(queue, 0) == {"cellar.test"}
    assert "a destination is damaged" in caplog.text
    assert await queue.next_due(now=START) is None
    await letters.post(to=[BOB])  # brings the row back, and all that waits with it
    assert await claim(queue, 0) == {"builder.test"}
    assert len(await letters.due("builder.test")) == 2


async def test_flags_and_events_cost_nothing_but_themselves(engine: Engine, letters: Letters) -> None:
    bob = await letters.account()
    traces = [await letters.post(mailboxes=[bob.inbox]) for _ in range(2)]
    flip(engine, "mailbox_message", "flags", "uid = 1")
    flip(engine, "journal", "events", f"message = {traces[0]}")
    assert len(await letters.storage.mailboxes.messages(bob.inbox)) == 2
    for trace in traces:
        await letters.storage.journal.of(trace)
    assert len(problems(engine)) == 2


async def test_any_other_text_is_an_error_of_the_storage(engine: Engine, letters: Letters, queue: Queue) -> None:
    await letters.post(to=[BOB])
    await queue.hold([1], now=START)
    flip(engine, "entry", "destination")
    with pytest.raises(Damaged, match="storage check"):
        await queue.get(1)
    problems(engine)


async def test_a_damaged_envelope_keeps_no_other_from_its_release_or_its_clock(
    engine: Engine, letters: Letters, queue: Queue
) -> None:
    for _ in range(2):
        await letters.post(to=[BOB], next_attempt=START + 100)
    flip(engine, "message", "envelope", "id = (SELECT min(id) FROM message)")
    ids = [entry.id async for entry in queue.entries(Filter(), now=START)]
    await queue.hold(ids, now=START)
    assert await queue.unhold(ids, now=START + 200) == 2
    assert await pull_back(queue, now=START, waits=[0], longest_lease=1, sleep=asyncio.sleep) == 2


async def test_a_value_of_another_kind_ends_no_check(engine: Engine, letters: Letters) -> None:
    for _ in range(3):
        await letters.post(to=[BOB])
    connection = apsw.Connection(str(engine.data / DATABASE))
    connection.execute("UPDATE message SET offset = 'x' WHERE id = (SELECT min(id) FROM message)").fetchall()
    connection.execute("UPDATE entry SET message = 'x' WHERE id = 2").fetchall()
    connection.close()
    found = problems(engine)
    assert any("can't be checked" in problem for problem in found)


async def test_the_last_error_of_an_entry_costs_nobody_anything(engine: Engine, letters: Letters, queue: Queue) -> None:
    for _ in range(2):
        await letters.post(to=[BOB])
    first, _ = await letters.due("builder.test")
    await queue.settle([finished(first, deferral=deferral(first, START, "450 4.2.1 busy"))])
    flip(engine, "entry", "last_error", "id = 1")
    assert len(await letters.due("builder.test")) == 2
    assert "\N{REPLACEMENT CHARACTER}" in str((await queue.get(1)).last_error)
    assert (await queue.stats(now=START)).entries == 2


async def test_an_entry_of_an_unreadable_destination_stops_no_clock(
    engine: Engine, letters: Letters, queue: Queue
) -> None:
    for recipient in (BOB, EVE):
        await letters.post(to=[recipient], next_attempt=START + 1000)
    flip(engine, "entry", "destination", "id = 1")
    assert await pull_back(queue, now=START, waits=[0], longest_lease=1, sleep=asyncio.sleep) == 2
    assert await claim(queue, 0) == {"cellar.test"}
    with pytest.raises(Damaged):
        await queue.delete([1], now=START)


async def test_a_pace_and_a_source_that_can_not_be_read_hold_up_nothing(engine: Engine, letters: Letters) -> None:
    await letters.post(to=[BOB])
    queue = letters.storage.queue
    connection = apsw.Connection(str(engine.data / DATABASE))
    for damage in ("x", "[1]", "{}", b"\xff"):
        connection.execute("UPDATE destination SET pacing = ?", (damage,))
        assert await queue.pacing("builder.test") == []
        connection.execute("UPDATE entry SET source = ?", (damage,))
        assert [entry.destination for entry in await letters.due("builder.test")] == ["builder.test"]
    connection.close()
    assert await claim(queue, 1) == {"builder.test"}
