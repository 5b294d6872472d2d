"""Name servers that follow a script: they may be slow, silent, truncated, or lie."""

import asyncio
import struct
from collections.abc import Callable, Iterable
from ipaddress import IPv4Address
from typing import Any, cast

import dns.flags
import dns.message
import dns.rcode
import dns.rrset

Script = Callable[[dns.message.Message], Iterable[dns.message.Message | bytes]]
"""What a server sends back for one query: nothing, one datagram, or several."""

LOOPBACK = IPv4Address("127.0.0.1")


class ScriptedServer:
    """Answers over UDP by one script and over TCP by another; remembers every query."""

    def __init__(self, udp: Script, tcp: Script | None = None) -> None:
        self.udp = udp
        self.tcp = tcp or udp
        self.queries: list[dns.message.Message] = []
        self.ports: list[int] = []
        self.tcp_queries = 0
        self.asked = asyncio.Event()
        self.port = 0

    @property
    def place(self) -> tuple[IPv4Address, int]:
        """The server as the resolver wants it."""
        return LOOPBACK, self.port

    async def __aenter__(self) -> "ScriptedServer":
        wanted = self.port
        while True:
            self._stream = await asyncio.start_server(self._serve, str(LOOPBACK), wanted)
            self.port = self._stream.sockets[0].getsockname()[1]
            try:
                self._datagrams, _ = await asyncio.get_running_loop().create_datagram_endpoint(
                    lambda: _Datagrams(self), local_addr=(str(LOOPBACK), self.port)
                )
            except OSError:
                self._stream.close()
                if wanted:
                    raise
                continue  # somebody has that port for UDP: another one
            return self

    async def __aexit__(self, *_: object) -> None:
        self._datagrams.close()
        self._stream.close()
        await self._stream.wait_closed()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        (length,) = struct.unpack("!H", await reader.readexactly(2))
        self.tcp_queries += 1
        for answer in self.tcp(dns.message.from_wire(await reader.readexactly(length))):
            wire = answer if isinstance(answer, bytes) else answer.to_wire()
            writer.write(struct.pack("!H", len(wire)) + wire)
        writer.close()


class _Datagrams(asyncio.DatagramProtocol):
    def __init__(self, server: ScriptedServer) -> None:
        self._server = server

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.DatagramTransport, transport)

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        query = dns.message.from_wire(data)
        self._server.queries.append(query)
        self._server.ports.append(addr[1])
        self._server.asked.set()
        for answer in self._server.udp(query):
            self._transport.sendto(answer if isinstance(answer, bytes) else answer.to_wire(), addr)


def answer(
    query: dns.message.Message,
    *records: str,
    rcode: dns.rcode.Rcode = dns.rcode.NOERROR,
    authority: tuple[str, ...] = (),
    flags: int = 0,
) -> dns.message.Message:
    """Return an answer; records in zone file form: `example.org. 60 IN A 192.0.2.1`."""
    response = dns.message.make_response(query)
    response.flags |= dns.flags.RA | flags
    response.set_rcode(rcode)
    for section, lines in ((response.answer, records), (response.authority, authority)):
        for line in lines:
            name, ttl, rdclass, rdtype, rdata = line.split(None, 4)
            new = dns.rrset.from_text(name, int(ttl), rdclass, rdtype, rdata)
            found = next((old for old in section if (old.name, old.rdtype) == (new.name, new.rdtype)), None)
            if found is None:
                section.append(new)
            else:
                found.add(new[0])
    return response


def zone(records: dict[str, list[str]], **options: Any) -> Script:
    """Return a script: "name TYPE" of a question gives the records of its answer; what is not there is NXDOMAIN."""

    def script(query: dns.message.Message) -> list[dns.message.Message]:
        question = query.question[0]
        key = f"{question.name.to_text(omit_final_dot=True).lower()} {question.rdtype.name}"
        if key not in records:
            return [answer(query, rcode=dns.rcode.NXDOMAIN, authority=(SOA,))]
        return [answer(query, *records[key], **options)]

    return script


SOA = "test. 900 IN SOA ns.test. root.test. 1 60 60 60 300"


class FakeClock:
    """Seconds that go on only when told."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now
