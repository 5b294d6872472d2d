"""Questions to all workers, and their answers: each has a Unix stream socket in the folder of the bus.

The bus carries notices, which may be lost and are answered by nobody. What must be confirmed goes here: a command sends
one line of JSON to every worker, and each answers in lines of JSON, of which `{"done": true}` is the last.
"""

import asyncio
import contextlib
import logging
import os
import socket
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import msgspec

log = logging.getLogger(__name__)

_SUFFIX = ".control"
_LINE = 256 * 1024  # octets, the longest line of either side
_ROWS = 200  # in a line of an answer
_DONE = {"done": True}

Rows = AsyncIterator[dict[str, Any]]


class Answering(Protocol):
    """Answers one request: rows as they are found."""

    def __call__(self, request: bytes) -> Rows: ...


class ControlSocket:
    """A worker's end. `name` is the process's on the bus; `answer` may raise `msgspec.ValidationError`."""

    def __init__(self, folder: Path, name: str, answer: Answering) -> None:
        self._folder = folder
        self._name = name + _SUFFIX
        self._answer = answer
        self._directory = -1
        self._server: asyncio.Server | None = None
        self._talks: set[asyncio.Task[None]] = set()

    async def start(self) -> None:
        """Answer from now on. Raises `OSError`."""
        self._directory = os.open(self._folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        listening = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC)
        try:
            with contextlib.suppress(FileNotFoundError):  # a process that had our name and died
                os.unlink(self._name, dir_fd=self._directory)
            listening.bind(_path(self._directory, self._name))
            os.chmod(self._name, 0o600, dir_fd=self._directory)
            self._server = await asyncio.start_unix_server(self._talk, sock=listening, limit=_LINE)
        except OSError:
            listening.close()
            os.close(self._directory)
            raise

    async def close(self) -> None:
        """Answer no more requests; a waiting client sees the end of the connection."""
        if self._server is None:
            return
        self._server.close()
        self._server = None
        for talk in tuple(self._talks):
            talk.cancel()
        if self._talks:
            await asyncio.wait(self._talks)
        with contextlib.suppress(FileNotFoundError):
            os.unlink(self._name, dir_fd=self._directory)
        os.close(self._directory)

    async def _talk(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        talk = asyncio.current_task()
        assert talk is not None
        self._talks.add(talk)
        talk.add_done_callback(self._talks.discard)
        try:
            await self._answer_one(await reader.readline(), writer)
        except (OSError, ValueError, msgspec.MsgspecError) as error:  # ValueError: a line without end
            log.warning("command not understood", extra={"fields": {"error": str(error)}})
        finally:
            writer.close()

    async def _answer_one(self, request: bytes, writer: asyncio.StreamWriter) -> None:
        rows: list[dict[str, Any]] = []
        async for row in self._answer(request):
            rows.append(row)
            if len(rows) == _ROWS:  # others work meanwhile, and no more waits than a reader takes
                _write(writer, {"rows": rows})
                rows = []
                await writer.drain()
                await asyncio.sleep(0)
        if rows:
            _write(writer, {"rows": rows})
        _write(writer, _DONE)
        await writer.drain()


def _write(writer: asyncio.StreamWriter, value: dict[str, Any]) -> None:
    writer.write(msgspec.json.encode(value) + b"\n")


@dataclass(slots=True)
class Answers:
    """What the workers answered. `silent` names those that live and did not, in words: `worker 1 (process 4711)`."""

    rows: list[dict[str, Any]] = field(default_factory=list)
    silent: list[str] = field(default_factory=list)


async def ask_workers(folder: Path, request: msgspec.Struct, patience: float) -> Answers:
    """Ask every worker of the service whose bus is in `folder`; return when all have answered, or after `patience`
    seconds. Without a service there are no answers. Raises `OSError` when the folder can't be read.
    """
    answers = Answers()
    try:
        directory = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except FileNotFoundError:
        return answers
    try:
        names = sorted(name for name in os.listdir(directory) if name.endswith(_SUFFIX))
        octets = msgspec.json.encode(request) + b"\n"
        asking = (_ask(directory, name, octets, patience) for name in names)
        for name, rows in zip(names, await asyncio.gather(*asking), strict=True):
            if rows is None:
                answers.silent.append(_worker(name))
            else:
                answers.rows += rows
    finally:
        os.close(directory)
    return answers


async def _ask(directory: int, name: str, request: bytes, patience: float) -> list[dict[str, Any]] | None:
    """Return the answer of one worker, nothing for one that is dead; None when it gave none, or not all of it."""
    try:
        async with asyncio.timeout(patience):
            return await _hear(directory, name, request)
    except (TimeoutError, ValueError, msgspec.MsgspecError):
        return None
    except (FileNotFoundError, ConnectionRefusedError):  # it has ended, and its sessions with it
        with contextlib.suppress(OSError):
            os.unlink(name, dir_fd=directory)
        return []
    except OSError:
        return None


async def _hear(directory: int, name: str, request: bytes) -> list[dict[str, Any]] | None:
    reader, writer = await asyncio.open_unix_connection(_path(directory, name), limit=_LINE)
    rows: list[dict[str, Any]] = []
    try:
        writer.write(request)
        await writer.drain()
        while line := await reader.readline():
            said = msgspec.json.decode(line)
            if said == _DONE:
                return rows
            rows += said["rows"]
        return None
    finally:
        writer.close()


def _worker(name: str) -> str:
    """Return which process it is, in words: its socket is called `worker-1-4711.control`."""
    parts = name.removesuffix(_SUFFIX).split("-")
    if len(parts) == 3 and parts[1].isdecimal() and parts[2].isdecimal():
        return worker_words(int(parts[1]), int(parts[2]))
    return f"the process of bus/{name}"


def worker_words(number: int, pid: int) -> str:
    """Return how people are told of a worker."""
    return f"worker {number} (process {pid})"


def _path(directory: int, name: str) -> str:
    """A socket's path may have only 107 octets."""
    return f"/proc/self/fd/{directory}/{name}"
