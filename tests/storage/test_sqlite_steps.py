"""Large deeds go in small steps: no commit changes much, and others write between them."""

import asyncio
import itertools
import os
import threading
from collections.abc import Awaitable, Callable
from pathlib import Path

import apsw
import pytest
from tests.storage.letters import LEASE, SECOND, START, Engine, Letters, files_in, finished, stored

from waypost.queue.clock_repair import pull_back
from waypost.storage import Account, Damaged, Filter, NotFound, Queue
from waypost.storage.sqlite import SqliteStorage
from waypost.storage.sqlite import directory as directory_module
from waypost.storage.sqlite import mailboxes as mailboxes_module
from waypost.storage.sqlite.opening.migrate import DATABASE, migrate, migrations
from waypost.storage.sqlite.queue.changes import AT_ONCE
from waypost.storage.sqlite.reading import Reading
from waypost.storage.sqlite.upkeep import maintenance, shrinking

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


@pytest.mark.parametrize("deed", ["retry", "hold", "unhold", "delete", "pull_back"])
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
        "pull_back": lambda: pull_back(queue, now=START, waits=[0], longest_lease=LEASE, sleep=asyncio.sleep),
    }
    watch = Watch(opened)
    assert await deeds[deed]() == ENTRIES
    assert sum(watch.commits) >= ENTRIES
    assert max(watch.commits) <= 3 * AT_ONCE, "an entry, its event, and little more"


async def test_the_clock_is_repaired_by_reading_where_nothing_is_wrong(
    opened: SqliteStorage, letters: Letters, ids: list[int]
) -> None:
    watch = Watch(opened)
    assert (
        await pull_back(letters.storage.queue, now=START, waits=[LEASE], longest_lease=LEASE, sleep=asyncio.sleep) == 0
    )
    assert sum(watch.commits) == 0


async def test_the_figures_are_of_one_moment(engine: Engine, letters: Letters, ids: list[int]) -> None:
    database = apsw.Connection(str(engine.data / DATABASE))
    ask, asked = Reading._ask, 0

    class Meddling(Reading):
        """Deletes an entry after each question."""

        def _ask(self, sql: str, *arguments: object) -> object:
            nonlocal asked
            asked += 1
            answer = ask(self, sql, *arguments)
            database.execute("DELETE FROM entry WHERE id <= ?", (asked * 200,)).fetchall()
            return answer

    beside = engine.opened[0]._beside
    beside._reading = Meddling(await beside.run(lambda reading: reading._connection))
    stats = await letters.storage.queue.stats(now=START)
    database.close()
    (largest,) = stats.largest
    assert asked > 5
    assert stats.entries == stats.largest[0].entries == 800, "what was there at the first question"
    assert (largest.oldest, stats.oldest) == (START, START)


MESSAGES = 2200


@pytest.fixture
async def bob(engine: Engine, letters: Letters) -> Account:
    """An account with many messages."""
    bob = await letters.account()
    await letters.post(mailboxes=[bob.inbox])
    database = apsw.Connection(str(engine.data / DATABASE))
    sql = """WITH RECURSIVE n (i) AS (SELECT 2 UNION ALL SELECT i + 1 FROM n WHERE i < ?)
             INSERT INTO mailbox_message (mailbox, uid, message, head, size, internal_date, modseq, flags)
             SELECT mailbox, i, message, head, size, internal_date, modseq, flags FROM mailbox_message, n"""
    database.execute(sql, (MESSAGES,)).fetchall()
    database.execute("UPDATE message SET refs = ?", (MESSAGES,)).fetchall()
    database.execute("UPDATE mailbox SET uidnext = ?", (MESSAGES + 1,)).fetchall()
    database.execute("UPDATE account SET usage = usage * ?", (MESSAGES,)).fetchall()
    database.close()
    return bob


async def test_a_mailbox_is_emptied_in_steps_and_others_deliver_meanwhile(
    opened: SqliteStorage, letters: Letters, bob: Account
) -> None:
    eve = await letters.account("eve@builder.test")
    mailboxes = letters.storage.mailboxes
    watch = Watch(opened)
    emptying = asyncio.ensure_future(mailboxes.expunge(bob.inbox, range(1, MESSAGES + 1)))
    delivered = 0
    while not emptying.done():
        await letters.post(b"%d" % delivered, mailboxes=[eve.inbox])
        delivered += 1
    assert await emptying == MESSAGES
    assert delivered >= 3, "between the steps"
    assert max(watch.commits) <= 3 * mailboxes_module.AT_ONCE
    assert await mailboxes.messages(bob.inbox) == []
    assert await mailboxes.usage(bob.id) == 0


async def test_flags_of_many_messages_change_in_steps(opened: SqliteStorage, letters: Letters, bob: Account) -> None:
    watch = Watch(opened)
    await letters.storage.mailboxes.set_flags(bob.inbox, range(1, MESSAGES + 1), frozenset({"\\Seen"}))
    assert max(watch.commits) <= mailboxes_module.AT_ONCE + 1
    assert all(row.flags for row in await letters.storage.mailboxes.messages(bob.inbox))


async def test_an_account_with_many_messages_is_removed_in_steps(
    opened: SqliteStorage, letters: Letters, bob: Account
) -> None:
    watch = Watch(opened)
    await letters.storage.directory.remove_account(bob.address)
    assert max(watch.commits) <= 3 * mailboxes_module.AT_ONCE


async def test_small_messages_are_accepted_while_large_ones_are_flushed(
    engine: Engine, letters: Letters, monkeypatch: pytest.MonkeyPatch
) -> None:
    large = [await letters.letter(bytes(300_000), to=[BOB]) for _ in range(8)]
    gate = threading.Event()
    real, flushing = os.fdatasync, 0

    def slow(fd: int) -> None:
        nonlocal flushing
        if os.fstat(fd).st_size > 200_000:
            flushing += 1
            assert gate.wait(60)
        real(fd)

    monkeypatch.setattr(os, "fdatasync", slow)
    accepting = asyncio.gather(*(letters.storage.spool.accept(message) for message in large))
    for number in range(20):
        await letters.post(b"%d" % number, to=["neighbour@elsewhere.test"])
    assert flushing and not accepting.done()
    gate.set()
    await accepting
    assert len(await letters.due("builder.test")) == 8
    assert flushing == 8, "each is flushed once"
    for message in large:
        message.body.discard()


async def test_a_folder_of_many_segments_is_swept_a_part_at_a_time(
    engine: Engine, opened: SqliteStorage, letters: Letters, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(maintenance, "_SWEPT_AT_ONCE", 5)
    for _ in range(60):
        message = await letters.letter(bytes(100_000), to=[BOB])
        await letters.storage.spool.accept(message)
        message.body.discard()
    (engine.data / "segments/arriving-1-1").write_bytes(b"half")
    turns = 0
    sweeping = asyncio.ensure_future(opened._housekeeping.sweep())
    while not sweeping.done():
        await asyncio.sleep(0)
        turns += 1
    assert await sweeping == 1
    assert turns >= 60 / 5
    assert len(files_in(engine.data)) == 60


async def test_all_half_dead_segments_are_compacted_in_one_round(engine: Engine) -> None:
    opened = await engine.open(segment_size=4000)
    letters = Letters(opened.storage, engine.clock)
    traces = [await letters.post(b"%03d" % number * 300, to=[BOB]) for number in range(120)]
    entries = await letters.due("builder.test", limit=200)
    kept = set(traces[::5])
    await letters.storage.queue.settle([finished(entry) for entry in entries if entry.trace not in kept])
    before = len(files_in(engine.data))
    assert before > 20
    watch = Watch(opened)
    assert await opened._housekeeping.compact(smallest=0) > 60_000
    assert watch.commits
    for trace in kept:
        assert await stored(letters.storage.spool, trace)
    assert await opened._housekeeping.compact(smallest=0) == 0, "nothing was left for another round"


async def test_a_housekeeping_step_that_fails_keeps_no_other(engine: Engine, letters: Letters) -> None:
    opened = engine.opened[0]
    await letters.post(bytes(100_000), to=[BOB])
    (entry,) = await letters.due("builder.test")
    await letters.storage.queue.settle([finished(entry)])
    (engine.data / "segments/arriving-1-1").write_bytes(b"half")

    async def fail() -> int:
        raise Damaged("a page")

    opened._housekeeping.remove_empty, removing = fail, opened._housekeeping.remove_empty  # type: ignore[method-assign]
    with pytest.raises(Damaged):
        await opened.maintain()
    assert not [name for name in files_in(engine.data) if name.startswith("arriving")]
    opened._housekeeping.remove_empty = removing  # type: ignore[method-assign]
    await opened.maintain()
    assert files_in(engine.data) == []


async def test_the_database_shrinks_in_small_steps_and_keeps_some_room(
    engine: Engine, opened: SqliteStorage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shrinking, "_KEPT", 50)
    reading = opened._reading
    rows = "WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 20000) "
    fill = rows + "INSERT INTO journal (message, time, events) SELECT i, ?, hex(randomblob(100)) FROM n"
    await opened._writer.call(lambda connection: connection.execute(fill, (START,)).fetchall())
    full = reading.value("PRAGMA page_count")
    await opened._writer.call(lambda connection: connection.execute("DELETE FROM journal").fetchall())
    cut, sizes = shrinking._cut, [full]

    def watched(connection: apsw.Connection, pages: int) -> None:
        cut(connection, pages)
        sizes.append(connection.execute("PRAGMA page_count").get)

    monkeypatch.setattr(shrinking, "_cut", watched)
    await opened.maintain(now=START)
    assert reading.value("PRAGMA page_count") < full / 5
    assert reading.value("PRAGMA freelist_count") >= 50
    assert max(before - after for before, after in itertools.pairwise(sizes)) <= 2 * shrinking._AT_ONCE


async def test_a_database_that_was_made_before_can_shrink_after_its_schema_changed(tmp_path: Path) -> None:
    steps = migrations()
    connection = apsw.Connection(str(tmp_path / DATABASE))
    connection.execute(steps[0][2]).fetchall()
    connection.execute("PRAGMA user_version=1").fetchall()
    assert connection.execute("PRAGMA auto_vacuum").get == 0
    connection.close()
    migrate(tmp_path)
    connection = apsw.Connection(str(tmp_path / DATABASE))
    assert connection.execute("PRAGMA auto_vacuum").get == 2
    connection.close()


async def test_which_uids_went_is_forgotten_after_a_month_and_the_mailbox_knows_up_to_where(
    engine: Engine, opened: SqliteStorage, letters: Letters
) -> None:
    bob = await letters.account()
    for _ in range(4):
        await letters.post(mailboxes=[bob.inbox])
    await letters.storage.mailboxes.expunge(bob.inbox, [1, 2])
    engine.clock.time += 31 * 24 * 3600 * SECOND
    await letters.storage.mailboxes.expunge(bob.inbox, [3])
    await opened.maintain()
    rows = opened._reading.rows("SELECT uid, modseq FROM expunged")
    highest = (await letters.storage.mailboxes.get(bob.id)).highest_modseq
    assert rows == [(3, highest)]
    assert opened._reading.value("SELECT forgotten FROM mailbox") == highest - 1


async def test_a_large_account_is_removed_in_steps(
    letters: Letters, bob: Account, opened: SqliteStorage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(directory_module, "AT_ONCE", 300)
    watch = Watch(opened)
    await letters.storage.directory.remove_account(bob.address)
    assert max(watch.commits) <= 2 * 300 + 20
    assert await letters.storage.directory.account(bob.address) is None


async def test_mail_that_comes_while_an_account_is_removed_goes_with_it(
    letters: Letters, bob: Account, monkeypatch: pytest.MonkeyPatch
) -> None:
    directory = letters.storage.directory
    empty, late = directory._empty, []  # type: ignore[attr-defined]

    async def emptied(account: int) -> None:
        await empty(account)
        if not late:
            late.append(await letters.post(mailboxes=[bob.inbox]))

    monkeypatch.setattr(directory, "_empty", emptied)
    await directory.remove_account(bob.address)
    with pytest.raises(NotFound):
        await letters.storage.spool.open(late[0])
    with pytest.raises(NotFound):
        await letters.post(mailboxes=[bob.inbox])
