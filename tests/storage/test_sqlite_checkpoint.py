"""The write-ahead log stays bounded under steady load, with several processes and with readers that take their time."""

import asyncio
import fcntl
import os
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from tests.storage.letters import Engine, Letters

from waypost.storage.sqlite.commit import checkpoint as checkpoint_module
from waypost.storage.sqlite.connection import connect, connect_reading
from waypost.storage.sqlite.opening.migrate import DATABASE

LIMIT = 200_000


@pytest.fixture
async def writers(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[tuple[Letters, Letters]]:
    monkeypatch.setattr(checkpoint_module, "_PAUSE", 0.01)
    one, two = [await engine.open(worker=number, reserve=2 * LIMIT) for number in range(2)]
    yield Letters(one.storage, engine.clock, 0), Letters(two.storage, engine.clock, 1)


def log_of(data: Path) -> int:
    return (data / f"{DATABASE}-wal").stat().st_size


def turn_of(data: Path) -> bytes:
    """Return the salts of the log, which are others whenever it starts anew."""
    with (data / f"{DATABASE}-wal").open("rb") as file:
        return file.read(24)[16:]


async def load(writers: tuple[Letters, Letters], data: Path, turns: int) -> list[int]:
    """Write from both; returns the log's size after each turn."""
    sizes = []
    for _ in range(turns):
        await asyncio.gather(*(writer.post(b"x", to=["bob@builder.test"]) for writer in writers for _ in range(20)))
        sizes.append(log_of(data))
    return sizes


async def load_until_it_starts_anew(writers: tuple[Letters, Letters], data: Path) -> list[int]:
    """Write from both until the log has started anew; returns its size after each turn."""
    before, sizes = turn_of(data), []
    for _ in range(300):
        sizes += await load(writers, data, 1)
        if turn_of(data) != before:
            return sizes
    pytest.fail(f"the log never started anew: it has {log_of(data)} octets")


async def test_the_log_has_its_size_from_the_beginning_and_keeps_it(engine: Engine) -> None:
    opened = await engine.open(reserve=2 * LIMIT)
    assert log_of(engine.data) == LIMIT
    await Letters(opened.storage, engine.clock).post(b"x", to=["bob@builder.test"])
    assert log_of(engine.data) == LIMIT


async def test_nobody_writes_the_log_while_it_gets_its_room(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the file system can't make room, the C library writes zeros to where it read zeros a moment before."""
    real, held = os.posix_fallocate, []

    def make_room(fd: int, offset: int, length: int) -> None:
        with (engine.data / "writer.lock").open() as lock, pytest.raises(BlockingIOError):
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        held.append(length)
        real(fd, offset, length)

    monkeypatch.setattr(os, "posix_fallocate", make_room)
    await engine.open(reserve=2 * LIMIT)
    assert held == [LIMIT]


async def test_without_room_the_log_grows_as_it_must(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(fd: int, offset: int, length: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "posix_fallocate", refuse)
    opened = await engine.open(reserve=2 * LIMIT)
    await Letters(opened.storage, engine.clock).post(b"x", to=["bob@builder.test"])
    assert 0 < log_of(engine.data) < LIMIT


async def test_the_log_starts_anew_while_two_processes_write(engine: Engine, writers: tuple[Letters, Letters]) -> None:
    for _ in range(4):  # again and again, however the threads are scheduled
        sizes = await load_until_it_starts_anew(writers, engine.data)
        assert max(sizes) < 20 * LIMIT


async def test_a_long_reader_holds_up_neither_writers_nor_the_next_checkpoint(
    engine: Engine, writers: tuple[Letters, Letters]
) -> None:
    await load(writers, engine.data, 1)
    reader = connect_reading(engine.data / DATABASE)
    reader.execute("BEGIN").fetchall()
    reader.execute("SELECT count(*) FROM message").fetchall()
    before = turn_of(engine.data)
    sizes = await load(writers, engine.data, 40)
    assert turn_of(engine.data) == before  # it can't start anew, and everybody went on
    assert sizes[-1] > 2 * LIMIT
    reader.execute("COMMIT").fetchall()
    reader.close()

    for _ in range(300):
        after = await load(writers, engine.data, 1)
        if after[0] < sizes[-1]:
            break
    assert LIMIT <= after[0] < sizes[-1], "what grew too large is cut back, and has its room again"


async def test_a_log_on_a_disk_that_fails_is_moved_later(
    engine: Engine, writers: tuple[Letters, Letters], caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*arguments: object, **named: object) -> None:
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(checkpoint_module, "connect", refuse)
    for _ in range(200):
        await load(writers, engine.data, 1)
        if "checkpoint failed" in caplog.text:
            break
    assert "checkpoint failed" in caplog.text
    monkeypatch.setattr(checkpoint_module, "connect", connect)
    await load_until_it_starts_anew(writers, engine.data)
