"""Group commit: many sessions share one, and what spoils one operation spoils no other."""

import asyncio
import errno
import itertools
import os
from pathlib import Path
from typing import Any

import apsw
import pytest
from tests.storage.faults import failing, faulty_system, watched
from tests.storage.letters import HEAD, Engine, Letters, files_in, stored

from waypost.message.trace import TraceId
from waypost.storage import NewMessage, NotFound, Notice, StorageError, StorageFull, notices
from waypost.storage.sqlite import SqliteStorage
from waypost.storage.sqlite.commit import octets as octets_module
from waypost.storage.sqlite.segments import segments as segments_module
from waypost.storage.sqlite.segments.segments import OpenSegment

LARGE = bytes(range(256)) * 1024
BOB = "bob@builder.test"


async def accept_all(letters: Letters, messages: list[NewMessage]) -> list[Any]:
    """Accept messages at the same time; returns trace ids and errors."""

    async def accept(message: NewMessage) -> TraceId:
        await letters.storage.spool.accept(message)
        return message.trace

    return await asyncio.gather(*map(accept, messages), return_exceptions=True)


async def test_concurrent_acceptances_share_commits(opened: SqliteStorage, letters: Letters) -> None:
    messages = [await letters.letter(b"%d" % number, to=[BOB]) for number in range(300)]
    before = opened.commits
    assert await accept_all(letters, messages) == [message.trace for message in messages]
    assert opened.commits - before < 60
    for number, message in enumerate(messages):
        assert await stored(letters.storage.spool, message.trace) == HEAD + b"%d" % number


@pytest.mark.parametrize("octets", [b"small", LARGE], ids=["in memory", "on disk"])
async def test_one_poisonous_operation_hurts_no_other(
    engine: Engine, opened: SqliteStorage, letters: Letters, octets: bytes
) -> None:
    await letters.post(b"first")  # the open segment is there
    good = [await letters.letter(octets + b"%d" % number, to=[BOB]) for number in range(9)]
    poison = await letters.letter(octets, mailboxes=[4711])
    size = sum((engine.data / "segments" / name).stat().st_size for name in files_in(engine.data))
    before = opened.commits
    answers = await accept_all(letters, [*good[:5], poison, *good[5:]])
    for message in (*good, poison):
        message.body.discard()
    assert isinstance(answers[5], NotFound)
    assert answers[:5] + answers[6:] == [message.trace for message in good]
    assert opened.commits - before < 9
    for number, message in enumerate(good):
        assert await stored(letters.storage.spool, message.trace) == HEAD + octets + b"%d" % number
    await opened.maintain()
    grown = sum((engine.data / "segments" / name).stat().st_size for name in files_in(engine.data)) - size
    assert grown < 11 * (len(HEAD) + len(octets) + 100)  # nothing was written twice


async def test_a_large_body_that_cannot_be_made_durable_hurts_no_other(engine: Engine, letters: Letters) -> None:
    await letters.post(b"first", to=[BOB])
    small = await letters.letter(b"small", to=[BOB])
    large = [await letters.letter(LARGE, to=[BOB]) for _ in range(2)]
    with failing("fdatasync", times=1):
        answers = await accept_all(letters, [large[0], small, large[1]])
    # Both large bodies are flushed at the same time, in threads: either may meet the failure.
    failed, whole = large if isinstance(answers[0], StorageError) else reversed(large)
    assert isinstance(answers[2 * large.index(failed)], StorageError)
    assert "durable" in str(answers[2 * large.index(failed)])
    assert answers[1] == small.trace and answers[2 * large.index(whole)] == whole.trace
    # A second fdatasync would prove nothing: the body is of no use any more.
    with pytest.raises(StorageError, match="durable"):
        await letters.storage.spool.accept(failed)
    for message in large:
        message.body.discard()
    assert await stored(letters.storage.spool, whole.trace) == HEAD + LARGE
    assert not [name for name in files_in(engine.data) if name.startswith("arriving")]


async def test_a_large_body_is_flushed_while_it_arrives_so_that_its_end_leaves_little_to_write(
    letters: Letters, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Large messages that end together would make every other commit wait for the disk."""
    piece, flushed = b"x" * 1022 + b"\r\n", [0]
    real = os.fdatasync

    def flush(fd: int) -> None:
        if Path(f"/proc/self/fd/{fd}").readlink().name.startswith("arriving-"):
            flushed.append(os.fstat(fd).st_size)
        real(fd)

    monkeypatch.setattr(os, "fdatasync", flush)
    message = await letters.letter(b"", to=[BOB])
    for _ in range(16 << 10):
        await message.body.write(piece)
    assert message.body.size == 16 << 20
    assert flushed[-1] > 12 << 20
    await letters.storage.spool.accept(message)
    message.body.discard()
    assert len(flushed) > 4
    assert max(after - before for before, after in itertools.pairwise(flushed)) < 5 << 20
    assert await stored(letters.storage.spool, message.trace) == HEAD + piece * (16 << 10)


async def test_a_body_that_the_disk_fails_while_it_arrives_is_refused_and_leaves_nothing(
    engine: Engine, letters: Letters
) -> None:
    message = await letters.letter(b"", to=[BOB])
    with failing("fdatasync", times=1), pytest.raises(StorageError, match="durable"):
        for _ in range(9):
            await message.body.write(b"x" * (1 << 20))
    with pytest.raises(StorageError, match="durable"):
        await letters.storage.spool.accept(message)
    message.body.discard()
    assert not [name for name in files_in(engine.data) if name.startswith("arriving")]


async def test_after_a_failed_fdatasync_the_segment_is_never_appended_to_again(
    engine: Engine, opened: SqliteStorage, letters: Letters, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(octets_module, "_FEW", 0)
    first = await letters.post(b"first", to=[BOB])
    with failing("fdatasync", times=1), pytest.raises(StorageError, match="durable"):
        await letters.post(b"second", to=[BOB])
    third = await letters.post(b"third", to=[BOB])
    one, two = files_in(engine.data)
    assert b"third" not in (engine.data / "segments" / one).read_bytes()
    assert b"third" in (engine.data / "segments" / two).read_bytes()
    assert await stored(letters.storage.spool, first) == HEAD + b"first"
    assert await stored(letters.storage.spool, third) == HEAD + b"third"


async def test_after_a_short_write_the_segment_is_cut_back_and_used_again(engine: Engine, letters: Letters) -> None:
    await letters.post(b"first", to=[BOB])
    (name,) = files_in(engine.data)
    size = (engine.data / "segments" / name).stat().st_size
    with failing("writev", errno.ENOSPC, times=1), pytest.raises(StorageFull):
        await letters.post(b"second", to=[BOB])
    assert (engine.data / "segments" / name).stat().st_size == size
    third = await letters.post(b"third", to=[BOB])
    assert files_in(engine.data) == [name]
    assert await stored(letters.storage.spool, third) == HEAD + b"third"


async def test_a_segment_that_cannot_be_cut_back_is_left(engine: Engine, letters: Letters) -> None:
    await letters.post(b"first", to=[BOB])
    with failing("writev", errno.EIO, times=1), failing("ftruncate"), pytest.raises(StorageError):
        await letters.post(b"second", to=[BOB])
    await letters.post(b"third", to=[BOB])
    assert len(files_in(engine.data)) == 2


async def test_where_a_whole_group_has_no_room_some_of_it_may_have(letters: Letters) -> None:
    messages = [await letters.letter(b"%d" % number, to=[BOB]) for number in range(3)]
    await letters.post(b"first")
    with failing("writev", errno.ENOSPC, times=2):  # the group, and the first of it alone
        answers = await accept_all(letters, messages)
    assert isinstance(answers[0], StorageFull)
    assert answers[1:] == [message.trace for message in messages[1:]]


async def test_no_more_descriptors_is_an_error_of_the_storage_that_passes(letters: Letters) -> None:
    with failing("open", errno.EMFILE), pytest.raises(StorageError, match="Too many open files"):
        await letters.post(b"first", to=[BOB])
    await letters.post(b"second", to=[BOB])


@pytest.mark.parametrize(
    ("error", "kind"), [(apsw.IOError, StorageError), (apsw.FullError, StorageFull)], ids=["EIO", "full"]
)
@pytest.mark.parametrize("deed", ["sync", "write"])
@pytest.mark.parametrize("octets", [b"small", LARGE], ids=["in memory", "on disk"])
async def test_a_database_that_fails_takes_nothing_in_and_recovers(
    engine: Engine, deed: str, error: type[apsw.Error], kind: type[StorageError], octets: bytes
) -> None:
    with faulty_system() as system:
        opened = await engine.open()
        letters = Letters(opened.storage, engine.clock)
        first = await letters.post(octets, to=[BOB])
        system.broken[deed] = error
        for _ in range(3):
            with pytest.raises(kind):
                await letters.post(octets, to=[BOB])
        assert len(await letters.due("builder.test")) == 1
        system.broken.clear()
        last = await letters.post(octets, to=[BOB])
        assert [entry.trace for entry in await letters.due("builder.test")] == [first, last]
        assert await stored(letters.storage.spool, last) == HEAD + octets
        await opened.maintain(smallest=0)
        assert await stored(letters.storage.spool, first) == HEAD + octets
        await engine.close()


async def test_a_bug_in_one_operation_is_told_to_its_caller_alone(opened: SqliteStorage, letters: Letters) -> None:
    def bug(connection: apsw.Connection) -> None:
        raise ZeroDivisionError

    answers = await asyncio.gather(
        letters.post(b"one", to=[BOB]), opened._writer.call(bug), letters.post(b"two", to=[BOB]), return_exceptions=True
    )
    assert isinstance(answers[1], ZeroDivisionError)
    assert len(await letters.due("builder.test")) == 2


async def test_nobody_waits_for_a_writer_that_died(
    opened: SqliteStorage, letters: Letters, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def die(group: object) -> None:
        raise MemoryError

    messages = [await letters.letter(b"one", to=[BOB]) for _ in range(3)]
    monkeypatch.setattr(opened._writer, "_commit_group", die)
    for answer in await accept_all(letters, messages):
        assert isinstance(answer, StorageError)
    with pytest.raises(StorageError, match="closed"):
        await letters.post(b"two", to=[BOB])
    assert "the storage's writer ended" in caplog.text


async def test_two_processes_write_in_turn(engine: Engine, opened: SqliteStorage, letters: Letters) -> None:
    other = Letters((await engine.open(worker=1)).storage, engine.clock, maker=1)
    traces = await asyncio.gather(
        *(writer.post(b"%d" % number, to=[BOB]) for number in range(100) for writer in (letters, other))
    )
    assert {entry.trace for entry in await letters.due("builder.test", limit=999)} == set(traces)
    assert len(files_in(engine.data)) == 2  # each has its own open segment


async def test_a_full_segment_is_sealed_and_the_next_begun(engine: Engine) -> None:
    opened = await engine.open(segment_size=1000)
    letters = Letters(opened.storage, engine.clock)
    traces = [await letters.post(b"x" * 400, to=[BOB]) for _ in range(6)]
    assert len(files_in(engine.data)) == 2
    for trace in traces:
        assert await stored(letters.storage.spool, trace) == HEAD + b"x" * 400


def test_a_segment_is_never_written_over_an_older_one(tmp_path: Any) -> None:
    OpenSegment(tmp_path, 1).close()
    with pytest.raises(StorageError, match="could not be made"):
        OpenSegment(tmp_path, 1)


@pytest.mark.parametrize("octets", [b"small", LARGE], ids=["in memory", "on disk"])
async def test_a_disk_that_turns_read_only_takes_nothing_in_and_recovers(
    engine: Engine, opened: SqliteStorage, letters: Letters, octets: bytes
) -> None:
    """As after an error of the disk, when the kernel refuses whatever would change it."""
    first = await letters.post(octets, to=[BOB])
    with failing("writev", errno.EROFS), failing("pwrite", errno.EROFS):
        for _ in range(3):
            with pytest.raises(StorageFull, match="Read-only"):
                await letters.post(octets, to=[BOB])
    last = await letters.post(octets, to=[BOB])
    assert [entry.trace for entry in await letters.due("builder.test")] == [first, last]


@pytest.mark.parametrize(
    ("octets", "few", "expected"),
    [
        (b"small", 1 << 16, ["writev", "database write", "database sync", "answer"]),
        (b"small", 0, ["writev", "fdatasync", "database write", "database sync", "answer"]),
        (LARGE, 1 << 16, ["pwrite", "fdatasync", "rename", "fsync", "database write", "database sync", "answer"]),
    ],
    ids=["with a copy in the database", "in memory", "on disk"],
)
async def test_octets_are_durable_with_or_before_rows_and_rows_before_the_answer(
    engine: Engine, octets: bytes, few: int, expected: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(octets_module, "_FEW", few)
    with faulty_system() as system:
        letters = Letters((await engine.open()).storage, engine.clock)
        await letters.post(b"first", to=[BOB])
        await letters.post(LARGE, to=[BOB])
        message = await letters.letter(octets, to=[BOB])
        system.log.clear()
        with watched(system.log, "writev", "pwrite", "fdatasync", "fsync", "rename"):
            await letters.storage.spool.accept(message)
        system.log.append("answer")
        message.body.discard()
        await engine.close()
    log = system.log[: system.log.index("answer") + 1]
    # A number for the large one takes a commit of its own, between its octets and its name.
    if "rename" in log:
        assert log.index("fdatasync") < log.index("rename")
        del log[log.index("fdatasync") + 1 : log.index("rename")]
    assert [deed for position, deed in enumerate(log) if position == 0 or deed != log[position - 1]] == expected


async def test_a_fault_in_telling_others_keeps_no_later_commit(
    opened: SqliteStorage, letters: Letters, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(notice: object) -> None:
        raise RuntimeError("a fault of ours")

    told: list[object] = []
    asyncio.get_running_loop().set_exception_handler(lambda loop, context: told.append(context["exception"]))
    monkeypatch.setattr(opened._writer, "_publish", fail)
    traces = [await letters.post(octets, to=[BOB]) for octets in (b"one", b"two")]
    await asyncio.sleep(0)
    assert [await stored(letters.storage.spool, trace) for trace in traces] == [HEAD + b"one", HEAD + b"two"]
    assert told and all(isinstance(fault, RuntimeError) for fault in told)


async def test_without_memory_in_a_short_write_the_segment_is_cut_back(
    letters: Letters, monkeypatch: pytest.MonkeyPatch
) -> None:
    await letters.post(b"first", to=[BOB])

    def no_memory(data: bytes) -> memoryview:
        raise MemoryError

    writev = os.writev
    with monkeypatch.context() as short:
        short.setattr(os, "writev", lambda fd, parts: writev(fd, [b"".join(parts)[:50]]))
        short.setattr(segments_module, "memoryview", no_memory, raising=False)
        with pytest.raises(StorageError, match="memory"):
            await letters.post(b"second", to=[BOB])
    third = await letters.post(b"third", to=[BOB])
    assert await stored(letters.storage.spool, third) == HEAD + b"third"


async def test_a_file_of_octets_that_cannot_be_closed_leaves_nobody_waiting(
    letters: Letters, monkeypatch: pytest.MonkeyPatch
) -> None:
    messages = [await letters.letter(octets, to=[BOB]) for octets in (b"z" * 300_000, b"small")]
    real = os.close

    def close(fd: int) -> None:
        name = Path(f"/proc/self/fd/{fd}").readlink().name
        real(fd)
        if name.endswith(".seg"):
            raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr(os, "close", close)
    assert await accept_all(letters, messages) == [message.trace for message in messages]
    monkeypatch.undo()


async def test_a_fault_in_one_operations_notices_leaves_nobody_waiting(
    letters: Letters, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    messages = [await letters.letter(b"%d" % number, to=[BOB]) for number in range(3)]
    real = notices.of_message

    def of_message(message: NewMessage) -> list[Notice]:
        if message is messages[0]:
            raise RuntimeError("a fault of ours")
        return real(message)

    monkeypatch.setattr(notices, "of_message", of_message)
    assert await accept_all(letters, messages) == [message.trace for message in messages]
    assert "could not be told to all" in caplog.text


async def test_a_file_stays_when_its_commit_may_come_to_light_though_the_disk_is_full(
    engine: Engine, opened: SqliteStorage, letters: Letters, monkeypatch: pytest.MonkeyPatch
) -> None:
    class IndexTooSmall(apsw.IOError):  # what SQLite says when the commit is in the log, but not in the log's index
        extendedresult = apsw.SQLITE_IOERR_SHMSIZE

    def fail(connection: apsw.Connection) -> None:
        raise IndexTooSmall("disk I/O error")

    with monkeypatch.context() as broken:
        broken.setattr(opened._writer._copies, "stage", fail)
        with pytest.raises(StorageFull):
            await letters.post(b"x" * 300_000, to=[BOB])
    assert len(files_in(engine.data)) == 1, "its row may be there after a crash"
    with monkeypatch.context() as broken:
        broken.setattr(opened._writer._copies, "stage", fail_for_room)
        with pytest.raises(StorageFull):
            await letters.post(b"x" * 300_000, to=[BOB])
    assert len(files_in(engine.data)) == 1, "of a commit that was not written whole, nothing stays"
    await opened.maintain()
    assert files_in(engine.data) == []


def fail_for_room(connection: apsw.Connection) -> None:
    raise apsw.FullError("database or disk is full")
