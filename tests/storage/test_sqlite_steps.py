"""Large deeds go in small steps: no commit changes much, and others write between them."""

from collections.abc import Awaitable, Callable

import apsw
import pytest
from tests.storage.letters import LEASE, START, Engine, Letters

from waypost.storage import Filter, Queue
from waypost.storage.sqlite import SqliteStorage
from waypost.storage.sqlite.changes import AT_ONCE
from waypost.storage.sqlite.migrate import DATABASE

ENTRIES = 1000
BOB = "bob@builder.test"


@pytest.fixture
async def ids(engine: Engine, letters: Letters) -> list[int]:
    """A thousand entries of one message."""
    await letters.post(to=[BOB], next_attempt=START + LEASE)
    database = apsw.Connection(str(engine.data / DATABASE))
    sql = """WITH RECURSIVE n (i) AS (SELECT 2 UNION ALL SELECT i + 1 FROM n WHERE i < ?)
             INSERT INTO entry (message, destination, recipients, queued_at, next_attempt)
             SELECT message, destination, recipients, queued_at, next_attempt FROM entry, n"""
    database.execute(sql, (ENTRIES,)).fetchall()
    database.execute("UPDATE message SET refs = ?", (ENTRIES,)).fetchall()
    database.close()
    return [entry.id async for entry in letters.storage.queue.entries(Filter(), now=START)]


class Watch:
    """Counts the rows that each commit changes."""

    def __init__(self, opened: SqliteStorage) -> None:
        self.commits: list[int] = []
        connection = opened._writer._connection
        before = connection.total_changes()

        def committing() -> bool:
            nonlocal before
            now = connection.total_changes()
            self.commits.append(now - before)
            before = now
            return False

        connection.set_commit_hook(committing)


@pytest.mark.parametrize("deed", ["retry", "hold", "unhold", "delete", "clock_stepped"])
async def test_what_concerns_many_entries_goes_in_steps_with_others_between(
    opened: SqliteStorage, letters: Letters, ids: list[int], deed: str
) -> None:
    queue: Queue = letters.storage.queue
    if deed == "unhold":
        await queue.hold(ids, now=START)
    deeds: dict[str, Callable[[], Awaitable[int]]] = {
        "retry": lambda: queue.retry(ids, now=START),
        "hold": lambda: queue.hold(ids, now=START),
        "unhold": lambda: queue.unhold(ids, now=START),
        "delete": lambda: queue.delete(ids, now=START),
        "clock_stepped": lambda: queue.clock_stepped(now=START, waits=[0], longest_lease=LEASE),
    }
    watch = Watch(opened)
    assert await deeds[deed]() == ENTRIES
    assert sum(watch.commits) >= ENTRIES
    assert max(watch.commits) <= 3 * AT_ONCE, "an entry, its event, and little more"


async def test_the_clock_is_repaired_by_reading_where_nothing_is_wrong(
    opened: SqliteStorage, letters: Letters, ids: list[int]
) -> None:
    watch = Watch(opened)
    assert await letters.storage.queue.clock_stepped(now=START, waits=[LEASE], longest_lease=LEASE) == 0
    assert sum(watch.commits) == 0


async def test_the_figures_are_of_one_moment(engine: Engine, letters: Letters, ids: list[int]) -> None:
    reading = engine.opened[0]._reading
    database = apsw.Connection(str(engine.data / DATABASE))
    ask, asked = type(reading)._ask, 0

    class Meddling(type(reading)):  # type: ignore[misc]
        """Deletes an entry after each question."""

        def _ask(self, sql: str, *arguments: object) -> object:
            nonlocal asked
            asked += 1
            answer = ask(self, sql, *arguments)
            database.execute("DELETE FROM entry WHERE id <= ?", (asked * 200,)).fetchall()
            return answer

    listing = letters.storage.queue._listing  # type: ignore[attr-defined]
    listing._reading = Meddling(reading._connection)
    stats = await letters.storage.queue.stats(now=START)
    database.close()
    (largest,) = stats.largest
    assert asked > 5
    assert stats.entries == stats.largest[0].entries == 800, "what was there at the first question"
    assert (largest.oldest, stats.oldest) == (START, START)
