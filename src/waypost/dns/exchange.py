"""One question to one name server: over UDP with EDNS, over TCP when the answer is truncated (RFC 1035, RFC 7766).

An answer counts only when it comes from the server's address to the port that asked, with the id and the
question asked (RFC 5452 section 9); whatever else arrives is ignored. Every question has a socket of its own,
so the system gives each a fresh port.
"""

import asyncio
import struct
from collections.abc import Callable
from dataclasses import dataclass

import dns.exception
import dns.flags
import dns.message
import dns.name
import dns.opcode
import dns.rcode
import dns.rdataclass
import dns.rdatatype

from waypost.dns.answers import BadAnswer
from waypost.dns.resolver import IpAddress

EDNS_PAYLOAD = 1232
"""Octets of an answer that pass the usual paths in one piece (RFC 9715)."""

_HEADER = struct.Struct("!HHHHHH")  # id, flags, and how many questions, answers, authorities and additions
_QUESTION = struct.Struct("!HH")  # type and class, behind the name
# The OPT record of RFC 6891 6.1.2: the root, type 41, our payload as its class, no flags, no options.
_OPT = struct.pack("!BHHIH", 0, dns.rdatatype.OPT, EDNS_PAYLOAD, 0, 0)
# What a server may say that could not even read the question.
_WITHOUT_QUESTION = frozenset({dns.rcode.FORMERR, dns.rcode.SERVFAIL, dns.rcode.NOTIMP, dns.rcode.REFUSED})


class NoReply(Exception):
    """The server can't be reached, or was silent for too long; the message says which."""


@dataclass(frozen=True, slots=True)
class Query:
    """One question. `question` is the name, the type and the class as they stand on the wire."""

    id: int
    question: bytes
    edns: bool = True

    @staticmethod
    def of(name: dns.name.Name, rdtype: dns.rdatatype.RdataType, number: int, *, edns: bool = True) -> "Query":
        """Return the question for records of one type."""
        return Query(number, (name.to_wire() or b"") + _QUESTION.pack(rdtype, dns.rdataclass.IN), edns)

    @property
    def wire(self) -> bytes:
        """The octets of its message. AD asks for AD in the answer, without the signatures (RFC 6840 5.7)."""
        flags = int(dns.flags.RD | dns.flags.AD)
        head = _HEADER.pack(self.id, flags, 1, 0, 0, int(self.edns))
        return head + self.question + (_OPT if self.edns else b"")


@dataclass(frozen=True, slots=True)
class NameServer:
    """A recursive name server."""

    address: IpAddress
    port: int

    def __str__(self) -> str:
        return f"[{self.address}]:{self.port}" if self.address.version == 6 else f"{self.address}:{self.port}"


async def exchange(
    name: dns.name.Name,
    rdtype: dns.rdatatype.RdataType,
    server: NameServer,
    *,
    patience: float,
    new_id: Callable[[], int],
) -> dns.message.Message:
    """Return the server's answer, whatever it says. `new_id` gives 16 random bits, `patience` is in seconds.

    Raises `NoReply`, or `BadAnswer` for an answer that can't be read.
    """
    try:
        async with asyncio.timeout(patience):
            answer = await _ask(Query.of(name, rdtype, new_id()), server)
            if answer.rcode() in (dns.rcode.FORMERR, dns.rcode.NOTIMP):
                # RFC 6891 section 7: so says a server that is older than EDNS.
                answer = await _ask(Query.of(name, rdtype, new_id(), edns=False), server)
            return answer
    except TimeoutError:
        raise NoReply(f"no answer within {patience:g} s") from None
    except (OSError, EOFError) as error:
        raise NoReply(f"can't be asked: {error}") from None


async def _ask(query: Query, server: NameServer) -> dns.message.Message:
    answer = await _over_udp(query, server)
    return await _over_tcp(query, server) if answer.flags & dns.flags.TC else answer


def read_reply(query: Query, wire: bytes) -> dns.message.Message | None:
    """Return the answer to `query`; None for anything else.

    Of a truncated answer only the question is read. Raises `BadAnswer` when it is the answer, and unreadable.
    """
    if len(wire) < _HEADER.size:
        return None
    number, flags, questions, *_ = _HEADER.unpack_from(wire)
    if number != query.id or not flags & dns.flags.QR or dns.opcode.from_flags(flags) != dns.opcode.QUERY:
        return None
    if questions == 1:
        question = wire[_HEADER.size : _HEADER.size + len(query.question)]
        if question.lower() != query.question.lower():  # type and class hold no letters
            return None
    elif questions or flags & 0xF not in _WITHOUT_QUESTION:
        return None
    try:
        return dns.message.from_wire(wire, question_only=bool(flags & dns.flags.TC), ignore_trailing=True)
    except (dns.exception.DNSException, ValueError) as error:
        raise BadAnswer(f"its answer can't be read: {error or type(error).__name__}") from None


class _Ear(asyncio.DatagramProtocol):
    """Listens on one UDP socket for the answer to one query."""

    def __init__(self, query: Query) -> None:
        self._query = query
        self.answer: asyncio.Future[dns.message.Message] = asyncio.get_running_loop().create_future()

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
            self.answer.set_exception(exc)  # for example: nobody listens on that port


async def _over_udp(query: Query, server: NameServer) -> dns.message.Message:
    loop = asyncio.get_running_loop()
    ear = _Ear(query)
    # A connected socket: the system drops what comes from any other address.
    transport, _ = await loop.create_datagram_endpoint(lambda: ear, remote_addr=(str(server.address), server.port))
    try:
        transport.sendto(query.wire)
        return await ear.answer
    finally:
        transport.close()


async def _over_tcp(query: Query, server: NameServer) -> dns.message.Message:
    reader, writer = await asyncio.open_connection(str(server.address), server.port)
    try:
        wire = query.wire
        writer.write(struct.pack("!H", len(wire)) + wire)  # in one segment (RFC 7766 section 8)
        (length,) = struct.unpack("!H", await reader.readexactly(2))
        reply = read_reply(query, await reader.readexactly(length))
    finally:
        writer.close()
    if reply is None:
        raise BadAnswer("over TCP it answers another question")
    if reply.flags & dns.flags.TC:
        raise BadAnswer("its answer is truncated over TCP, too")
    return reply
