"""One question to one name server: over UDP, over TCP when the answer is truncated (RFC 1035, RFC 7766).

An answer counts only when it comes from the server's address to the port that asked, with the id and the
question asked (RFC 5452 section 9); anything else that arrives is ignored. Every question has its own socket, so the
system gives each a fresh port.
"""

import asyncio
import contextlib
import struct
from collections.abc import Callable
from dataclasses import dataclass

from waypost.dns.answers import BadAnswer
from waypost.dns.edns import blames_edns
from waypost.dns.names import Name
from waypost.dns.resolver import IpAddress
from waypost.dns.wire import (
    AD,
    FORMERR,
    HEADER,
    MOST_MESSAGE_OCTETS,
    NOTIMP,
    QR,
    RD,
    REFUSED,
    SERVFAIL,
    MalformedAnswer,
    Message,
    Type,
)

EDNS_PAYLOAD = 1232
"""The largest answer in octets that usual network paths carry without fragmentation (RFC 9715)."""

_QUESTION = struct.Struct("!HH")  # type and class, after the name
_IN = 1
# The OPT record of RFC 6891 6.1.2: the root, type 41, our payload as its class, no flags, no options.
_OPT = struct.pack("!BHHIH", 0, Type.OPT, EDNS_PAYLOAD, 0, 0)
# The codes of a server that could not read the question, so that its answer may lack the question.
_WITHOUT_QUESTION = frozenset({FORMERR, SERVFAIL, NOTIMP, REFUSED})
_OPCODE = 0x7800


class NoReply(Exception):
    """The server can't be reached, or was silent for too long; the message says which."""


class Unreadable(BadAnswer):
    """The octets of the answer are not a DNS message."""


@dataclass(frozen=True, slots=True)
class Query:
    """One question. `question` is the name, the type and the class in wire form."""

    id: int
    question: bytes
    edns: bool = True

    @staticmethod
    def of(name: Name, kind: Type, number: int, *, edns: bool = True) -> "Query":
        """Return the question for records of one type."""
        return Query(number, name + _QUESTION.pack(kind, _IN), edns)

    @property
    def wire(self) -> bytes:
        """The octets of its message. The AD bit asks for AD in the answer, without the signatures (RFC 6840 5.7)."""
        head = HEADER.pack(self.id, RD | AD, 1, 0, 0, int(self.edns))
        return head + self.question + (_OPT if self.edns else b"")


@dataclass(frozen=True, slots=True)
class NameServer:
    """A recursive name server."""

    address: IpAddress
    port: int

    def __str__(self) -> str:
        return f"[{self.address}]:{self.port}" if self.address.version == 6 else f"{self.address}:{self.port}"


async def exchange(
    name: Name,
    kind: Type,
    server: NameServer,
    *,
    patience: float,
    new_id: Callable[[], int],
    edns: bool = True,
) -> Message:
    """Return the server's answer, even one that reports a failure. `new_id` gives 16 random bits.

    With `edns`, a server that seems not to understand the OPT record is asked again at once without it. `patience`
    is in seconds. Raises `NoReply`, or `BadAnswer` for an answer that can't be read.
    """
    try:
        async with asyncio.timeout(patience):
            if edns:
                with contextlib.suppress(Unreadable):  # the answer may be readable without EDNS
                    answer = await _ask(Query.of(name, kind, new_id()), server)
                    if not blames_edns(answer):
                        return answer
            return await _ask(Query.of(name, kind, new_id(), edns=False), server)
    except TimeoutError:
        raise NoReply(f"no answer within {patience:g} s") from None
    except OSError as error:
        raise NoReply(f"can't be asked: {error.strerror or error}") from None
    except EOFError as error:
        raise NoReply(f"can't be asked: {error}") from None


async def _ask(query: Query, server: NameServer) -> Message:
    answer = await _over_udp(query, server)
    return await _over_tcp(query, server) if answer.truncated else answer


def read_reply(query: Query, wire: bytes) -> Message | None:
    """Return the answer to `query`; None when the octets are not the answer to it.

    Of a truncated answer only the header is read. Raises `BadAnswer` for an answer to `query` that can't be read.
    """
    if len(wire) < HEADER.size:
        return None
    number, flags, questions, *_ = HEADER.unpack_from(wire)
    if number != query.id or not flags & QR or flags & _OPCODE:
        return None
    if questions == 1:
        question = wire[HEADER.size : HEADER.size + len(query.question)]
        if question.lower() != query.question.lower():  # lower() does not change lengths, type and class
            return None
    elif questions or flags & 0xF not in _WITHOUT_QUESTION:
        return None
    try:
        return Message(wire, asked_with_edns=query.edns)
    except MalformedAnswer as error:
        raise Unreadable(f"its answer can't be read: {error}") from None


class _Ear(asyncio.DatagramProtocol):
    """Listens on one UDP socket for the answer to one query."""

    def __init__(self, query: Query) -> None:
        self._query = query
        self.answer: asyncio.Future[Message] = asyncio.get_running_loop().create_future()
        self._transport: asyncio.BaseTransport | None = None
        self._closed = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport
        if self._closed:
            transport.close()

    def close(self) -> None:
        """Close the socket, now or as soon as there is one.

        A query may be cancelled while its socket is made; uvloop gives nobody the transport then and leaves it open.
        """
        self._closed = True
        if self._transport is not None:
            self._transport.close()

    def datagram_received(self, data: bytes, addr: tuple[str | object, int]) -> None:
        if self.answer.done():
            return
        try:
            reply = read_reply(self._query, data)
        except BadAnswer as error:
            self.answer.set_exception(error)
            return
        if reply is not None:
            self.answer.set_result(reply)

    def error_received(self, exc: Exception) -> None:
        if not self.answer.done():
            self.answer.set_exception(exc)  # for example: no server listens on that port


async def _over_udp(query: Query, server: NameServer) -> Message:
    loop = asyncio.get_running_loop()
    ear = _Ear(query)
    # A connected socket: the system drops datagrams from any other address.
    try:
        transport, _ = await loop.create_datagram_endpoint(lambda: ear, remote_addr=(str(server.address), server.port))
        transport.sendto(query.wire)
        return await ear.answer
    finally:
        ear.close()


async def _over_tcp(query: Query, server: NameServer) -> Message:
    reader, writer = await asyncio.open_connection(str(server.address), server.port, limit=MOST_MESSAGE_OCTETS)
    try:
        wire = query.wire
        writer.write(struct.pack("!H", len(wire)) + wire)  # in one segment (RFC 7766 section 8)
        (length,) = struct.unpack("!H", await reader.readexactly(2))
        # One octet past the limit tells `read_reply` that the answer is too long.
        reply = read_reply(query, await reader.readexactly(min(length, MOST_MESSAGE_OCTETS + 1)))
    finally:
        writer.close()
    if reply is None:
        raise BadAnswer("over TCP it answers another question")
    if reply.truncated:
        raise BadAnswer("its answer is truncated over TCP, too")
    return reply
