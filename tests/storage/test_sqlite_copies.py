"""Copies of octets in the database: what a power loss takes from a segment is there, and goes when it isn't needed."""

import errno
import os
import shutil
from pathlib import Path

import apsw
import pytest
from tests.storage.faults import failing, faulty_system
from tests.storage.letters import HEAD, Engine, Letters, files_in, finished, stored
from tests.storage.test_sqlite_group_commit import accept_all

from waypost.message.trace import TraceId
from waypost.storage import Filter, StorageError, StorageFull
from waypost.storage.sqlite import SqliteStorage
from waypost.storage.sqlite.commit import octets as octets_module
from waypost.storage.sqlite.opening.migrate import DATABASE
from waypost.storage.sqlite.upkeep.check import StorageChecker

BOB = "bob@builder.test"


def copies_in(data: Path) -> int:
    """Return how many copies a database has, as another process sees it."""
    connection = apsw.Connection(str(data / DATABASE))
    try:
        return int(connection.execute("SELECT count(*) FROM unflushed").get)
    finally:
        connection.close()


Flushed = dict[str, int]


@pytest.fixture
def flushed(monkeypatch: pytest.MonkeyPatch) -> Flushed:
    """How many octets of each segment are on the disk."""
    sizes: Flushed = {}
    fdatasync = os.fdatasync

    def flush(fd: int) -> None:
        fdatasync(fd)
        sizes[Path(f"/proc/self/fd/{fd}").readlink().name] = os.fstat(fd).st_size

    monkeypatch.setattr(os, "fdatasync", flush)
    return sizes


def as_after_a_power_loss(engine: Engine, to: Path, flushed: Flushed | None = None) -> Engine:
    """Return an engine on what a disk may hold when the power is lost now: the database, and what was flushed of
    segments, or nothing.
    """
    shutil.copytree(engine.data, to)
    (to / f"{DATABASE}-shm").unlink(missing_ok=True)
    for name in files_in(to):
        os.truncate(to / "segments" / name, (flushed or {}).get(name, 0))
    return Engine(engine.name, to, engine.clock)


async def whole(engine: Engine, messages: dict[TraceId, bytes]) -> None:
    """Open a storage again, and find every message in it."""
    opened = await engine.open()
    for trace, octets in messages.items():
        assert await stored(opened.storage.spool, trace) == HEAD + octets
    await opened.maintain()
    checker = StorageChecker(engine.data)
    assert list(checker.problems(lambda done, total: None)) == []
    checker.close()
    await engine.close()
    assert copies_in(engine.data) == 0


async def post_all(letters: Letters, count: int, size: int = 1000) -> dict[TraceId, bytes]:
    octets = [b"%04d" % number * (size // 4) for number in range(count)]
    return {await letters.post(each, to=[BOB]): each for each in octets}


@pytest.mark.parametrize("lost", ["octets", "names"])
async def test_what_a_power_loss_takes_from_a_segment_is_written_back(
    engine: Engine, letters: Letters, tmp_path: Path, lost: str
) -> None:
    messages = await post_all(letters, 20)
    after = as_after_a_power_loss(engine, tmp_path / "after")
    if lost == "names":
        for name in files_in(after.data):
            (after.data / "segments" / name).unlink()
    await whole(after, messages)


async def test_messages_that_share_a_commit_share_a_copy(engine: Engine, letters: Letters, tmp_path: Path) -> None:
    await letters.post(b"first", to=[BOB])
    wanted = [await letters.letter(b"%d" % number, to=[BOB]) for number in range(30)]
    poison = await letters.letter(b"poison", mailboxes=[4711])
    before = copies_in(engine.data)
    answers = await accept_all(letters, [*wanted[:10], poison, *wanted[10:]])
    assert isinstance(answers[10], StorageError)
    assert copies_in(engine.data) - before <= 2  # in halves, since one message spoiled the whole
    after = as_after_a_power_loss(engine, tmp_path / "after")
    await whole(after, {message.trace: b"%d" % number for number, message in enumerate(wanted)})


async def test_copies_go_when_their_segment_is_flushed(
    engine: Engine, opened: SqliteStorage, letters: Letters, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(opened._writer._octets, "_most_unflushed", 10_000)
    messages: dict[TraceId, bytes] = {}
    most = 0
    for _ in range(10):
        messages |= await post_all(letters, 5)
        most = max(most, copies_in(engine.data))
    assert 5 <= most <= 10
    with failing("fdatasync"):  # and without another flush, none goes
        before = copies_in(engine.data)
        messages |= await post_all(letters, 2)
        assert copies_in(engine.data) >= before
    await engine.close()
    await whole(engine, messages)


async def test_many_octets_have_no_copy(engine: Engine, letters: Letters) -> None:
    await letters.post(b"x" * 65_535, to=[BOB])
    assert copies_in(engine.data) == 0


async def test_an_orderly_end_leaves_no_copies(engine: Engine, letters: Letters) -> None:
    messages = await post_all(letters, 3)
    assert copies_in(engine.data) == 3
    await engine.close()
    assert copies_in(engine.data) == 0
    await whole(engine, messages)


async def test_an_end_on_a_broken_disk_leaves_them_for_the_next_start(
    engine: Engine, letters: Letters, caplog: pytest.LogCaptureFixture
) -> None:
    messages = await post_all(letters, 3)
    with failing("fdatasync"):
        await engine.close()
    assert "segment not flushed" in caplog.text
    assert copies_in(engine.data) == 3
    await whole(engine, messages)


async def test_copies_stay_when_rows_cannot_be_written_at_the_end(
    engine: Engine,
    opened: SqliteStorage,
    letters: Letters,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def fail(connection: apsw.Connection) -> None:
        raise apsw.FullError("the test breaks it")

    messages = await post_all(letters, 3)
    monkeypatch.setattr(opened._writer._copies, "stage", fail)
    await engine.close()
    assert "copies of octets not removed" in caplog.text
    await whole(engine, messages)


async def test_a_process_that_was_killed_beside_others_is_cleaned_up_behind(
    engine: Engine, opened: SqliteStorage, letters: Letters
) -> None:
    other = await engine.open(worker=1)
    messages = await post_all(Letters(other.storage, engine.clock, maker=1), 5)
    mine = await post_all(letters, 5)
    octets = other._writer._octets
    assert octets._segment is not None
    octets._segment.close()  # as the kernel closes it
    path = engine.data / "segments" / f"{octets._segment.id:012}.seg"
    octets._segment = None
    os.truncate(path, 0)
    await opened.maintain()
    assert copies_in(engine.data) == 5  # those of the process that lives
    for trace, content in (messages | mine).items():
        assert await stored(opened.storage.spool, trace) == HEAD + content


async def test_a_segment_that_could_not_be_flushed_is_written_again_from_its_copies(
    engine: Engine, opened: SqliteStorage, letters: Letters, monkeypatch: pytest.MonkeyPatch
) -> None:
    messages = await post_all(letters, 5)
    (name,) = files_in(engine.data)
    monkeypatch.setattr(opened._writer._octets, "_most_unflushed", 0)
    with failing("fdatasync", times=1), pytest.raises(StorageError, match="durable"):
        await letters.post(b"refused", to=[BOB])
    os.truncate(engine.data / "segments" / name, 0)  # as when the kernel forgets what it could not write
    messages |= await post_all(letters, 1)
    assert len(files_in(engine.data)) == 2
    await opened.maintain()
    assert copies_in(engine.data) == 0
    for trace, octets in messages.items():
        assert await stored(opened.storage.spool, trace) == HEAD + octets
    assert {entry.trace for entry in await letters.due("builder.test")} == set(messages)


async def test_a_commit_that_fails_leaves_no_copy(engine: Engine, tmp_path: Path) -> None:
    with faulty_system() as system:
        letters = Letters((await engine.open()).storage, engine.clock)
        messages = await post_all(letters, 2)
        system.broken["sync"] = apsw.IOError
        for _ in range(3):
            with pytest.raises(StorageError):
                await letters.post(b"refused", to=[BOB])
        system.broken.clear()
        messages |= await post_all(letters, 2)
        assert copies_in(engine.data) == 4
        await whole(as_after_a_power_loss(engine, tmp_path / "after"), messages)
        await engine.close()


async def test_copies_of_a_segment_that_is_gone_bring_no_file_back(
    engine: Engine, letters: Letters, tmp_path: Path
) -> None:
    traces = await post_all(letters, 3)
    entries = [entry async for entry in letters.storage.queue.entries(Filter(), now=0)]
    await letters.storage.queue.settle([finished(entry) for entry in entries if entry.trace in traces])
    after = as_after_a_power_loss(engine, tmp_path / "after")
    connection = apsw.Connection(str(after.data / DATABASE))
    connection.execute("DELETE FROM segment").fetchall()
    connection.close()
    for name in files_in(after.data):
        (after.data / "segments" / name).unlink()
    await whole(after, {})
    assert files_in(after.data) == []


async def test_a_full_disk_at_the_start_keeps_nobody_from_opening_it(
    engine: Engine, letters: Letters, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    messages = await post_all(letters, 3)
    after = as_after_a_power_loss(engine, tmp_path / "after")
    with failing("pwrite", errno.ENOSPC):
        opened = await after.open()
        with pytest.raises(StorageError, match="cut short"):
            await stored(opened.storage.spool, next(iter(messages)))
    assert "octets not written back" in caplog.text and copies_in(after.data) == 3
    await opened.maintain()  # there is room again
    for trace, octets in list(messages.items())[1:]:  # the first is known to be damaged, until the next start
        assert await stored(opened.storage.spool, trace) == HEAD + octets
    await after.close()
    await whole(after, messages)


async def test_the_copies_of_another_process_are_not_taken_for_ones_own(
    engine: Engine, tmp_path: Path, flushed: Flushed, monkeypatch: pytest.MonkeyPatch
) -> None:
    one, two = [await engine.open(worker=number) for number in range(2)]
    letters = Letters(one.storage, engine.clock, maker=0)
    messages = await post_all(letters, 5)
    octets = one._writer._octets
    with monkeypatch.context() as full:
        full.setattr(octets._space, "left", lambda: 0)
        full.setattr(octets_module, "_WORTH_COMPACTING", 0)
        with pytest.raises(StorageFull):  # it lets go of its segment, and has no commit yet that removes its copies
            await letters.post(b"refused", to=[BOB])
    assert copies_in(engine.data) == 5
    await two.maintain()
    assert copies_in(engine.data) == 0
    messages |= await post_all(Letters(two.storage, engine.clock, maker=1), 5)
    messages |= await post_all(letters, 1)  # now it removes its copies, whose ids are those of others
    assert copies_in(engine.data) == 6
    await whole(as_after_a_power_loss(engine, tmp_path / "after", flushed), messages)


async def test_a_copy_of_a_segment_that_failed_stays_when_the_next_one_is_flushed(
    engine: Engine, letters: Letters, tmp_path: Path, flushed: Flushed
) -> None:
    messages = await post_all(letters, 1)
    small = await letters.letter(b"small", to=[BOB])
    large = await letters.letter(b"x" * 65_000, to=[BOB], head=HEAD * 200)
    with failing("writev", errno.ENOSPC, times=1), failing("fdatasync", times=1):
        # Both have no room, each of them has, and then the larger one can't be flushed.
        answers = await accept_all(letters, [small, large])
    assert answers[0] == small.trace and isinstance(answers[1], StorageError)
    for _ in range(2):
        more = await letters.letter(b"y" * 65_000, to=[BOB], head=HEAD * 200)
        await letters.storage.spool.accept(more)
    assert len(flushed) == 1, "the next segment"
    after = await as_after_a_power_loss(engine, tmp_path / "after", flushed).open()
    messages[small.trace] = b"small"
    for trace, octets in messages.items():
        assert await stored(after.storage.spool, trace) == HEAD + octets
    await after.close()


async def test_copies_that_cannot_be_written_back_keep_no_space_from_coming_back(
    engine: Engine, opened: SqliteStorage, letters: Letters
) -> None:
    other = await engine.open(worker=1)
    await post_all(Letters(other.storage, engine.clock, maker=1), 1)
    octets = other._writer._octets
    assert octets._segment is not None
    octets._segment.close()  # as the kernel closes it
    octets._segment = None
    large = [await letters.post(b"y" * 300_000, to=[BOB]) for _ in range(3)]
    entries = [entry async for entry in letters.storage.queue.entries(Filter(), now=0)]
    await letters.storage.queue.settle([finished(entry) for entry in entries if entry.trace in large])
    before = len(files_in(engine.data))
    with failing("pwrite", errno.ENOSPC), pytest.raises(StorageFull):
        await opened.maintain()
    assert len(files_in(engine.data)) == before - 3
