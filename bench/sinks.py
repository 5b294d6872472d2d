"""Mail servers of others, many in one process: each takes everything, or hangs.

    python -m bench.sinks TALLY --port PORT --good N --hanging N

Server `n` of a kind listens on `good_address(n)` or `hanging_address(n)`. A hanging one accepts the connection and
never says a word. TALLY is a file of two numbers that others may read at any time: messages taken, and connections
that hang.
"""

import argparse
import asyncio
import mmap
import struct
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import uvloop

from bench.harness import wait_until

_NUMBERS = struct.Struct("<QQQ")  # messages, hanging connections, 1 when all servers listen
_REPLIES = {
    b"EHLO": b"250-sink.test\r\n250-PIPELINING\r\n250-8BITMIME\r\n250 SIZE\r\n",
    b"DATA": b"354 go on\r\n",
    b"QUIT": b"221 bye\r\n",
}


def good_address(number: int) -> str:
    """Return the address of a server that takes mail, numbered from 0."""
    return f"127.0.{16 + number // 250}.{1 + number % 250}"


def hanging_address(number: int) -> str:
    """Return the address of a server that hangs, numbered from 0."""
    return f"127.0.{32 + number // 250}.{1 + number % 250}"


class Tally:
    """The two numbers, in a file that several processes map."""

    def __init__(self, path: Path) -> None:
        if not path.exists():
            path.write_bytes(bytes(_NUMBERS.size))
        with path.open("r+b") as file:
            self._map = mmap.mmap(file.fileno(), _NUMBERS.size)

    def add(self, *, messages: int = 0, hanging: int = 0, listening: int = 0) -> None:
        """Count; for the one process that writes."""
        taken, hang, ready = _NUMBERS.unpack(self._map)
        _NUMBERS.pack_into(self._map, 0, taken + messages, hang + hanging, ready + listening)

    @property
    def messages(self) -> int:
        """Messages that were taken."""
        return int(_NUMBERS.unpack(self._map)[0])

    @property
    def hanging(self) -> int:
        """Connections that hang."""
        return int(_NUMBERS.unpack(self._map)[1])

    @property
    def listening(self) -> bool:
        """True when all servers listen."""
        return bool(_NUMBERS.unpack(self._map)[2])


class _Good(asyncio.Protocol):
    """The least that is a mail server."""

    def __init__(self, tally: Tally) -> None:
        self._tally = tally
        self._buffer = b""
        self._content = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        self._transport.write(b"220 sink.test\r\n")

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        replies: list[bytes] = []
        while self._buffer:
            if self._content:
                end = self._buffer.find(b"\r\n.\r\n")
                if end < 0:
                    break
                self._buffer, self._content = self._buffer[end + 5 :], False
                self._tally.add(messages=1)
                replies.append(b"250 taken\r\n")
                continue
            line, newline, rest = self._buffer.partition(b"\r\n")
            if not newline:
                break
            self._buffer = rest
            verb = line[:4].upper()
            replies.append(_REPLIES.get(verb, b"250 ok\r\n"))
            self._content = verb == b"DATA"
        if replies:
            self._transport.write(b"".join(replies))


class _Hanging(asyncio.Protocol):
    def __init__(self, tally: Tally) -> None:
        self._tally = tally

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._tally.add(hanging=1)

    def connection_lost(self, exc: Exception | None) -> None:
        self._tally.add(hanging=-1)


async def _serve(options: argparse.Namespace) -> None:
    tally = Tally(options.tally)
    loop = asyncio.get_running_loop()
    for number in range(options.good):
        await loop.create_server(lambda: _Good(tally), good_address(number), options.port)
    for number in range(options.hanging):
        await loop.create_server(lambda: _Hanging(tally), hanging_address(number), options.port)
    tally.add(listening=1)
    await asyncio.Event().wait()


@dataclass(frozen=True, slots=True)
class Sinks:
    """Running servers: what they counted, and their process."""

    tally: Tally
    pid: int


@contextmanager
def serving(folder: Path, *, port: int, good: int, hanging: int) -> Iterator[Sinks]:
    """Run servers in a process of their own while the context lasts."""
    path = folder / "tally"
    tally = Tally(path)
    command = [sys.executable, "-m", "bench.sinks", str(path), "--port", str(port)]
    process = subprocess.Popen([*command, "--good", str(good), "--hanging", str(hanging)])
    try:
        wait_until(lambda: tally.listening or process.poll() is not None, seconds=60, what="the sinks listen")
        if process.poll() is not None:
            raise RuntimeError("the sinks could not listen")
        yield Sinks(tally, process.pid)
    finally:
        process.terminate()
        process.wait()


def main() -> None:
    """Serve until ended."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("tally", type=Path)
    parser.add_argument("--port", type=int, default=2526)
    parser.add_argument("--good", type=int, default=1)
    parser.add_argument("--hanging", type=int, default=0)
    uvloop.run(_serve(parser.parse_args()))


if __name__ == "__main__":
    main()
