"""A load generator for SMTP over STARTTLS, which Postfix's `smtp-source` does not speak; made to its pattern.

    python -m bench.smtp_source ADDRESS PORT --messages N --sessions N --size OCTETS [--plain]

A message a connection, no pipelining, no session resumed, certificates not verified, recipients numbered from
`--first` on as `smtp-source -N` does. It begins when its standard input ends (see `bench/clients.py`).
"""

import argparse
import asyncio
import os
import ssl
from collections.abc import Iterator
from contextlib import contextmanager
from typing import cast

import uvloop

from bench import clients

_PROCESSES = 2


class Talk(asyncio.Protocol):
    """One connection's replies, one at a time. Raises `RuntimeError` for a reply that is no success."""

    def __init__(self) -> None:
        self.transport: asyncio.Transport | None = None
        self._heard = b""
        self._reply: asyncio.Future[bytes] | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the transport; after STARTTLS there is another."""
        self.transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        """A reply is whole when its last line has a space behind the code."""
        self._heard += data
        if self._heard.endswith(b"\r\n"):
            last = self._heard.rfind(b"\r\n", 0, -2) + 2 if b"\r\n" in self._heard[:-2] else 0
            if self._heard[last + 3 : last + 4] == b" " and self._reply and not self._reply.done():
                self._reply.set_result(self._heard)

    def connection_lost(self, exc: Exception | None) -> None:
        """Whoever waits is told."""
        if self._reply and not self._reply.done():
            self._reply.set_exception(exc or ConnectionError("closed"))

    async def greeting(self) -> None:
        """Wait for the greeting."""
        await self._success()

    async def say(self, line: bytes) -> None:
        """Send a command, or content; wait for its reply."""
        assert self.transport is not None
        self._heard = b""
        self.transport.write(line + b"\r\n")
        await self._success()

    async def start_tls(self, context: ssl.SSLContext) -> None:
        """STARTTLS, and EHLO again."""
        await self.say(b"STARTTLS")
        assert self.transport is not None
        fresh = await asyncio.get_running_loop().start_tls(self.transport, self, context, server_hostname="bench")
        self.transport = fresh
        await self.say(b"EHLO bench.source.test")

    async def _success(self) -> None:
        if not (self._heard.endswith(b"\r\n") and self._heard[:3].isdigit()):
            self._reply = asyncio.get_running_loop().create_future()
            await self._reply
        if self._heard[:1] not in b"23":
            raise RuntimeError(self._heard.decode(errors="replace"))


def anybody() -> ssl.SSLContext:
    """Return a client context that takes any certificate."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


def letter(size: int) -> bytes:
    """Return a message whose content has about `size` octets, and the dot behind it."""
    head = b"From: <sender@elsewhere.test>\r\nTo: <user@bench.test>\r\nMessage-Id: <%b@source.test>\r\n\r\n"
    line = b"x" * 78 + b"\r\n"
    return head + line * (size // 80) + line[80 - size % 80 :] + b"."


async def send(address: str, port: int, context: ssl.SSLContext | None, recipients: list[str], content: bytes) -> None:
    """Send one message on a connection of its own. Raises `RuntimeError`, `OSError`."""
    _, talk = await asyncio.get_running_loop().create_connection(Talk, address, port)
    try:
        await talk.greeting()
        await talk.say(b"EHLO bench.source.test")
        if context is not None:
            await talk.start_tls(context)
        await talk.say(b"MAIL FROM:<sender@elsewhere.test>")
        for recipient in recipients:
            await talk.say(f"RCPT TO:<{recipient}>".encode())
        await talk.say(b"DATA")
        await talk.say(
            content.replace(b"%b", recipients[0].encode().replace(b"@", b".") + os.urandom(8).hex().encode())
        )
        await talk.say(b"QUIT")
    finally:
        if talk.transport is not None:
            talk.transport.close()


async def _sessions(options: argparse.Namespace) -> None:
    context = None if options.plain else anybody()
    content = letter(options.size)
    numbers = iter(range(options.first, options.first + options.messages))

    async def session() -> None:
        for number in numbers:
            await send(options.address, options.port, context, [f"{number}{options.to}"], content)

    await clients.told_to_go()
    await asyncio.gather(*(session() for _ in range(options.sessions)))


@contextmanager
def prepared(address: str, port: int, *, messages: int, sessions: int, size: int, to: str) -> Iterator[clients.Clients]:
    """Prepare processes that send `messages` over TLS once they are told to go."""
    arguments: list[list[str]] = []
    first = 1
    processes = min(_PROCESSES, sessions)
    for share, busy in zip(clients.shares(messages, processes), clients.shares(sessions, processes), strict=True):
        options = {"messages": share, "first": first, "sessions": busy, "size": size, "to": to}
        arguments.append([address, str(port), *(f"--{name}={value}" for name, value in options.items())])
        first += share
    with clients.prepared("smtp_source", arguments) as started:
        yield started


def main() -> None:
    """Send messages."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("address")
    parser.add_argument("port", type=int)
    parser.add_argument("--messages", type=int, default=100)
    parser.add_argument("--first", type=int, default=1)
    parser.add_argument("--sessions", type=int, default=10)
    parser.add_argument("--size", type=int, default=10240)
    parser.add_argument("--to", default="user@bench.test", help="an address, in front of which a number is set")
    parser.add_argument("--plain", action="store_true", help="without TLS, to compare the generators")
    uvloop.run(_sessions(parser.parse_args()))


if __name__ == "__main__":
    main()
