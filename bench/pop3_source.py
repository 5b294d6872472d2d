"""A load generator for POP3 over TLS: sessions that download a whole mailbox, one message after the other.

    python -m bench.pop3_source ADDRESS PORT --sessions N --first N --messages N

Session `n` is user `n`'s. All are logged in and have asked STAT when it is ready (see `bench/clients.py`); the download
is what is measured. Fails unless every message comes whole.
"""

import argparse
import asyncio
import ssl
import sys
from typing import cast

import uvloop

from bench.clients import told_to_go
from bench.smtp_source import anybody
from bench.world import DOMAIN, PASSWORD

_AT_ONCE = 16


class Download(asyncio.Protocol):
    """One session."""

    def __init__(self) -> None:
        self._heard: list[bytes] = []
        self._tail = b""
        self._end = b"\r\n"
        self._answer: asyncio.Future[bytes] | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the transport."""
        self._transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        """An answer is whole at its end: no line of a message is a lone dot, and we ask one thing at a time."""
        self._heard.append(data)
        self._tail = (self._tail + data)[-5:]
        if self._tail.endswith(self._end) and self._answer is not None and not self._answer.done():
            self._answer.set_result(b"".join(self._heard))

    def connection_lost(self, exc: Exception | None) -> None:
        """Whoever waits is told."""
        if self._answer is not None and not self._answer.done():
            self._answer.set_exception(exc or ConnectionError("closed"))

    async def ask(self, command: bytes | None, end: bytes = b"\r\n") -> bytes:
        """Send a command (None waits for the greeting); return the answer. Raises `RuntimeError` when it is no +OK."""
        self._heard, self._tail, self._end = [], b"", end
        self._answer = asyncio.get_running_loop().create_future()
        if command is not None:
            self._transport.write(command + b"\r\n")
        answer = await self._answer
        if not answer.startswith(b"+OK"):
            raise RuntimeError(answer.decode(errors="replace"))
        return answer

    async def log_in(self, user: str) -> int:
        """Log in; return how many messages there are."""
        await self.ask(None)
        await self.ask(f"USER {user}".encode())
        await self.ask(f"PASS {PASSWORD}".encode())
        return int((await self.ask(b"STAT")).split()[1])

    async def download(self, messages: int) -> None:
        """Fetch all, and end the session."""
        for number in range(1, messages + 1):
            await self.ask(b"RETR %d" % number, b"\r\n.\r\n")
        await self.ask(b"QUIT")


async def _sessions(options: argparse.Namespace) -> None:
    loop = asyncio.get_running_loop()
    context = anybody()
    places = asyncio.Semaphore(_AT_ONCE)

    async def log_in(number: int) -> Download:
        async with places:
            session = await _connect(loop, options, context)
            there = await session.log_in(f"user{number}@{DOMAIN}")
            if there != options.messages:
                sys.exit(f"user{number} has {there} messages, not {options.messages}")
            return session

    sessions = await asyncio.gather(*(log_in(options.first + number) for number in range(options.sessions)))
    await told_to_go()
    await asyncio.gather(*(session.download(options.messages) for session in sessions))


async def _connect(loop: asyncio.AbstractEventLoop, options: argparse.Namespace, context: ssl.SSLContext) -> Download:
    session = Download()
    made = loop.create_connection(
        lambda: session, options.address, options.port, ssl=context, server_hostname="bench.test"
    )
    await made
    return session


def main() -> None:
    """Download."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("address")
    parser.add_argument("port", type=int)
    parser.add_argument("--sessions", type=int, default=10)
    parser.add_argument("--first", type=int, default=0)
    parser.add_argument("--messages", type=int, default=100)
    uvloop.run(_sessions(parser.parse_args()))


if __name__ == "__main__":
    main()
