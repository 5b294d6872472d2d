"""A client that speaks line by line, and can misbehave at any moment; blocking calls never hold up the loop."""

import asyncio
import base64
import contextlib
import socket
import ssl
import struct
from typing import ClassVar

from tests.faults.office import PASSWORD

PATIENCE = 30.0


def any_certificate() -> ssl.SSLContext:
    """Return a context that takes every certificate."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    return context


class Refused(AssertionError):
    """The server said no where a yes was needed; the text is what it said."""


def _wanted(answer: str, start: str) -> None:
    if not answer.startswith(start):
        raise Refused(answer)


class Caller:
    """One connection to a door. `everybody` are those that did not hang up."""

    everybody: ClassVar[set["Caller"]] = set()

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer
        self.everybody.add(self)

    @classmethod
    async def dial(cls, port: int, *, tls: ssl.SSLContext | None = None) -> "Caller":
        """Connect; with `tls` the handshake comes first."""
        async with asyncio.timeout(PATIENCE):
            reader, writer = await asyncio.open_connection(
                "127.0.0.1", port, ssl=tls, server_hostname=None if tls is None else "mx.here.test"
            )
        return cls(reader, writer)

    @classmethod
    async def smtp(cls, port: int, name: str = "caller.there.test") -> "Caller":
        """Connect, and say EHLO."""
        caller = await cls.dial(port)
        await caller.greet(name)
        return caller

    async def greet(self, name: str = "caller.there.test") -> None:
        """Read the greeting, and say EHLO. Raises `Refused`."""
        _wanted(await self.reply(), "220")
        _wanted(await self.say(f"EHLO {name}"), "250")

    @classmethod
    async def submission(cls, port: int, user: str) -> "Caller":
        """Connect to an implicit TLS port, say EHLO, and log in. Raises `Refused`."""
        caller = await cls.dial(port, tls=any_certificate())
        try:
            await caller.greet("laptop.here.test")
            word = base64.b64encode(f"\0{user}\0{PASSWORD}".encode()).decode()
            _wanted(await caller.say(f"AUTH PLAIN {word}"), "235")
        except Refused:
            caller.hang_up()
            raise
        return caller

    @classmethod
    async def pop3(cls, port: int, user: str, *, password: str = PASSWORD) -> "Caller":
        """Connect to an implicit TLS port, and log in. Raises `Refused`."""
        caller = await cls.dial(port, tls=any_certificate())
        try:
            _wanted(await caller.line(), "+OK")
            _wanted(await caller.ask(f"USER {user}"), "+OK")
            _wanted(await caller.ask(f"PASS {password}"), "+OK")
        except Refused:
            caller.hang_up()
            raise
        return caller

    async def send(self, data: bytes) -> None:
        """Send octets."""
        self.writer.write(data)
        async with asyncio.timeout(PATIENCE):
            await self.writer.drain()

    async def line(self) -> str:
        """Return the next line; "" at the end."""
        async with asyncio.timeout(PATIENCE):
            return (await self.reader.readline()).decode().rstrip("\r\n")

    async def reply(self) -> str:
        """Return the last line of the next SMTP reply; "" at the end."""
        while (line := await self.line())[3:4] == "-":
            continue
        return line

    async def say(self, line: str) -> str:
        """Send a line; return the SMTP reply's last line."""
        await self.send(line.encode() + b"\r\n")
        return await self.reply()

    async def ask(self, line: str) -> str:
        """Send a line; return the one-line answer of POP3."""
        await self.send(line.encode() + b"\r\n")
        return await self.line()

    async def listing(self) -> list[str]:
        """Return the lines of a multi-line answer of POP3, whose first line was read."""
        lines: list[str] = []
        while (line := await self.line()) != ".":
            lines.append(line)
        return lines

    async def message(self, sender: str, recipients: list[str], content: bytes) -> str:
        """Send a message; return the reply that decided it."""
        for line in (f"MAIL FROM:<{sender}>", *(f"RCPT TO:<{one}>" for one in recipients), "DATA"):
            reply = await self.say(line)
            if reply[:1] not in ("2", "3"):
                await self.say("RSET")
                return reply
        await self.send(content.replace(b"\r\n.", b"\r\n..") + b".\r\n")
        return await self.reply()

    async def start_tls(self, context: ssl.SSLContext | None = None) -> None:
        """Shake hands on the connection as it is."""
        async with asyncio.timeout(PATIENCE):
            await self.writer.start_tls(context or any_certificate(), server_hostname="mx.here.test")

    async def rest(self) -> bytes:
        """Return everything until the end, or until the connection breaks."""
        octets = b""
        with contextlib.suppress(ConnectionError, ssl.SSLError):
            async with asyncio.timeout(PATIENCE):
                while part := await self.reader.read(65536):
                    octets += part
        return octets

    def hang_up(self) -> None:
        """Close in peace; may be called twice."""
        self.everybody.discard(self)
        self.writer.close()

    def reset(self) -> None:
        """Close so that the other end gets a reset."""
        self.everybody.discard(self)
        sock = self.writer.get_extra_info("socket")
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.writer.transport.abort()
