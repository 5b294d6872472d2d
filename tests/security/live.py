"""Workers of the service as they are, whole, in this process: real sockets on 127.0.0.1, real storage, real queue.

A `Live` host is what `service/processes/worker.py` runs, without the process around it; clients speak octets with it.
"""

import asyncio
import base64
import re
import socket
import ssl
import time
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field, replace
from ipaddress import ip_address, ip_network
from pathlib import Path
from types import TracebackType

from tests.service.sessions import CERTIFICATE, KEY, client_context

from waypost.config.settings import (
    Dns,
    Limits,
    Listener,
    ListenerProtocol,
    Outbound,
    QueueSettings,
    Route,
    Service,
    Settings,
    Tls,
)
from waypost.login.passwords import make_credentials
from waypost.protocol.sasl.client import ScramClient
from waypost.service.assembly import Assembly, assemble
from waypost.service.machine.secrets import Secrets
from waypost.service.sockets.acceptor import Acceptor
from waypost.storage import Alias, Filter, QueueEntry

PASSWORD = "curiouser and curiouser"
CREDENTIALS = make_credentials(PASSWORD)
"""Made once: it costs a tenth of a second."""

SECOND = 1_000_000
PATIENCE = 30.0


@dataclass
class Live:
    """A host: `settings` may be changed before it is opened."""

    settings: Settings
    ahead: int = 0
    """Microseconds that the host's clock is ahead of ours."""
    ports: dict[ListenerProtocol, int] = field(default_factory=dict)
    assembly: Assembly = field(init=False)
    _acceptors: list[tuple[Acceptor, socket.socket]] = field(default_factory=list)
    _clients: list["Wire"] = field(default_factory=list)
    _dispatching: asyncio.Task[None] | None = None

    async def __aenter__(self) -> "Live":
        self.settings.data.mkdir(parents=True)
        secrets = Secrets(CERTIFICATE, KEY, login=b"s" * 32)
        self.assembly = await assemble(self.settings, secrets, number=0, now=self.now)
        for listener in self.settings.listeners:
            sock = socket.create_server((str(listener.address), listener.port))
            sock.setblocking(False)
            acceptor = Acceptor(listener, sock, self.assembly.listening, self.assembly.sessions[listener.protocol])
            acceptor.open()
            self._acceptors.append((acceptor, sock))
            self.ports[listener.protocol] = sock.getsockname()[1]
        self._dispatching = asyncio.create_task(self.assembly.dispatcher.run())
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        async with AsyncExitStack() as rest:  # each step is taken, whatever the one before raises
            rest.push_async_callback(self.assembly.closing.aclose)
            rest.push_async_callback(self._stop_working)
            for acceptor, sock in self._acceptors:
                rest.callback(sock.close)
                rest.callback(acceptor.close)
            for wire in self._clients:
                rest.callback(wire.drop)

    async def _stop_working(self) -> None:
        assert self._dispatching is not None
        await asyncio.gather(self.assembly.listening.connections.stop(0.0), self.assembly.dispatcher.stop(0.0))
        await self._dispatching

    def now(self) -> int:
        return time.time_ns() // 1000 + self.ahead

    async def account(self, address: str, *, quota: int = 0) -> None:
        """Add an account with the password `PASSWORD`."""
        directory = self.assembly.storage.storage.directory
        await directory.add_account(address, CREDENTIALS, quota=quota, now=time.time_ns() // 1000)

    async def alias(self, address: str, *targets: str) -> None:
        await self.assembly.storage.storage.directory.set_alias(Alias(address, targets))

    async def inbox(self, address: str) -> list[bytes]:
        """Return the messages of an account."""
        storage = self.assembly.storage.storage
        account = await storage.directory.account(address)
        assert account is not None
        messages = []
        for one in await storage.mailboxes.messages(account.inbox):
            stored = await storage.mailboxes.open(account.inbox, one.uid)
            messages.append(await stored.read(0, stored.size))
        return messages

    async def queued(self) -> list[QueueEntry]:
        """Return what waits in the queue."""
        queue = self.assembly.storage.storage.queue
        return [entry async for entry in queue.entries(Filter(), now=time.time_ns() // 1000)]

    async def idle(self) -> None:
        """Return when the queue is empty: everything has been delivered, relayed or returned."""
        await until(lambda: self.queued(), lambda waiting: not waiting)

    async def client(
        self, protocol: ListenerProtocol = ListenerProtocol.SMTP, *, tls: bool = False, source: str = "127.0.0.1"
    ) -> "Wire":
        """Connect to a listener, `tls` from the first byte; the greeting is still to be read."""
        reader, writer = await asyncio.open_connection(
            "127.0.0.1",
            self.ports[protocol],
            limit=1 << 26,
            ssl=client_context() if tls else None,
            local_addr=(source, 0),
        )
        self._clients.append(Wire(reader, writer))
        return self._clients[-1]

    async def submitter(self, user: str) -> "Wire":
        """Return a client that has logged in on the submission port with TLS."""
        wire = await self.client(ListenerProtocol.SUBMISSIONS, tls=True)
        await wire.reply()
        await wire.say("EHLO laptop.test")
        scram = ScramClient(user, PASSWORD, plus=False, nonce="client")  # costs less than a password's check
        said = await wire.say(f"AUTH SCRAM-SHA-256 {_base64(scram.start())}")
        while said.startswith("334"):
            said = await wire.say(_base64(scram.step(base64.b64decode(said[4:]))))
        assert said.startswith("235"), said
        return wire


def _base64(octets: bytes) -> str:
    return base64.b64encode(octets).decode()


class Wire:
    """A client that sends octets, and reads replies of SMTP or status lines of POP3."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    async def send(self, data: bytes) -> None:
        self.writer.write(data)
        await self.writer.drain()

    async def line(self) -> str:
        """Return a line without its end; "" at the end of the connection."""
        line = await asyncio.wait_for(self.reader.readline(), PATIENCE)
        return line.decode().removesuffix("\r\n")

    async def reply(self) -> str:
        """Return the last line of the next reply."""
        while re.match(r"\d{3}-", line := await self.line()):
            pass
        return line

    async def say(self, *lines: str) -> str:
        """Send lines one after the other; returns the last reply."""
        reply = ""
        for line in lines:
            await self.send(line.encode() + b"\r\n")
            reply = await self.reply()
        return reply

    async def content(self, data: bytes) -> str:
        """Say DATA, then the content with its end; returns the reply to it."""
        assert (await self.say("DATA")).startswith("354")
        await self.send(data)
        return await self.reply()

    async def rest(self) -> bytes:
        """Return everything until the other side closes."""
        return await asyncio.wait_for(self.reader.read(-1), PATIENCE)

    async def start_tls(self) -> None:
        await self.writer.start_tls(client_context())

    def drop(self) -> None:
        """End the connection at once, unless that has begun: in Python 3.11.2, TLS closed twice cannot be aborted."""
        if not self.writer.transport.is_closing():
            self.writer.transport.abort()

    async def close(self) -> None:
        self.writer.close()
        try:
            await self.writer.wait_closed()
        except (OSError, ssl.SSLError):
            return


async def until(ask: Callable[[], object], reached: Callable[[object], object] = bool) -> object:
    """Ask until the answer is as wanted; for what the storage knows and announces nowhere."""
    async with asyncio.timeout(PATIENCE):
        while True:
            answer = ask()
            if asyncio.iscoroutine(answer):
                answer = await answer
            if reached(answer):
                return answer
            await asyncio.sleep(0.02)


def free_port() -> int:
    """Return a port of 127.0.0.1 that nobody uses."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        return int(server.getsockname()[1])


def host(
    folder: Path, domain: str, *, next_hop: tuple[str, int] | None = None, dns: int | None = None, port: int = 0
) -> Live:
    """Return a host mx.DOMAIN, not opened yet, that takes mail from others on `port`.

    `next_hop` is where mail for that domain goes, by its port on 127.0.0.1; `dns` the port of a name server.
    """
    protocols = (ListenerProtocol.SMTP, ListenerProtocol.SUBMISSION, ListenerProtocol.SUBMISSIONS)
    protocols += (ListenerProtocol.POP3, ListenerProtocol.LMTP)
    routes = (Route((next_hop[0],), "[127.0.0.1]", port=next_hop[1]),) if next_hop else ()
    settings = Settings(
        path=folder / "waypost.toml",
        hostname=f"mx.{domain}",
        domains=(domain,),
        data=folder / "data",
        listeners=tuple(
            Listener(protocol, ip_address("127.0.0.1"), port if protocol is ListenerProtocol.SMTP else 0)
            for protocol in protocols
        ),
        tls=Tls(folder / "cert.pem", folder / "key.pem"),
        dns=Dns(servers=((ip_address("127.0.0.1"), dns or 9),), timeout=SECOND),
        outbound=Outbound(allow_private_addresses=dns is None, command_timeout=5 * SECOND, data_timeout=5 * SECOND),
        queue=QueueSettings(retry=(SECOND // 10,), expire=SECOND, delayed_notice=0),
        limits=Limits(exempt_networks=(ip_network("127.0.0.0/8"),)),
        service=Service(workers=1),
        routes=routes,
    )
    return Live(settings)


def changed(live: Live, **parts: object) -> Live:
    """Return the host with parts of its settings replaced: `limits={"errors": 3}`."""
    settings = live.settings
    for name, values in parts.items():
        if isinstance(values, dict):
            values = replace(getattr(settings, name), **values)
        settings = replace(settings, **{name: values})
    return Live(settings)


class Recorder:
    """A mail server that keeps every octet of its clients, and takes everything. It offers `offers` in EHLO."""

    def __init__(self, *offers: str, answers: dict[str, str] | None = None) -> None:
        self.offers = offers
        self.answers = answers or {}
        self.port = 0
        self.heard: list[bytearray] = []
        self.contents: list[bytes] = []
        """What followed each 354 or BDAT, as it stood on the wire."""
        self.connections = 0

    @asynccontextmanager
    async def open(self, address: str = "127.0.0.1") -> AsyncIterator["Recorder"]:
        """Listen."""
        server = await asyncio.start_server(self._serve, address, 0, limit=1 << 26)
        self.port = server.sockets[0].getsockname()[1]
        try:
            yield self
        finally:
            server.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        heard = bytearray()
        self.heard.append(heard)
        self.connections += 1
        try:
            await self._talk(reader, writer, heard)
        except (OSError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.close()

    async def _talk(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, heard: bytearray) -> None:
        writer.write(self._answer("GREETING", "220 mx.there.test ESMTP\r\n"))
        while line := await reader.readuntil(b"\r\n"):
            heard += line
            verb = line[:4].decode("latin-1").strip().upper()
            if verb == "EHLO":
                lines = ["mx.there.test", *self.offers]
                writer.write("".join(f"250-{offer}\r\n" for offer in lines).encode() + b"250 HELP\r\n")
            elif verb == "DATA":
                writer.write(b"354 go\r\n")
                content = b""
                while not (b"\r\n" + content).endswith(b"\r\n.\r\n"):
                    content += await reader.readuntil(b".\r\n")
                heard += content
                self.contents.append(content)
                writer.write(self._answer("CONTENT", "250 2.0.0 taken\r\n"))
            elif verb == "BDAT":
                content = await reader.readexactly(int(line.split()[1]))
                heard += content
                self.contents.append(content)
                writer.write(b"250 2.0.0 taken\r\n")
            elif verb == "QUIT":
                writer.write(b"221 2.0.0 bye\r\n")
                return
            else:
                writer.write(self._answer(verb, "250 2.0.0 ok\r\n"))

    def _answer(self, stage: str, default: str) -> bytes:
        return self.answers.get(stage, default).encode("utf-8", "surrogateescape")
