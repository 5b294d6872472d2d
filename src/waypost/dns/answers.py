"""Reads an answer of a name server: the records behind its CNAMEs, or that there are none (RFC 1034, RFC 2308).

Pure: a parsed message in, one `Step` out. An answer that can't be used, or that admits a failure, is `BadAnswer`.
"""

from collections.abc import Callable
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address
from typing import Any, Generic, TypeVar

import dns.flags
import dns.message
import dns.name
import dns.rcode
import dns.rdataclass
import dns.rdatatype
import dns.rrset

from waypost.dns.resolver import IpAddress, Mx

T = TypeVar("T")

MAX_ALIASES = 8
"""CNAMEs that are followed for one question; longer chains are mistakes or mischief."""
MAX_TTL = 86_400
"""Seconds for which an answer is kept at most."""
MAX_NEGATIVE_TTL = 3_600
"""Seconds for which "there is none" is kept at most (RFC 2308 section 5 suggests one to three hours)."""


class BadAnswer(Exception):
    """The server answered, and the answer is of no use; the message says why. Another server may know better."""


@dataclass(frozen=True, slots=True)
class Kind(Generic[T]):
    """A record type, and how one record of it becomes a value of ours."""

    rdtype: dns.rdatatype.RdataType
    read: Callable[[Any], T]

    def __str__(self) -> str:
        return self.rdtype.name


@dataclass(frozen=True, slots=True)
class Step(Generic[T]):
    """What one answer says.

    `name` is where its CNAMEs end, `aliases` their number. `exists` is False for NXDOMAIN; `whole` is False
    when the answer stops at a CNAME, so that `name` must be asked for. `ttl` is in seconds, 0: don't keep.
    """

    name: dns.name.Name
    records: tuple[T, ...]
    authenticated: bool
    ttl: int
    aliases: int = 0
    exists: bool = True
    whole: bool = True


def text_of(name: dns.name.Name) -> str:
    """Return a name as the other rooms know it: lower case, no trailing dot; "" for the root."""
    return "" if name == dns.name.root else name.to_text(omit_final_dot=True).lower()


def _mx(rdata: Any) -> Mx:
    return Mx(int(rdata.preference), text_of(rdata.exchange))


def _address4(rdata: Any) -> IpAddress:
    return IPv4Address(rdata.address)


def _address6(rdata: Any) -> IpAddress:
    return IPv6Address(rdata.address)


def _txt(rdata: Any) -> bytes:
    return b"".join(rdata.strings)


MX = Kind(dns.rdatatype.MX, _mx)
A = Kind(dns.rdatatype.A, _address4)
AAAA = Kind(dns.rdatatype.AAAA, _address6)
TXT = Kind(dns.rdatatype.TXT, _txt)


def read_answer(message: dns.message.Message, name: dns.name.Name, kind: Kind[T]) -> Step[T]:
    """Return what `message` says about `name`. Raises `BadAnswer`."""
    rcode = message.rcode()
    if rcode not in (dns.rcode.NOERROR, dns.rcode.NXDOMAIN):
        raise BadAnswer(f"it says {dns.rcode.to_text(rcode)}")
    if _is_referral(message):
        raise BadAnswer("it refers to other servers: it is no recursive name server")
    authenticated = bool(message.flags & dns.flags.AD)
    ttl, aliases, seen = MAX_TTL, 0, {name}
    while (found := _records(message, name, kind.rdtype)) is None:
        alias = _records(message, name, dns.rdatatype.CNAME)
        if alias is None:
            return _without_records(message, name, authenticated, ttl, aliases)
        name, ttl, aliases = alias[0].target, min(ttl, alias.ttl), aliases + 1
        if name in seen:
            raise BadAnswer("its CNAMEs go round in a circle")
        if aliases > MAX_ALIASES:
            raise BadAnswer(f"there are more than {MAX_ALIASES} CNAMEs")
        seen.add(name)
    records = tuple(kind.read(rdata) for rdata in found)
    return Step(name, records, authenticated, min(ttl, found.ttl), aliases)


def _records(
    message: dns.message.Message, name: dns.name.Name, rdtype: dns.rdatatype.RdataType
) -> dns.rrset.RRset | None:
    return message.get_rrset(message.answer, name, dns.rdataclass.IN, rdtype)


def _without_records(
    message: dns.message.Message, name: dns.name.Name, authenticated: bool, ttl: int, aliases: int
) -> Step[Any]:
    soa = next((found for found in message.authority if found.rdtype == dns.rdatatype.SOA), None)
    exists = message.rcode() == dns.rcode.NOERROR  # the code is about the last name (RFC 6604 section 3)
    if exists and aliases and (soa is None or not name.is_subdomain(soa.name)):
        return Step(name, (), authenticated, ttl, aliases, whole=False)
    # RFC 2308 section 5: by the SOA; without one, not kept at all.
    negative = min(soa.ttl, soa[0].minimum, MAX_NEGATIVE_TTL) if soa is not None else 0
    return Step(name, (), authenticated, min(ttl, negative), aliases, exists=exists)


def _is_referral(message: dns.message.Message) -> bool:
    """RFC 2308 section 2.2: name servers instead of an answer, from a server that does not recurse."""
    if message.answer or message.flags & (dns.flags.AA | dns.flags.RA) or message.rcode() != dns.rcode.NOERROR:
        return False
    kinds = {found.rdtype for found in message.authority}
    return dns.rdatatype.NS in kinds and dns.rdatatype.SOA not in kinds
