"""The sink: a scripted mail server that takes, refuses and stalls by name, and remembers what it answered for.

Local parts: `hard` is refused at RCPT, `late` after the message, `soft` is put off the first time; others are taken.
Sometimes it closes instead of an answer, without having taken anything.
"""

import asyncio
import random
import re
import time
from collections import Counter
from dataclasses import dataclass

from tests.torture.moments import Moment, Moments
from tests.torture.promises import Copy, Promises

_PATH = re.compile(rb"<([^>]*)>")
_PATIENCE = 60.0


@dataclass(frozen=True, slots=True)
class Taken:
    """One message that the sink answered with 250, or was about to."""

    time: float
    copy: Copy
    recipients: tuple[str, ...]


class Sink:
    """Listens on one address until `stop`."""

    def __init__(self, chance: random.Random, promises: Promises, moments: Moments) -> None:
        self.taken: list[Taken] = []
        self.refused = Counter[str]()
        self._chance = chance
        self._promises = promises
        self._moments = moments
        self._put_off: set[int] = set()
        self._server: asyncio.Server | None = None
        self._sessions: set[asyncio.Task[None]] = set()

    async def start(self, address: str, port: int) -> None:
        """Listen. Raises `OSError`."""
        self._server = await asyncio.start_server(self._begin, address, port, limit=1 << 20)

    async def stop(self) -> None:
        """Listen no more, and drop every connection."""
        if self._server is not None:
            self._server.close()
        for session in self._sessions:
            session.cancel()
        await asyncio.gather(*self._sessions, return_exceptions=True)

    def _begin(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        session = asyncio.create_task(self._serve(reader, writer))
        self._sessions.add(session)
        session.add_done_callback(self._sessions.discard)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await _Session(self, reader, writer).run()
        except (OSError, asyncio.IncompleteReadError, TimeoutError):
            self.refused["lost"] += 1  # the client is gone; what was not answered was not taken
        finally:
            writer.close()

    async def answer(self, octets: bytes, recipients: tuple[str, ...], host: str) -> bytes | None:
        """Decide on a message of a host, after a while; None: close without a word."""
        await asyncio.sleep(self._chance.random() ** 2 * 0.05)
        names = {recipient.partition("@")[0] for recipient in recipients}
        copy = self._promises.read(octets, "the sink")
        if copy is None:
            return b"554 5.6.0 Nobody sent this\r\n"
        if "late" in names:
            self.refused["late"] += 1
            return b"554 5.6.0 I have read it, and do not want it\r\n"
        if "soft" in names and isinstance(copy.about, int) and copy.about not in self._put_off:
            self._put_off.add(copy.about)
            self.refused["soft"] += 1
            return b"451 4.3.0 Come again\r\n"
        if self._chance.random() < 0.02:
            self.refused["closed"] += 1
            return None
        self.taken.append(Taken(time.time(), copy, recipients))
        self._moments.happen(Moment.RELAY_ANSWERED, host)
        return b"250 2.0.0 Taken\r\n"


class _Session:
    def __init__(self, sink: Sink, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._sink = sink
        self._reader = reader
        self._writer = writer
        self._host = ""
        self._recipients: list[str] = []

    async def run(self) -> None:
        self._writer.write(b"220 sink.test ESMTP\r\n")
        while True:
            async with asyncio.timeout(_PATIENCE):
                await self._writer.drain()
                line = await self._reader.readuntil(b"\r\n")
            verb = line[:4].upper().strip()
            if verb == b"DATA" and self._recipients:
                if not await self._data():
                    return
            else:
                self._writer.write(self._reply(verb, line))
            if verb == b"QUIT":
                await self._writer.drain()
                return

    def _reply(self, verb: bytes, line: bytes) -> bytes:
        path = _PATH.search(line)
        if verb == b"EHLO":
            self._host = line[4:].strip().decode().removeprefix("mx.")
            return b"250-sink.test\r\n250-PIPELINING\r\n250-8BITMIME\r\n250 SIZE 100000000\r\n"
        if verb == b"MAIL" and path:
            self._recipients = []
            return b"250 2.1.0 Ok\r\n"
        if verb == b"RCPT" and path:
            recipient = path[1].decode()
            if recipient.startswith("hard@"):
                self._sink.refused["hard"] += 1
                return b"550 5.1.1 Nobody of that name\r\n"
            self._recipients.append(recipient)
            return b"250 2.1.5 Ok\r\n"
        if verb == b"DATA":
            return b"554 5.5.1 No recipients\r\n"
        if verb == b"QUIT":
            return b"221 2.0.0 Bye\r\n"
        self._recipients = []
        return b"250 2.0.0 Ok\r\n"

    async def _data(self) -> bool:
        self._writer.write(b"354 Go on\r\n")
        await self._writer.drain()
        lines = []
        async with asyncio.timeout(_PATIENCE):
            while (line := await self._reader.readuntil(b"\r\n")) != b".\r\n":
                lines.append(line[1:] if line.startswith(b".") else line)
        reply = await self._sink.answer(b"".join(lines), tuple(self._recipients), self._host)
        self._recipients = []
        if reply is None:
            return False
        self._writer.write(reply)
        return True
