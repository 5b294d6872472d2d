"""What commands ask is answered by every worker that lives; one that gives no answer is named."""

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from waypost.service.processes.control_socket import ControlSocket, ask_workers

PATIENCE = 30.0


class Question(msgspec.Struct):
    """What the tests ask: that many rows."""

    rows: int


async def _counts(request: bytes) -> AsyncIterator[dict[str, Any]]:
    for number in range(msgspec.json.decode(request, type=Question).rows):
        yield {"number": number, "words": "x" * 100}


async def _hangs(request: bytes) -> AsyncIterator[dict[str, Any]]:
    yield {"number": 0}
    await asyncio.Event().wait()


async def _fails(request: bytes) -> AsyncIterator[dict[str, Any]]:
    yield {"number": 0}
    raise OSError("as the test wants it")


@pytest.fixture
async def workers(tmp_path: Path) -> AsyncIterator[Any]:
    opened: list[ControlSocket] = []

    async def work(name: str, answer: Any) -> ControlSocket:
        worker = ControlSocket(tmp_path, name, answer)
        await worker.start()
        opened.append(worker)
        return worker

    yield work
    for worker in opened:
        await worker.close()


async def test_each_worker_is_heard_however_much_it_says(workers: Any, tmp_path: Path) -> None:
    await workers("worker-0-11", _counts)
    await workers("worker-1-12", _counts)
    answers = await ask_workers(tmp_path, Question(10_000), PATIENCE)
    assert answers.silent == []
    assert len(answers.rows) == 20_000
    assert [row["number"] for row in answers.rows[:10_000]] == list(range(10_000))


async def test_a_worker_that_hangs_or_fails_is_named_and_the_others_are_heard(workers: Any, tmp_path: Path) -> None:
    await workers("worker-0-11", _counts)
    await workers("worker-1-12", _hangs)
    await workers("worker-2-13", _fails)
    answers = await ask_workers(tmp_path, Question(3), 0.2)
    assert [row["number"] for row in answers.rows] == [0, 1, 2]
    assert answers.silent == ["worker 1 (process 12)", "worker 2 (process 13)"]


async def test_a_worker_that_is_stopped_takes_connections_and_is_named(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(tmp_path / "worker-4-14.control"))
        listening.listen()  # the kernel answers for a process that can't
        answers = await ask_workers(tmp_path, Question(1), 0.05)
    assert answers.silent == ["worker 4 (process 14)"]


async def test_a_socket_with_another_name_is_named_as_it_is(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(tmp_path / "odd-one.control"))
        listening.listen()
        answers = await ask_workers(tmp_path, Question(1), 0.05)
    assert answers.silent == ["the process of bus/odd-one.control"]


async def test_a_dead_worker_has_no_sessions_and_its_socket_is_removed(workers: Any, tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(tmp_path / "worker-4-14.control"))
    await workers("worker-0-11", _counts)
    answers = await ask_workers(tmp_path, Question(1), PATIENCE)
    assert (len(answers.rows), answers.silent) == (1, [])
    assert not (tmp_path / "worker-4-14.control").exists()


async def test_where_no_service_is_there_is_no_answer(tmp_path: Path) -> None:
    answers = await ask_workers(tmp_path / "none", Question(1), PATIENCE)
    assert (answers.rows, answers.silent) == ([], [])


async def test_a_worker_that_ends_lets_nobody_wait(workers: Any, tmp_path: Path) -> None:
    worker = await workers("worker-1-12", _hangs)
    asking = asyncio.create_task(ask_workers(tmp_path, Question(1), PATIENCE))
    while not worker._talks:  # noqa: ASYNC110
        await asyncio.sleep(0)
    await worker.close()
    assert (await asking).silent == ["worker 1 (process 12)"]
    assert not (tmp_path / "worker-1-12.control").exists()


async def test_only_the_services_user_may_ask(workers: Any, tmp_path: Path) -> None:
    await workers("worker-1-12", _counts)
    assert (tmp_path / "worker-1-12.control").stat().st_mode & 0o077 == 0


async def test_a_request_without_end_is_refused(workers: Any, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    await workers("worker-1-12", _counts)
    reader, writer = await asyncio.open_unix_connection(str(tmp_path / "worker-1-12.control"))
    writer.write(b"x" * (1 << 20))
    with contextlib.suppress(ConnectionResetError):  # it does not read what comes after
        assert await reader.read() == b""
    writer.close()
    assert "command not understood" in [record.message for record in caplog.records]
