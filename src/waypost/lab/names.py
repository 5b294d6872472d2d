"""The lab's name server: a small authoritative DNS server on loopback that answers real queries (RFC 1035).

It serves zones held in memory, over UDP and TCP, so that mail is routed by MX without installing anything. Names
outside its zones are NXDOMAIN: they do not exist in the lab's internet.
"""

import asyncio
import struct
from collections.abc import Mapping
from typing import cast

import dns.exception
import dns.flags
import dns.message
import dns.name
import dns.rcode
import dns.rdataclass
import dns.rdatatype
import dns.rrset
import dns.zone

_TCP_IDLE = 10.0


def _zone(origin: str, text: str) -> dns.zone.Zone:
    header = f"$TTL 60\n@ IN SOA ns.{origin}. postmaster.{origin}. 1 60 60 60 1\n@ IN NS ns.{origin}.\n"
    return dns.zone.from_text(header + text, origin=dns.name.from_text(origin), relativize=False)


class LabNameServer:
    """Serves zones on one address, over UDP and TCP.

    `zones` maps a domain to its records in zone file form, names relative to the domain.
    """

    def __init__(self, zones: Mapping[str, str]) -> None:
        self._zones = {dns.name.from_text(origin): _zone(origin, text) for origin, text in zones.items()}
        self._udp: asyncio.DatagramTransport | None = None
        self._tcp: asyncio.Server | None = None

    async def start(self, address: str, port: int) -> int:
        """Listen; `port` 0 picks a free one. Returns the port. Raises `OSError` when it is taken."""
        loop = asyncio.get_running_loop()
        self._tcp = await asyncio.start_server(self._serve_tcp, address, port)
        bound = int(self._tcp.sockets[0].getsockname()[1])
        try:
            self._udp, _ = await loop.create_datagram_endpoint(lambda: _UdpResponder(self), local_addr=(address, bound))
        except OSError:
            self._tcp.close()
            raise
        return bound

    async def stop(self) -> None:
        """Close both sockets."""
        if self._udp is not None:
            self._udp.close()
        if self._tcp is not None:
            self._tcp.close()
            await self._tcp.wait_closed()

    def respond(self, wire: bytes, *, limit: int = 65535) -> bytes | None:
        """Return the answer to a query in wire form, truncated (TC) past `limit` octets; None for junk."""
        try:
            query = dns.message.from_wire(wire)
        except dns.exception.DNSException:
            return None
        response = dns.message.make_response(query)
        if len(query.question) != 1:
            response.set_rcode(dns.rcode.FORMERR)
            return response.to_wire()
        self._answer(response, query.question[0])
        payload = max(query.payload, 512) if query.edns >= 0 else 512
        try:
            return response.to_wire(max_size=min(limit, payload if limit < 65535 else limit))
        except dns.exception.TooBig:
            truncated = dns.message.make_response(query)
            truncated.flags |= dns.flags.TC | dns.flags.AA
            return truncated.to_wire()

    def _answer(self, response: dns.message.Message, question: dns.rrset.RRset) -> None:
        response.flags |= dns.flags.AA | dns.flags.RA
        zone = self._zone_of(question.name)
        if zone is None:
            response.set_rcode(dns.rcode.NXDOMAIN)
            return
        name, seen = question.name, set()
        while name not in seen:  # follow CNAMEs inside the zone, each once
            seen.add(name)
            found = zone.get_rrset(name, question.rdtype)
            if found is not None:
                response.answer.append(found)
                return
            alias = zone.get_rrset(name, dns.rdatatype.CNAME)
            if alias is None:
                break
            response.answer.append(alias)
            name = alias[0].target
        if not response.answer and zone.get_node(question.name) is None and not self._has_below(zone, name):
            response.set_rcode(dns.rcode.NXDOMAIN)
        soa = zone.get_rrset(zone.origin or dns.name.root, dns.rdatatype.SOA)
        if soa is not None:
            response.authority.append(soa)

    def _zone_of(self, name: dns.name.Name) -> dns.zone.Zone | None:
        candidates = [origin for origin in self._zones if name.is_subdomain(origin)]
        return self._zones[max(candidates, key=lambda origin: len(origin.labels))] if candidates else None

    @staticmethod
    def _has_below(zone: dns.zone.Zone, name: dns.name.Name) -> bool:
        return any(other.is_subdomain(name) for other in zone.nodes)

    async def _serve_tcp(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while True:
                async with asyncio.timeout(_TCP_IDLE):
                    (length,) = struct.unpack("!H", await reader.readexactly(2))
                    wire = await reader.readexactly(length)
                answer = self.respond(wire)
                if answer is None:
                    break
                writer.write(struct.pack("!H", len(answer)) + answer)
                await writer.drain()
        except (asyncio.IncompleteReadError, TimeoutError, ConnectionError):
            pass  # the client is done, or gone
        finally:
            writer.close()


class _UdpResponder(asyncio.DatagramProtocol):
    def __init__(self, server: LabNameServer) -> None:
        self._server = server
        self._transport: asyncio.DatagramTransport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.DatagramTransport, transport)

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        answer = self._server.respond(data, limit=4096)
        if answer is not None and self._transport is not None:
            self._transport.sendto(answer, addr)
