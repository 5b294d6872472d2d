"""A load generator for what Postfix's `smtp-source` does not speak: STARTTLS, and logins; made to its pattern.

    python -m bench.smtp_source ADDRESS PORT --messages N --sessions N --size OCTETS [--plain] [--kept [--login]]

A message a connection, no pipelining, no session resumed, certificates not verified, recipients numbered from
`--first` on as `smtp-source -N` does. It begins when its standard input ends (see `bench/clients.py`). With `--kept`
connections are plain, opened (and logged in) before that, and each sends in the name of an account of its own.
"""

import argparse
import asyncio
import base64
import os
import ssl
from collections.abc import Iterator
from contextlib import contextmanager
from typing import cast

import uvloop

from bench import clients
from bench.world import DOMAIN, PASSWORD

_PROCESSES = 2
_SENDER = "sender@elsewhere.test"


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


def letter(size: int, sender: str = _SENDER) -> bytes:
    """Return a message whose content has about `size` octets, and the dot behind it."""
    head = f"From: <{sender}>\r\n".encode() + b"To: <user@bench.test>\r\nMessage-Id: <%b@source.test>\r\n\r\n"
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
        await transact(talk, _SENDER, recipients, content)
        await talk.say(b"QUIT")
    finally:
        if talk.transport is not None:
            talk.transport.close()


async def transact(talk: Talk, sender: str, recipients: list[str], content: bytes) -> None:
    """Send one message on a connection that has said EHLO. Raises `RuntimeError`."""
    await talk.say(f"MAIL FROM:<{sender}>".encode())
    for recipient in recipients:
        await talk.say(f"RCPT TO:<{recipient}>".encode())
    await talk.say(b"DATA")
    await talk.say(content.replace(b"%b", recipients[0].encode().replace(b"@", b".") + os.urandom(8).hex().encode()))


async def _kept(options: argparse.Namespace) -> None:
    """Send on connections that stand, and have logged in, before the clock."""
    talks: list[tuple[Talk, str]] = []
    for number in range(options.account, options.account + options.sessions):
        _, talk = await asyncio.get_running_loop().create_connection(Talk, options.address, options.port)
        account = f"user{number}@{DOMAIN}"
        await talk.greeting()
        await talk.say(b"EHLO bench.source.test")
        if options.login:
            await talk.say(b"AUTH PLAIN " + base64.b64encode(f"\0{account}\0{PASSWORD}".encode()))
        talks.append((talk, account))
    numbers = iter(range(options.first, options.first + options.messages))

    async def session(talk: Talk, account: str) -> None:
        content = letter(options.size, account)
        for number in numbers:
            await transact(talk, account, [f"{number}{options.to}"], content)
        await talk.say(b"QUIT")

    await clients.told_to_go()
    await asyncio.gather(*(session(talk, account) for talk, account in talks))


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
def prepared(
    address: str,
    port: int,
    *,
    messages: int,
    sessions: int,
    size: int,
    to: str,
    kept: bool = False,
    login: bool = False,
) -> Iterator[clients.Clients]:
    """Prepare processes that send `messages` once they are told to go: over TLS, or on `kept` plain connections that
    have logged in where `login` says so.
    """
    arguments: list[list[str]] = []
    flags = (["--kept"] if kept else []) + (["--login"] if login else [])
    first, account = 1, 0
    processes = min(_PROCESSES, sessions)
    for share, busy in zip(clients.shares(messages, processes), clients.shares(sessions, processes), strict=True):
        options = {
            "messages": share,
            "first": first,
            "sessions": busy,
            "size": size,
            "to": to,
            "account": account,
        }
        arguments.append([address, str(port), *flags, *(f"--{name}={value}" for name, value in options.items())])
        first += share
        account += busy
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
    parser.add_argument("--kept", action="store_true", help="without TLS, on connections that are kept")
    parser.add_argument("--login", action="store_true", help="with --kept: log in, each session by its own account")
    parser.add_argument("--account", type=int, default=0, help="with --kept: the number of the first session's account")
    options = parser.parse_args()
    uvloop.run(_kept(options) if options.kept else _sessions(options))


if __name__ == "__main__":
    main()
