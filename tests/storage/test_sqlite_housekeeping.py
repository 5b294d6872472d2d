"""Housekeeping: the space of deleted messages comes back, leftovers go, and what is needed stays."""

import asyncio
import fcntl
import os
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import apsw
import pytest
from tests.storage.letters import HEAD, Engine, Letters, files_in, finished, stored

from waypost.message.trace import TraceId
from waypost.storage import Filter, StorageError
from waypost.storage.sqlite import SqliteStorage
from waypost.storage.sqlite.segments.arriving import ArrivingFile
from waypost.storage.sqlite.upkeep.keeping import keeping

BOB = "bob@builder.test"
LARGE = bytes(range(256)) * 1024


@pytest.fixture
async def opened(engine: Engine) -> SqliteStorage:
    return await engine.open(segment_size=20_000)


def octets_in(data: Path) -> int:
    return sum((data / "segments" / name).stat().st_size for name in files_in(data))


async def finish(letters: Letters, keep: set[TraceId]) -> None:
    """Relay whatever waits, but for some messages."""
    entries = [entry async for entry in letters.storage.queue.entries(Filter(), now=0)]
    await letters.storage.queue.settle([finished(entry) for entry in entries if entry.trace not in keep])


@pytest.fixture
async def posted(letters: Letters) -> dict[TraceId, bytes]:
    """A hundred messages of 1,000 octets, in several segments."""
    return {await post(letters, octets): octets for octets in (b"%03d" % number * 333 for number in range(100))}


async def post(letters: Letters, octets: bytes) -> TraceId:
    return await letters.post(octets, to=[BOB])


async def test_segments_that_nobody_needs_are_removed(
    engine: Engine, opened: SqliteStorage, letters: Letters, posted: dict[TraceId, bytes]
) -> None:
    before = len(files_in(engine.data))
    await finish(letters, set())
    await opened.maintain()
    assert before > 4 and len(files_in(engine.data)) == 1  # the open one


async def test_a_segment_of_tiny_messages_is_copied_once_and_not_for_ever(
    engine: Engine, opened: SqliteStorage, letters: Letters, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = 0
    begin = ArrivingFile.__init__

    def counted(file: ArrivingFile, folder: Path) -> None:
        nonlocal made
        made += 1
        assert made < 10, "copies of copies"
        begin(file, folder)

    monkeypatch.setattr(ArrivingFile, "__init__", counted)
    traces: list[TraceId] = []
    for _ in range(1500):
        message = await letters.letter(b"tiny", head=b"", to=[BOB])  # smaller than the header of its record
        await letters.storage.spool.accept(message)
        message.body.discard()
        traces.append(message.trace)
    before = files_in(engine.data)
    assert await opened._housekeeping.compact(smallest=0) == 0
    assert made == 0 and files_in(engine.data) == before, "every message is needed"
    await finish(letters, set(traces[::4]))
    assert await opened._housekeeping.compact(smallest=0) > 0
    copied = made
    assert copied
    assert await opened._housekeeping.compact(smallest=0) == 0
    assert made == copied
    assert {await stored(letters.storage.spool, trace) for trace in traces[::4]} == {b"tiny"}


async def test_the_space_of_deleted_messages_comes_back_and_the_others_stay_whole(
    engine: Engine, opened: SqliteStorage, letters: Letters, posted: dict[TraceId, bytes]
) -> None:
    kept = dict(list(posted.items())[::10])
    message = await letters.storage.spool.open(next(iter(kept)))  # opened before, read behind the move
    await finish(letters, set(kept))
    before = octets_in(engine.data)
    assert await opened._housekeeping.compact(smallest=0) > 0
    assert octets_in(engine.data) < before / 3
    for trace, octets in kept.items():
        assert await stored(letters.storage.spool, trace) == HEAD + octets
    assert await message.read(0, 10_000) == HEAD + next(iter(kept.values()))


async def test_messages_deleted_while_their_segment_is_copied_leave_no_trace(
    engine: Engine,
    opened: SqliteStorage,
    letters: Letters,
    posted: dict[TraceId, bytes],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    kept = dict(list(posted.items())[::10])
    await finish(letters, set(kept))
    write = opened._writer.write

    async def meanwhile(operation: object) -> object:
        monkeypatch.undo()
        await finish(letters, set())
        return await write(operation)  # type: ignore[arg-type]

    monkeypatch.setattr(opened._writer, "write", meanwhile)
    await opened._housekeeping.compact(smallest=0)
    await opened.maintain(smallest=0)
    assert len(files_in(engine.data)) == 1


async def test_large_messages_give_their_space_back_at_once(
    engine: Engine, opened: SqliteStorage, letters: Letters
) -> None:
    await post(letters, LARGE)
    await finish(letters, set())
    await opened.maintain()
    assert files_in(engine.data) == []


async def test_damaged_records_stay_for_a_person_and_do_not_stop_the_others(
    engine: Engine,
    opened: SqliteStorage,
    letters: Letters,
    posted: dict[TraceId, bytes],
    caplog: pytest.LogCaptureFixture,
) -> None:
    kept = dict(list(posted.items())[:20:5])
    await finish(letters, set(kept))
    path = engine.data / "segments" / files_in(engine.data)[0]
    octets = path.read_bytes()
    damaged = next(iter(kept))
    path.write_bytes(octets.replace(kept[damaged], b"!" * len(kept[damaged])))
    for _ in range(2):
        await opened.maintain(smallest=0)
    assert path.exists()
    assert [record.message for record in caplog.records].count("message damaged on disk") == 1
    for trace, content in list(kept.items())[1:]:
        assert await stored(letters.storage.spool, trace) == HEAD + content
    with pytest.raises(StorageError, match="damaged"):
        await stored(letters.storage.spool, damaged)
    await finish(letters, set())
    await opened.maintain(smallest=0)
    assert not path.exists()


async def test_a_lost_segment_does_not_stop_the_others(
    engine: Engine, opened: SqliteStorage, letters: Letters, posted: dict[TraceId, bytes]
) -> None:
    kept = dict(list(posted.items())[::10])
    await finish(letters, set(kept))
    (engine.data / "segments" / files_in(engine.data)[0]).unlink()
    before = octets_in(engine.data)
    await opened.maintain(smallest=0)
    assert octets_in(engine.data) < before / 2


async def test_segments_of_living_processes_are_left_alone(engine: Engine, opened: SqliteStorage) -> None:
    other = Letters((await engine.open(worker=1)).storage, engine.clock, maker=1)
    first = await post(other, b"first")
    await finish(other, set())  # its open segment holds nothing that is needed
    for _ in range(2):
        await opened.maintain()
    second = await post(other, b"second")
    assert await stored(opened.storage.spool, second) == HEAD + b"second"
    assert first < second


async def test_an_open_segment_of_a_process_that_ended_is_sealed_and_goes(engine: Engine) -> None:
    for worker in range(3):
        opened = await engine.open(worker=0)
        letters = Letters(opened.storage, engine.clock, maker=worker)
        await post(letters, b"x")
        await finish(letters, set())
        await engine.close()
    assert len(files_in(engine.data)) == 3
    opened = await engine.open(worker=0)  # the same number as before: it does not matter
    await opened.maintain()
    assert files_in(engine.data) == []


async def test_leftovers_of_a_crash_are_swept_and_arriving_messages_are_not(
    engine: Engine, opened: SqliteStorage, letters: Letters
) -> None:
    folder = engine.data / "segments"
    (folder / "arriving-1-1").write_bytes(b"half a message")
    (folder / "README").write_bytes(b"not ours")
    message = await letters.letter(LARGE, to=[BOB])
    arriving = ArrivingFile(folder)
    await opened.maintain()
    assert len(files_in(engine.data)) == 3
    await letters.storage.spool.accept(message)
    trace = message.trace
    message.body.discard()
    arriving.close()
    assert await stored(letters.storage.spool, trace) == HEAD + LARGE
    assert (folder / "README").exists()


async def test_a_segment_that_the_database_never_knew_is_put_aside_and_said_and_never_removed(
    engine: Engine, opened: SqliteStorage, letters: Letters, caplog: pytest.LogCaptureFixture
) -> None:
    folder = engine.data / "segments"
    strange = {f"{number:012}.seg": b"of another time, %d" % number for number in (1, 50)}
    for name, octets in strange.items():
        (folder / name).write_bytes(octets)
    traces = {await post(letters, octets): octets for octets in (b"x", LARGE)}
    assert files_in(engine.data)[1:] == ["000000000050.seg", "000000000051.seg", "000000000052.seg"]
    for _ in range(2):
        await opened.maintain()
    assert files_in(engine.data) == ["000000000051.seg", "000000000052.seg"]
    assert {path.name: path.read_bytes() for path in (engine.data / "lost").rglob("*.seg")} == strange
    assert [record.message for record in caplog.records].count("segment put aside") == 2
    for trace, octets in traces.items():
        assert await stored(letters.storage.spool, trace) == HEAD + octets


async def test_a_removed_segment_is_known_until_its_file_is_durably_gone(
    engine: Engine, opened: SqliteStorage, letters: Letters, monkeypatch: pytest.MonkeyPatch
) -> None:
    """So that no power loss leaves a file without a row, which nobody may remove."""
    await post(letters, LARGE)
    await finish(letters, set())
    seen: list[tuple[list[str], int]] = []
    call = opened._writer.call

    async def look(function: Callable[[apsw.Connection], object], *more: Any) -> object:
        seen.append((files_in(engine.data), len(opened._reading.rows("SELECT id FROM segment"))))
        return await call(function, *more)

    monkeypatch.setattr(opened._writer, "call", look)
    await opened._housekeeping.remove_empty()
    assert seen == [([], 1)]
    assert opened._reading.rows("SELECT id FROM segment") == []


async def test_while_a_backup_copies_no_segment_is_removed(
    engine: Engine, opened: SqliteStorage, letters: Letters
) -> None:
    await post(letters, LARGE)
    await finish(letters, set())
    with keeping(engine.data):
        await opened.maintain()
        assert len(files_in(engine.data)) == 1
    await opened.maintain()
    assert files_in(engine.data) == []


async def test_housekeeping_beside_steady_traffic_loses_nothing(
    engine: Engine, opened: SqliteStorage, letters: Letters
) -> None:
    other = Letters((await engine.open(worker=1, segment_size=20_000)).storage, engine.clock, maker=1)
    kept: dict[TraceId, bytes] = {}

    async def traffic(writer: Letters, number: int) -> None:
        for turn in range(15):
            octets = LARGE if turn % 7 == 3 else b"%d %d" % (number, turn) * 300
            trace = await post(writer, octets)
            if turn % 5 == 0:
                kept[trace] = octets
            else:
                (entry,) = [e async for e in writer.storage.queue.entries(Filter(trace=trace), now=0)]
                await writer.storage.queue.settle([finished(entry)])

    async def housekeeping() -> None:
        for _ in range(15):
            await opened.maintain(smallest=0)

    await asyncio.gather(
        housekeeping(), *(traffic(writer, number) for number in range(4) for writer in (letters, other))
    )
    await opened.maintain(smallest=0)
    for trace, octets in kept.items():
        for storage in (letters.storage, other.storage):
            assert await stored(storage.spool, trace) == HEAD + octets
    assert octets_in(engine.data) < 3 * sum(map(len, kept.values())) + 60_000


async def test_looking_whether_a_new_file_is_abandoned_harms_nobody(
    engine: Engine, letters: Letters, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Somebody holds the lock of each new file for the moment in which its maker wants it."""
    real = fcntl.flock
    lookers: list[threading.Thread] = []

    def flock(fd: int, how: int) -> None:
        if how != fcntl.LOCK_EX or Path(f"/proc/self/fd/{fd}").readlink().parent != engine.data / "segments":
            real(fd, how)
            return
        other = os.open(f"/proc/self/fd/{fd}", os.O_RDONLY)
        real(other, fcntl.LOCK_EX)
        lookers.append(threading.Thread(target=os.close, args=(other,)))
        lookers[-1].start()
        real(fd, how)

    monkeypatch.setattr(fcntl, "flock", flock)
    for octets in (b"small", LARGE):
        await letters.post(octets, to=[BOB])
    assert len(lookers) == 2


def test_an_arriving_file_that_was_swept_before_it_was_locked_is_made_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, swept = fcntl.flock, []

    def flock(fd: int, how: int) -> None:
        if not swept:
            swept.append(Path(f"/proc/self/fd/{fd}").readlink())
            swept[0].unlink()
        real(fd, how)

    monkeypatch.setattr(fcntl, "flock", flock)
    file = ArrivingFile(tmp_path)
    assert swept[0].exists()
    file.close()


async def test_a_file_keeps_its_name_once_its_maker_has_locked_it(
    engine: Engine, opened: SqliteStorage, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its maker comes between the sweep's look and the end of the file's name."""
    path = engine.data / "segments" / "arriving-1-1"
    fd = os.open(path, os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o600)
    unlink = Path.unlink

    def meanwhile(removed: Path, missing_ok: bool = False) -> None:
        if removed == path:
            with pytest.raises(BlockingIOError):  # it waits, and sees then that the name is gone
                fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        unlink(removed, missing_ok)

    monkeypatch.setattr(Path, "unlink", meanwhile)
    assert await opened._housekeeping.sweep() == 1
    os.close(fd)


def test_a_leftover_of_a_process_with_the_same_number_is_in_nobodys_way(tmp_path: Path) -> None:
    first = ArrivingFile(tmp_path)
    serial = int(str(first._path).rpartition("-")[2])
    leftover = tmp_path / f"arriving-{os.getpid()}-{serial + 1}"
    leftover.write_bytes(b"half")
    second = ArrivingFile(tmp_path)
    assert second._path.exists() and second._path != leftover and leftover.read_bytes() == b"half"
    for file in (first, second):
        file.close()
