"""Clients of SMTP and POP3 on asyncio's streams, written without the program's own engines: no error is shared."""

import asyncio
import base64
import ssl
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from tests.torture.letters import Letter

PATIENCE = 30.0  # seconds
LOST = (OSError, asyncio.IncompleteReadError, asyncio.LimitOverrunError, TimeoutError)
"""What a connection ends with when the host dies; `ssl.SSLError` is an `OSError`."""
_LIMIT = 1 << 22


class Refused(Exception):
    """The host answered, and not with success: what it said."""

    def __init__(self, said: str) -> None:
        super().__init__(said)
        self.for_now = said.startswith("4")


@dataclass(frozen=True, slots=True)
class Door:
    """Where a client connects. `implicit`: TLS from the first octet; else `tls` is started where there is any."""

    address: str
    port: int
    tls: ssl.SSLContext | None = None
    implicit: bool = False


class _Connection:
    def __init__(self) -> None:
        self._reader: asyncio.StreamReader
        self._writer: asyncio.StreamWriter

    async def _open(self, door: Door) -> None:
        tls = door.tls if door.implicit else None
        async with asyncio.timeout(PATIENCE):
            self._reader, self._writer = await asyncio.open_connection(door.address, door.port, ssl=tls, limit=_LIMIT)

    async def _line(self) -> bytes:
        async with asyncio.timeout(PATIENCE):
            return await self._reader.readuntil(b"\r\n")

    async def _say(self, data: bytes) -> None:
        self._writer.write(data)
        async with asyncio.timeout(PATIENCE):
            await self._writer.drain()

    def abort(self) -> None:
        """Leave without a word."""
        self._writer.transport.abort()


class SmtpClient(_Connection):
    """One connection to an MSA or an MX (RFC 5321, RFC 6409).

    `unanswered`: the whole of a message may have been sent, and no answer has come.
    """

    unanswered = False

    @classmethod
    async def connect(cls, door: Door, user: str | None = None, password: str = "") -> "SmtpClient":
        """Connect, and log in when there is a user. Raises what is in `LOST`, or `Refused`."""
        client = cls()
        await client._open(door)
        try:
            await client._expect(b"2")
            await client._ask(b"EHLO client.clients.test")
            if door.tls is not None and not door.implicit:
                await client._ask(b"STARTTLS")
                async with asyncio.timeout(PATIENCE):
                    await client._writer.start_tls(door.tls)
                await client._ask(b"EHLO client.clients.test")
            if user is not None:
                secret = base64.b64encode(f"\0{user}\0{password}".encode())
                await client._ask(b"AUTH PLAIN " + secret)
        except BaseException:
            client.abort()
            raise
        return client

    async def send(self, letter: Letter, *, pipelined: bool, sent: Callable[[], None]) -> str:
        """Send a message; return the last word of the answer that takes it. `sent` is called before that answer.

        Raises what is in `LOST`, or `Refused`.
        """
        commands = [b"MAIL FROM:<%s>" % letter.sender.encode()]
        commands += [b"RCPT TO:<%s>" % recipient.encode() for recipient in letter.recipients]
        if pipelined:
            await self._say(b"\r\n".join([*commands, b"DATA", b""]))
            for _ in commands:
                await self._expect(b"2")
            await self._expect(b"3")
        else:
            for command in commands:
                await self._ask(command)
            await self._ask(b"DATA", b"3")
        self.unanswered = True
        await self._say(letter.octets + b".\r\n")
        sent()
        try:
            answer = await self._expect(b"2")
        except Refused:
            self.unanswered = False
            raise
        self.unanswered = False
        return answer.split()[-1]

    async def quit(self) -> None:
        """Part in peace. Raises what is in `LOST`, or `Refused`."""
        await self._ask(b"QUIT")
        self._writer.close()

    async def _ask(self, command: bytes, wanted: bytes = b"2") -> str:
        await self._say(command + b"\r\n")
        return await self._expect(wanted)

    async def _expect(self, wanted: bytes) -> str:
        line = await self._line()
        while line[3:4] == b"-":
            line = await self._line()
        if not line.startswith(wanted):
            raise Refused(line.decode(errors="replace").strip())
        return line.decode(errors="replace").strip()


class Pop3Client(_Connection):
    """One session with a maildrop (RFC 1939), over TLS."""

    @classmethod
    async def connect(cls, door: Door, user: str, password: str) -> "Pop3Client":
        """Connect and log in. Raises what is in `LOST`, or `Refused`, as when another session holds the maildrop."""
        client = cls()
        await client._open(door)
        try:
            await client._answer()
            await client._ask(b"USER %s" % user.encode())
            await client._ask(b"PASS %s" % password.encode())
        except BaseException:
            client.abort()
            raise
        return client

    async def unique_ids(self) -> dict[int, str]:
        """Return the unique ids by message number."""
        await self._ask(b"UIDL")
        pairs = (line.split() for line in (await self._lines()).splitlines())
        return {int(number): unique.decode() for number, unique in pairs}

    async def retrieve(self, number: int) -> bytes:
        """Return all octets of a message."""
        await self._ask(b"RETR %d" % number)
        return await self._lines()

    async def delete(self, numbers: Sequence[int]) -> None:
        """Mark messages; they go at QUIT."""
        for number in numbers:
            await self._ask(b"DELE %d" % number)

    async def quit(self, *, sent: Callable[[], None]) -> None:
        """End the session; what was marked is gone when this returns. `sent` is called before the answer.

        Raises what is in `LOST`, or `Refused`.
        """
        await self._say(b"QUIT\r\n")
        sent()
        await self._answer()
        self._writer.close()

    async def _ask(self, command: bytes) -> None:
        await self._say(command + b"\r\n")
        await self._answer()

    async def _answer(self) -> None:
        line = await self._line()
        if not line.startswith(b"+OK"):
            raise Refused(line.decode(errors="replace").strip())

    async def _lines(self) -> bytes:
        """Return the lines up to the dot, without their stuffing."""
        lines = []
        while (line := await self._line()) != b".\r\n":
            lines.append(line[1:] if line.startswith(b"..") else line)
        return b"".join(lines)
