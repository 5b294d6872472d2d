"""A full disk: nothing is half taken in, the storage stays usable, and it recovers by itself when space comes back."""

import asyncio
import contextlib
import os
import shutil
import subprocess
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
from tests.storage.letters import HEAD, Engine, Letters, files_in, finished, stored

from waypost.message.trace import TraceId
from waypost.storage import Filter, StorageFull
from waypost.storage.sqlite import SqliteStorage
from waypost.storage.sqlite.upkeep.check import StorageChecker

MEBIBYTE = 1 << 20
BOB = "bob@builder.test"


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 6 MiB in memory."""
    disk = tmp_path / "disk"
    disk.mkdir()
    if os.geteuid() != 0 or shutil.which("mount") is None:
        pytest.skip("a file system of its own can only be mounted as root")
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=6m", "tmpfs", str(disk)], capture_output=True)
    if mounted.returncode:
        pytest.skip(f"no file system can be mounted here: {mounted.stderr.decode().strip()}")
    try:
        yield disk
    finally:
        subprocess.run(["umount", str(disk)], check=True)


@pytest.fixture
async def on_small_disk(small_disk: Path) -> AsyncIterator[Engine]:
    engine = Engine("sqlite", small_disk / "data")
    yield engine
    await engine.close()


@pytest.fixture
async def opened(on_small_disk: Engine) -> SqliteStorage:
    """A storage that new mail may fill to the last octet."""
    return await on_small_disk.open(segment_size=256 * 1024, reserve=0)


def mount(disk: Path, options: str) -> None:
    subprocess.run(["mount", "-o", f"remount,{options}", str(disk)], check=True)


def fill(disk: Path, leave: int = 0) -> Path:
    """Take all space of the disk, but for some; returns the file that holds it."""
    path = disk / "something else"
    with path.open("wb", buffering=0) as file:
        with contextlib.suppress(OSError):
            while True:
                file.write(bytes(4096))
        os.truncate(path, max(0, file.tell() - leave))
    return path


@pytest.mark.parametrize("size", [1_000, 300_000], ids=["in memory", "on disk"])
async def test_a_full_disk_takes_nothing_in_and_recovers(
    small_disk: Path, on_small_disk: Engine, opened: SqliteStorage, size: int
) -> None:
    letters = Letters(opened.storage, on_small_disk.clock)
    first = await letters.post(b"1" * size, to=[BOB])
    ballast = fill(small_disk)
    for _ in range(5):
        with pytest.raises(StorageFull):
            await letters.post(b"2" * size, to=[BOB])
    assert await stored(opened.storage.spool, first) == HEAD + b"1" * size
    assert [entry.trace for entry in await letters.due("builder.test")] == [first]
    ballast.unlink()
    third = await letters.post(b"3" * size, to=[BOB])
    assert await stored(opened.storage.spool, third) == HEAD + b"3" * size
    assert [entry.trace for entry in await letters.due("builder.test")] == [first, third]


async def test_a_large_message_that_does_not_fit_gives_its_space_back_at_once(
    small_disk: Path, on_small_disk: Engine, opened: SqliteStorage
) -> None:
    letters = Letters(opened.storage, on_small_disk.clock)
    await letters.post(b"small", to=[BOB])
    free = shutil.disk_usage(small_disk).free
    for _ in range(3):
        body = opened.storage.spool.new_body()
        with pytest.raises(StorageFull):
            while True:
                await body.write(bytes(65536))
        body.discard()
    assert shutil.disk_usage(small_disk).free > free - 65536
    await letters.post(b"small again", to=[BOB])


@pytest.mark.parametrize("leave", range(0, 200_000, 20_000))
async def test_wherever_the_space_ends_a_message_is_taken_whole_or_not_at_all(
    small_disk: Path, on_small_disk: Engine, opened: SqliteStorage, leave: int
) -> None:
    letters = Letters(opened.storage, on_small_disk.clock)
    await letters.post(b"first", to=[BOB])
    ballast = fill(small_disk, leave)
    taken: dict[TraceId, bytes] = {}

    async def post(number: int) -> None:
        octets = (b"%06d" % number) * (20_000 if number % 10 == 0 else 500)
        taken[await letters.post(octets, to=[BOB])] = octets

    answers = await asyncio.gather(*(post(number) for number in range(100)), return_exceptions=True)
    assert {type(answer) for answer in answers} <= {StorageFull, type(None)}
    assert StorageFull in map(type, answers)
    ballast.unlink()
    await post(1000)
    entries = [entry.trace async for entry in opened.storage.queue.entries(Filter(), now=0)]
    assert set(entries[1:]) == set(taken)
    for trace, octets in taken.items():
        assert await stored(opened.storage.spool, trace) == HEAD + octets
    await opened.maintain(smallest=0)
    checker = StorageChecker(on_small_disk.data)
    assert list(checker.problems(lambda done, total: None)) == []
    checker.close()


async def test_mail_goes_out_of_a_disk_that_is_full_of_mail_and_makes_room(
    small_disk: Path, on_small_disk: Engine
) -> None:
    opened = await on_small_disk.open(segment_size=256 * 1024, reserve=2 * MEBIBYTE)
    letters = Letters(opened.storage, on_small_disk.clock)
    for size in (300_000, 10_000, 100):
        with pytest.raises(StorageFull, match="octets of the disk are kept free"):
            while True:
                await letters.post(bytes(size), to=[BOB])
    for _ in range(3):  # and it stays so
        for size in (300_000, 10_000, 100):
            with pytest.raises(StorageFull):
                await letters.post(bytes(size), to=[BOB])
    report = await letters.letter(b"a report goes where new mail doesn't", to=["alice@wonderland.test"])
    entries = await letters.due("builder.test", limit=10_000)
    await opened.storage.queue.settle([finished(entries[0], reports=(report,))])
    for entry in entries[1:]:
        await opened.storage.queue.settle([finished(entry)])
    await opened.maintain(smallest=0)
    for _ in range(3):
        await letters.post(bytes(300_000), to=[BOB])


async def test_a_disk_that_is_full_of_mail_in_an_open_segment_recovers_when_that_mail_goes(
    small_disk: Path, on_small_disk: Engine
) -> None:
    opened = await on_small_disk.open(reserve=2 * MEBIBYTE)  # and segments of the usual size, larger than the disk
    letters = Letters(opened.storage, on_small_disk.clock)
    with pytest.raises(StorageFull):
        while True:
            await letters.post(bytes(10_000), to=[BOB])
    entries = await letters.due("builder.test", limit=10_000)
    await opened.storage.queue.delete([entry.id for entry in entries], now=on_small_disk.clock())
    await opened.maintain()
    for _ in range(3):
        await letters.post(bytes(10_000), to=[BOB])


async def test_housekeeping_on_a_full_disk_says_so_and_goes_on_later(
    small_disk: Path, on_small_disk: Engine, opened: SqliteStorage
) -> None:
    letters = Letters(opened.storage, on_small_disk.clock)
    traces = [await letters.post(b"%03d" % number * 10_000, to=[BOB]) for number in range(60)]
    kept = range(0, 60, 6)  # some of each segment, so that none goes as a whole and makes room
    gone = {trace for number, trace in enumerate(traces) if number not in kept}
    entries = await letters.due("builder.test")
    await opened.storage.queue.settle([finished(entry) for entry in entries if entry.trace in gone])
    ballast = fill(small_disk)
    with pytest.raises(StorageFull):
        await opened.maintain(smallest=0)
    ballast.unlink()
    await opened.maintain(smallest=0)
    for number in kept:
        assert await stored(opened.storage.spool, traces[number]) == HEAD + b"%03d" % number * 10_000
    assert not [name for name in files_in(on_small_disk.data) if name.startswith("arriving")]


async def test_a_disk_that_can_only_be_read_is_told_as_such(small_disk: Path, on_small_disk: Engine) -> None:
    letters = Letters((await on_small_disk.open()).storage, on_small_disk.clock)
    await letters.post(b"first", to=[BOB])
    await on_small_disk.close()
    mount(small_disk, "ro")
    with pytest.raises(StorageFull, match="Read-only file system"):
        await on_small_disk.open()
    mount(small_disk, "rw")
    letters = Letters((await on_small_disk.open()).storage, on_small_disk.clock, maker=1)
    await letters.post(b"second", to=[BOB])
    assert len(await letters.due("builder.test")) == 2
