"""A session by script, and clients that misbehave: what the connection's tests are played with."""

import asyncio
import contextlib
import socket
import ssl
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from typing import Any

from waypost.protocol.session import Ending, Next, Peer, Session, TlsInfo
from waypost.service.machine.certificates import self_signed
from waypost.service.sockets.tls import ServerTls

CERTIFICATE, KEY = self_signed(["mx.example.org"], datetime.now(UTC))


def server_tls() -> ServerTls:
    return ServerTls.from_pem(CERTIFICATE, KEY)


def client_context() -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


class Script(Session):
    """Answers lines: `say WORDS`, `starttls`, `quit`, `wait` (for `go`), `rest SECONDS`, `pour N` (octets, drained),
    `busy`, `free`, `fail`. `seen` tells the whole story in order. What is in `news` is said first, by `tell`."""

    def __init__(self, *, patience: float = 60.0, most: int = 1 << 20) -> None:
        self.drain: Callable[[], Awaitable[None]] | None = None
        self.pause: Callable[[float], Awaitable[None]] | None = None
        self.wake: Callable[[], None] | None = None
        self.news: list[str] = []
        self.patience = patience
        self.most = most
        self.seen: list[str] = []
        self.peer: Peer | None = None
        self.tls: TlsInfo | None = None
        self.go = asyncio.Event()
        self.waits = asyncio.Event()
        self.gone = asyncio.Event()
        self._input = b""
        self._output: list[bytes] = []
        self._eof = False
        self._busy = False
        self._over = False
        self._inside = False

    async def start(self, peer: Peer) -> Next:
        self.peer = peer
        self.say("hello")
        return Next.READ

    def say(self, words: str) -> None:
        self._output.append(words.encode() + b"\r\n")

    def receive(self, data: bytes) -> None:
        assert self.wants_input
        assert not self.gone.is_set()
        self._input += data

    def receive_eof(self) -> None:
        assert not self._eof
        self._eof = True
        self.seen.append("eof")

    @property
    def wants_input(self) -> bool:
        return len(self._input) < self.most

    async def advance(self) -> Next:
        assert not self._inside, "calls overlap"
        self._inside = True
        try:
            return await self._advance()
        finally:
            self._inside = False

    def tell(self, news: str) -> None:
        """Something outside has changed for the session."""
        self.news.append(news)
        assert self.wake is not None
        self.wake()

    async def _advance(self) -> Next:
        while self.news and not self._over:
            self.say(self.news.pop(0))
        while not self._over and b"\r\n" in self._input:
            line, _, self._input = self._input.partition(b"\r\n")
            words = line.decode("latin-1")
            self.seen.append(words[:40])
            command, _, argument = words.partition(" ")
            if command == "say":
                self.say(argument)
            elif command == "quit":
                self.say("bye")
                return Next.CLOSE
            elif command == "starttls":
                self.say("ready")
                return Next.START_TLS
            elif command == "wait":
                self.waits.set()
                await self.go.wait()
                self.say("waited")
            elif command == "pour":
                await self._pour(int(argument))
            elif command == "rest":
                assert self.pause is not None
                self.waits.set()
                await self.pause(float(argument))
                self.say("rested")
            elif command in ("busy", "free"):
                self._busy = command == "busy"
                self.say(command)
            elif command == "fail":
                self.say("before the fault")
                raise RuntimeError("as the script says")
        return Next.CLOSE if self._eof or self._over else Next.READ

    async def _pour(self, octets: int) -> None:
        assert self.drain is not None
        while octets > 0:
            self._output.append(b"x" * min(octets, 16384))
            octets -= 16384
            await self.drain()
            assert not self._output

    def take_output(self) -> bytes:
        output = b"".join(self._output)
        self._output.clear()
        return output

    def tls_started(self, tls: TlsInfo) -> None:
        self.tls = tls
        self._input = b""
        self.seen.append("tls")

    @property
    def busy(self) -> bool:
        return self._busy

    @property
    def timeout(self) -> float:
        return self.patience

    def shut_down(self, why: Ending) -> None:
        if not self._over:
            self._over = True
            words = "timed out" if why is Ending.TIMED_OUT else "farewell"
            self.say(words)
            self.seen.append(words)

    def closed(self) -> None:
        assert not self.gone.is_set(), "closed twice"
        assert not self._inside, "closed while it works"
        self.seen.append("closed")
        self.gone.set()


class Client:
    """A blocking client with a short patience; used in a thread."""

    def __init__(
        self, port: int, *, host: str = "127.0.0.1", implicit: bool = False, window: int | None = None
    ) -> None:
        """`window`: octets that the kernel takes ahead of us, so that little suffices to fill what is between."""
        self.socket = socket.socket()
        self.socket.settimeout(20)
        if window is not None:
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, window)
        self.socket.connect((host, port))
        if implicit:
            self.start_tls()

    def send(self, *lines: str) -> None:
        self.socket.sendall("".join(line + "\r\n" for line in lines).encode())

    def line(self) -> str:
        """The next line; "" at the end."""
        line = b""
        while not line.endswith(b"\r\n"):
            octet = self.socket.recv(1)
            if not octet:
                break
            line += octet
        return line.decode().rstrip("\r\n")

    def rest(self) -> bytes:
        """Everything until the end, or until the connection breaks."""
        octets = bytearray()
        with contextlib.suppress(ConnectionError, ssl.SSLError):
            while part := self.socket.recv(1 << 16):
                octets += part
        return bytes(octets)

    def start_tls(self) -> None:
        self.socket = client_context().wrap_socket(self.socket, suppress_ragged_eofs=False)

    def reset(self) -> None:
        """Close so that the other end gets a reset."""
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\x00\x00\x00\x00\x00\x00\x00")
        self.socket.close()

    def close(self) -> None:
        self.socket.close()


async def in_thread(work: Callable[..., Any], *arguments: Any) -> Any:
    return await asyncio.wait_for(asyncio.to_thread(work, *arguments), 40)
