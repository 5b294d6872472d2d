"""A mail server on loopback that behaves as a test wants at each stage, and remembers what it was told."""

import asyncio
import base64
import contextlib
import socket
import ssl
import struct
from collections.abc import Callable
from dataclasses import dataclass, field
from ipaddress import ip_address
from typing import NoReturn

from waypost.config.settings import TlsPolicy
from waypost.transport.next_hops import NextHops, Server

STALL = "stall"
"""Never answer."""
CLOSE = "close"
"""Close the connection."""
GARBAGE = "garbage"
"""Answer what is no SMTP."""
RESET = "reset"
"""Break the connection off (RST)."""
ENDLESS = "endless"
"""Answer a line that never ends, as fast as it is read."""
TRICKLE = "trickle"
"""Answer line by line of a reply that never ends."""

Answer = str | Callable[["Visit", str], str]


@dataclass
class Visit:
    """One connection."""

    number: int
    peer: str
    tls: str | None = None
    lines: list[str] = field(default_factory=list)
    messages: int = 0
    quit: bool = False


@dataclass(frozen=True)
class Taken:
    """One message that was taken."""

    visit: int
    mail: str
    recipients: tuple[str, ...]
    content: bytes


class _Gone(Exception):
    pass


class MailServer:
    """Serves from `start` to `stop`. `answers[stage]` changes what is said at GREETING, EHLO, STARTTLS, AUTH, MAIL,
    RCPT, DATA, CONTENT, RSET or QUIT: a reply, a list of lines, one of the words above, or a function."""

    def __init__(
        self,
        *offers: str,
        address: str = "127.0.0.1",
        lmtp: bool = False,
        tls: ssl.SSLContext | None = None,
        implicit: bool = False,
        **answers: Answer,
    ) -> None:
        self.offers = offers
        self.address = address
        self.lmtp = lmtp
        self.tls = tls
        self.implicit = implicit
        self.answers: dict[str, Answer] = dict(answers)
        self.broken_handshakes: list[str] = []
        """What becomes of the first handshakes after the 220, in their order: RESET, CLOSE or STALL."""
        self.login: Callable[[str], Callable[[bytes], bytes | str | None]] | None = None
        """Makes, for a mechanism, the exchange: a response in, a challenge or the final reply out."""
        self.visits: list[Visit] = []
        self.taken: list[Taken] = []
        self.open = 0
        self.most_open = 0
        self.port = 0
        self.limit = 1 << 27
        """How many octets it reads ahead."""
        self.changed = asyncio.Event()
        self._tasks: set[asyncio.Task[None]] = set()
        self._server: asyncio.Server | None = None

    async def start(self) -> "MailServer":
        """Listen on a port of the system's choice."""
        self._server = await asyncio.start_server(
            self._accepted, self.address, self.port, ssl=self.tls if self.implicit else None, limit=self.limit
        )
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def stop(self) -> None:
        """Stop listening, and drop who is connected."""
        if self._server is not None:
            self._server.close()
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def __aenter__(self) -> "MailServer":
        return await self.start()

    async def __aexit__(self, *error: object) -> None:
        await self.stop()

    def place(self, name: str | None = "mx.test") -> Server:
        """Where it is."""
        return Server(name, ip_address(self.address), self.port)

    def way(self, tls: TlsPolicy = TlsPolicy.OPPORTUNISTIC) -> NextHops:
        """The way to this server alone."""
        return NextHops((self.place(),), self.lmtp, tls)

    async def until(self, condition: Callable[[], object]) -> None:
        """Wait until something is true of this server."""
        while not condition():
            self.changed.clear()
            await self.changed.wait()

    # -- one connection ------------------------------------------------------------------------------------

    async def _accepted(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        visit = Visit(len(self.visits), writer.get_extra_info("peername")[0])
        self.visits.append(visit)
        self.open += 1
        self.most_open = max(self.most_open, self.open)
        self.changed.set()
        try:
            await _Session(self, visit, reader, writer).run()
        except (OSError, EOFError, asyncio.LimitOverrunError, _Gone):
            pass
        except asyncio.CancelledError:
            pass
        finally:
            self.open -= 1
            writer.transport.abort()
            self._tasks.discard(task)
            self.changed.set()


class _Session:
    def __init__(
        self, server: MailServer, visit: Visit, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        self.server = server
        self.visit = visit
        self.reader = reader
        self.writer = writer
        self.mail = ""
        self.recipients: list[str] = []

    async def run(self) -> None:
        if self.server.implicit:
            self._note_tls()
        await self.say("GREETING", "220 mx.test ready")
        while True:
            line = (await self.reader.readuntil(b"\r\n")).decode()[:-2]
            self.visit.lines.append(line)
            self.server.changed.set()
            await self.command(line.split(" ")[0].upper(), line)

    async def say(self, stage: str, usual: str, line: str = "") -> bool:
        """Say the answer of a stage; True when it is a good one."""
        answer = self.server.answers.get(stage, usual)
        if callable(answer):
            answer = answer(self.visit, line)
        if answer == STALL:
            await asyncio.Event().wait()
        if answer == CLOSE:
            raise _Gone
        if answer == RESET:
            self.break_off()
        while answer in (ENDLESS, TRICKLE):
            self.writer.write(b"x" * 65536 if answer == ENDLESS else b"250-still here\r\n")
            await self.writer.drain()
            await asyncio.sleep(0.0 if answer == ENDLESS else 0.02)
        if answer == GARBAGE:
            answer = "\x16\x03 what is this?"
        self.writer.write(answer.encode() + b"\r\n")
        await self.writer.drain()
        if answer.startswith("421"):
            raise _Gone
        return answer[:1] in "23"

    async def command(self, verb: str, line: str) -> None:
        match verb:
            case "EHLO" | "LHLO":
                offers = (
                    self.server.offers if self.visit.tls is None else [o for o in self.server.offers if o != "STARTTLS"]
                )
                lines = ["mx.test", *offers]
                text = "\r\n".join([f"250-{one}" for one in lines[:-1]] + [f"250 {lines[-1]}"])
                await self.say("EHLO", text, line)
            case "HELO":
                await self.say("HELO", "250 mx.test", line)
            case "STARTTLS":
                await self.start_tls(line)
            case "AUTH":
                await self.log_in(line)
            case "MAIL":
                if await self.say("MAIL", "250 2.1.0 ok", line):
                    self.mail, self.recipients = line, []
            case "RCPT":
                if await self.say("RCPT", "250 2.1.5 ok", line):
                    self.recipients.append(line.split("<")[1].split(">")[0])
            case "DATA":
                if not self.recipients:
                    await self.say("DATA", "503 5.5.1 nobody", line)
                elif await self.say("DATA", "354 go", line):
                    await self.take(await self.content())
            case "BDAT":
                await self.chunks(line)
            case "RSET":
                await self.say("RSET", "250 2.0.0 forgotten", line)
            case "QUIT":
                self.visit.quit = True
                await self.say("QUIT", "221 2.0.0 bye", line)
                raise _Gone
            case _:
                await self.say("UNKNOWN", "500 5.5.1 what?", line)

    async def content(self) -> bytes:
        read = bytearray(b"\r\n")
        while not read.endswith(b"\r\n.\r\n"):
            read += await self.reader.readuntil(b".\r\n")
        return bytes(read[:-3]).replace(b"\r\n..", b"\r\n.")[2:]

    async def chunks(self, line: str) -> None:
        content = b""
        while True:
            content += await self.reader.readexactly(int(line.split(" ")[1]))
            if line.endswith(" LAST"):
                break
            await self.say("CHUNK", "250 2.0.0 so far", line)
            line = (await self.reader.readuntil(b"\r\n")).decode()[:-2]
        if self.recipients:
            await self.take(content)
        else:
            await self.say("BDAT", "503 5.5.1 nobody", line)

    async def take(self, content: bytes) -> None:
        if self.server.lmtp:
            taken = [one for one in self.recipients if await self.say("CONTENT", "250 2.1.5 taken", one)]
        else:
            taken = self.recipients if await self.say("CONTENT", "250 2.0.0 taken") else []
        if taken:
            self.visit.messages += 1
            self.server.taken.append(Taken(self.visit.number, self.mail, tuple(taken), content))
            self.server.changed.set()

    async def log_in(self, line: str) -> None:
        if self.server.login is None:
            await self.say("AUTH", "535 5.7.8 no", line)
            return
        exchange = self.server.login(line.split(" ")[1])
        response = base64.b64decode(line.split(" ")[2])
        while (challenge := exchange(response)) is not None:
            if isinstance(challenge, str):
                self.writer.write(challenge.encode() + b"\r\n")
                return
            self.writer.write(b"334 " + base64.b64encode(challenge) + b"\r\n")
            answer = (await self.reader.readuntil(b"\r\n"))[:-2]
            self.visit.lines.append(answer.decode())
            if answer == b"*":
                self.writer.write(b"501 5.7.0 cancelled\r\n")
                return
            response = base64.b64decode(answer)

    def break_off(self) -> NoReturn:
        """End the connection by a reset."""
        linger = struct.pack("ii", 1, 0)
        self.writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
        raise _Gone

    async def start_tls(self, line: str) -> None:
        if not await self.say("STARTTLS", "220 2.0.0 go", line):
            return
        if self.server.broken_handshakes:
            match self.server.broken_handshakes.pop(0):
                case "reset":
                    self.break_off()
                case "stall":
                    await asyncio.Event().wait()
                case "close":
                    raise _Gone
        if self.server.tls is None:  # broken: what comes is no handshake
            await self.reader.read(1)
            self.writer.write(b"I can't do this\r\n")
            raise _Gone
        await self.writer.start_tls(self.server.tls)
        self._note_tls()

    def _note_tls(self) -> None:
        self.visit.tls = self.writer.get_extra_info("ssl_object").version()


def plain_login(user: str, password: str) -> Answer:
    """AUTH that knows one user by PLAIN."""
    expected = base64.b64encode(f"\0{user}\0{password}".encode()).decode()
    return lambda visit, line: "235 2.7.0 welcome" if line == f"AUTH PLAIN {expected}" else "535 5.7.8 no"


@contextlib.asynccontextmanager
async def closed_port():  # type: ignore[no-untyped-def]
    """A place where nobody listens."""
    server = await MailServer().start()
    await server.stop()
    yield server.place("closed.test")
