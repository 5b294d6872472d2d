"""What can wait a moment shares a commit with what can't; and an entry knows where its message is."""

import asyncio

import pytest
from tests.storage.letters import HEAD, Engine, Letters, finished, octets_of, stored

from waypost.storage import Filter, NotFound, QueueEntry, StorageError
from waypost.storage.sqlite import SqliteStorage

BOB = "bob@builder.test"


def wait_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    """What can wait does, until something else comes."""
    for name in ("_PATIENCE", "_BUSY"):
        monkeypatch.setattr(f"waypost.storage.sqlite.commit.gathering.{name}", 3600)


async def two_due(letters: Letters) -> list[QueueEntry]:
    for number in range(2):
        await letters.post(b"%d" % number, to=[BOB])
    return await letters.due("builder.test")


async def test_an_outcome_joins_the_commit_of_mail_that_comes_meanwhile(
    opened: SqliteStorage, letters: Letters, monkeypatch: pytest.MonkeyPatch
) -> None:
    wait_for_ever(monkeypatch)
    entries = await two_due(letters)
    before = opened.commits
    settling = asyncio.create_task(letters.storage.queue.settle([finished(entry) for entry in entries]))
    await asyncio.sleep(0)
    await letters.post(b"third", to=[BOB])
    await settling
    assert opened.commits == before + 1
    assert [entry.id for entry in await letters.due("builder.test")] == [entries[-1].id + 1]


async def test_an_outcome_that_nobody_joins_is_written_all_the_same(letters: Letters) -> None:
    entries = await two_due(letters)
    await letters.storage.queue.settle([finished(entry) for entry in entries])
    await asyncio.gather(*(letters.storage.queue.settle([finished(entry)]) for entry in await two_due(letters)))
    assert await letters.due("builder.test") == []


async def test_the_end_keeps_no_outcome_waiting(
    engine: Engine, letters: Letters, monkeypatch: pytest.MonkeyPatch
) -> None:
    wait_for_ever(monkeypatch)
    entries = await two_due(letters)
    settling = asyncio.gather(*(letters.storage.queue.settle([finished(entry)]) for entry in entries))
    await asyncio.sleep(0)
    await engine.close()
    await settling
    reopened = await engine.open()
    assert await reopened.storage.queue.count(Filter(), now=0) == 0


async def test_a_writer_that_died_keeps_no_outcome_waiting(
    opened: SqliteStorage, letters: Letters, monkeypatch: pytest.MonkeyPatch
) -> None:
    def die(group: object) -> None:
        raise MemoryError

    entries = await two_due(letters)
    wait_for_ever(monkeypatch)
    settling = asyncio.create_task(letters.storage.queue.settle([finished(entries[0])]))
    await asyncio.sleep(0)
    monkeypatch.setattr(opened._writer, "_commit_group", die)
    with pytest.raises(StorageError):
        await letters.post(b"third")
    with pytest.raises(StorageError):
        await settling


async def test_a_message_goes_with_the_last_of_its_entries_whether_they_end_together_or_not(letters: Letters) -> None:
    queue, spool = letters.storage.queue, letters.storage.spool
    account = await letters.account("alice@wonderland.test")
    together = await letters.post(b"together", to=[BOB, "carol@elsewhere.test"])
    apart = await letters.post(b"apart", to=[BOB, "carol@elsewhere.test"])
    kept = await letters.post(b"kept", to=[BOB], mailboxes=[account.inbox])
    entries = [entry async for entry in queue.entries(Filter(), now=0)]
    last = next(entry for entry in entries if entry.trace == apart)
    await queue.settle([finished(entry) for entry in entries if entry is not last])
    with pytest.raises(NotFound):
        await spool.open(together)
    assert await stored(spool, apart) == HEAD + b"apart"
    assert (await stored(spool, kept)).endswith(b"kept")
    await queue.settle([finished(last)])
    with pytest.raises(NotFound):
        await spool.open(apart)


async def test_an_entry_that_is_due_knows_where_its_message_is_until_that_moves(engine: Engine) -> None:
    opened = await engine.open(segment_size=2_000)
    letters = Letters(opened.storage, engine.clock)
    traces = [await letters.post(b"%02d" % number * 300, to=[BOB]) for number in range(12)]
    entries = await letters.due("builder.test")
    spool, queue = opened.storage.spool, opened.storage.queue
    for entry in entries:
        assert await octets_of(await spool.open(entry.trace, entry.hint)) == await stored(spool, entry.trace)
        assert await queue.get(entry.id) == entry
    await queue.settle([finished(entry) for entry in entries if entry.trace != traces[4]])
    assert await opened._housekeeping.compact(smallest=0) > 0
    opened.storage.spool._let_go()  # type: ignore[attr-defined]
    moved = await spool.open(traces[4], entries[4].hint)
    assert await octets_of(moved) == HEAD + b"04" * 300
