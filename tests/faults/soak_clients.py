"""The clients of the soak: `python -m tests.faults.soak_clients PORTS COUNT SEED`. Each connection fails in some way.

Prints how many there were of each kind, and how many messages were acknowledged, as one JSON object.
"""

import asyncio
import contextlib
import json
import random
import socket
import ssl
import struct
import sys
from collections import Counter
from collections.abc import Awaitable, Callable

import uvloop

_AT_ONCE = 100
_PATIENCE = 30.0
_SOURCES = 200  # loopback addresses that clients come from
_HELLO = b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03"
_ENVELOPE = b"EHLO caller.there.test\r\nMAIL FROM:<>\r\nRCPT TO:<%s>\r\n"
_BOB, _CAROL = b"bob@here.test", b"carol@there.test"
_CONTENT = b"Subject: soak\r\n\r\n" + b"How do you do?\r\n" * 20


class Client:
    """Makes connections, from many addresses."""

    def __init__(self, ports: dict[str, int], seed: int) -> None:
        self.ports = ports
        self.chance = random.Random(seed)
        self.acknowledged = 0
        self._seed = seed
        self._serial = 0
        self._loop = asyncio.get_running_loop()
        self._context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        self._context.check_hostname, self._context.verify_mode = False, ssl.CERT_NONE

    async def dial(self, door: str) -> socket.socket:
        """Connect."""
        sock = socket.socket()
        sock.setblocking(False)
        try:
            sock.bind((f"127.0.1.{self.chance.randint(1, _SOURCES)}", 0))
            await self._loop.sock_connect(sock, ("127.0.0.1", self.ports[door]))
        except OSError:
            sock.close()
            raise
        return sock

    async def say(self, door: str, octets: bytes, *, read: bool = False, reset: bool = False) -> None:
        """Connect, send octets, maybe read one answer, and end."""
        sock = await self.dial(door)
        try:
            if octets:
                await self._loop.sock_sendall(sock, octets)
            if read:
                await self._loop.sock_recv(sock, 4096)
        finally:
            self.end(sock, reset)

    @staticmethod
    def end(sock: socket.socket, reset: bool) -> None:
        """Close in peace or with a reset."""
        if reset:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        sock.close()

    async def tls(self, door: str, octets: bytes) -> None:
        """Shake hands, send octets, and vanish."""
        sock = await self.dial(door)
        _, writer = await asyncio.open_connection(sock=sock, ssl=self._context, server_hostname="")
        writer.write(octets)
        writer.transport.abort()

    async def upgrade(self, door: str, command: bytes, octets: bytes) -> None:
        """Ask for TLS, and send something else."""
        sock = await self.dial(door)
        try:
            await self._loop.sock_recv(sock, 4096)
            await self._loop.sock_sendall(sock, command)
            await self._loop.sock_recv(sock, 4096)
            await self._loop.sock_sendall(sock, octets)
        finally:
            self.end(sock, self.chance.random() < 0.5)

    async def whole(self, recipient: bytes) -> None:
        """Send a whole message, and count its acknowledgement."""
        sock = await self.dial("smtp")
        try:
            await self._loop.sock_sendall(sock, _ENVELOPE % recipient + b"DATA\r\n")
            seen = b""
            while b"354 " not in seen:
                seen += await self._some(sock)
            self._serial += 1
            token = b"X-Token: %d-%d\r\n" % (self._seed, self._serial)
            await self._loop.sock_sendall(sock, token + _CONTENT + b".\r\n")
            answer = await self._some(sock)
            self.acknowledged += answer.startswith(b"250")
        finally:
            self.end(sock, self.chance.random() < 0.5)

    async def _some(self, sock: socket.socket) -> bytes:
        octets = await self._loop.sock_recv(sock, 4096)
        if not octets:
            raise ConnectionError("closed")
        return octets


Kind = Callable[[Client], Awaitable[None]]


def _rubbish(client: Client, size: int) -> bytes:
    return client.chance.randbytes(size)


def _proxy(client: Client) -> bytes:
    header = b"PROXY TCP4 127.0.2.%d 127.0.0.1 4711 24\r\n" % client.chance.randint(1, _SOURCES)
    return client.chance.choice(
        [_rubbish(client, 50), header[:20], header, header + b"LHLO a.test\r\nMAIL FROM:<>\r\n"]
    )


KINDS: dict[str, tuple[int, Kind]] = {
    "connect and close": (10, lambda c: c.say("smtp", b"")),
    "connect and reset": (10, lambda c: c.say("smtp", b"", reset=True)),
    "rubbish": (8, lambda c: c.say("smtp", _rubbish(c, 4000))),
    "lines of rubbish": (8, lambda c: c.say("smtp", b"\r\n".join([_rubbish(c, 30)] * 30), reset=True)),
    "early QUIT": (8, lambda c: c.say("smtp", b"EHLO a.test\r\nQUIT\r\n", read=True)),
    "half a content": (8, lambda c: c.say("smtp", _ENVELOPE % _BOB + b"DATA\r\n" + _CONTENT)),
    "half a content, reset": (8, lambda c: c.say("smtp", _ENVELOPE % _BOB + b"DATA\r\n" + _CONTENT, reset=True)),
    "half a large content": (
        3,
        lambda c: c.say("smtp", _ENVELOPE % _BOB + b"DATA\r\n" + _CONTENT * 500, reset=c.chance.random() < 0.5),
    ),
    "half a chunk": (5, lambda c: c.say("smtp", _ENVELOPE % _BOB + b"BDAT 9999\r\n" + _CONTENT)),
    "does not read": (2, lambda c: c.say("smtp", b"HELP\r\n" * 5000, reset=True)),
    "STARTTLS and rubbish": (5, lambda c: c.upgrade("submission", b"EHLO a.test\r\nSTARTTLS\r\n", _rubbish(c, 100))),
    "TLS rubbish": (6, lambda c: c.say("submissions", _rubbish(c, 200), read=True)),
    "half a handshake": (6, lambda c: c.say("pop3s", _HELLO, reset=c.chance.random() < 0.5)),
    "TLS and gone": (3, lambda c: c.tls("submissions", b"EHLO a.test\r\nAUTH PLAIN\r\n")),
    "TLS and gone, POP3": (3, lambda c: c.tls("pop3s", b"USER bob@here.test\r\nAUTH SCRAM-SHA-256\r\n")),
    "POP3 rubbish": (5, lambda c: c.say("pop3", _rubbish(c, 4000))),
    "POP3 USER": (5, lambda c: c.say("pop3", b"CAPA\r\nUSER bob\r\n", read=True, reset=True)),
    "STLS and gone": (5, lambda c: c.upgrade("pop3", b"STLS\r\n", _HELLO)),
    "PROXY junk": (6, lambda c: c.say("lmtp", _proxy(c), reset=c.chance.random() < 0.5)),
    "a message": (1, lambda c: c.whole(_BOB)),
    "a message to relay": (1, lambda c: c.whole(_CAROL)),
}


async def run(ports: dict[str, int], count: int, seed: int) -> dict[str, int]:
    """Make the connections, some at once; return the counts."""
    client = Client(ports, seed)
    weights = [weight for weight, _ in KINDS.values()]
    counts: Counter[str] = Counter()
    left = iter(range(count))

    async def one_after_the_other() -> None:
        for _ in left:
            [name] = client.chance.choices(list(KINDS), weights)
            counts[name] += 1
            with contextlib.suppress(OSError):
                async with asyncio.timeout(_PATIENCE):
                    await KINDS[name][1](client)

    await asyncio.gather(*(one_after_the_other() for _ in range(_AT_ONCE)))
    return {**counts, "acknowledged": client.acknowledged}


if __name__ == "__main__":
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        print(json.dumps(runner.run(run(json.loads(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])))))
