"""Reads an answer of a name server: follows its CNAMEs to the records, or to their absence (RFC 1034, RFC 2308).

Pure: a message in, one `AnswerStep` out. An answer that can't be used, or that reports a failure, raises `BadAnswer`.
"""

import struct
from collections.abc import Callable
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address
from typing import Any, Generic, TypeVar

from waypost.dns.names import Name, is_below, text_of
from waypost.dns.resolver import IpAddress, Mx
from waypost.dns.wire import AA, AD, NOERROR, NXDOMAIN, RA, MalformedAnswer, Message, Record, Type, rcode_text

T = TypeVar("T")

MAX_ALIASES = 8
"""The most CNAMEs that are followed for one question; longer chains are mistakes or attacks."""
MAX_TTL = 86_400
"""The longest time in seconds for which an answer is cached."""
MAX_NEGATIVE_TTL = 3_600
"""The longest time in seconds for which a negative answer is cached (RFC 2308 section 5: one to three hours)."""

_NUMBER = struct.Struct("!H")
_SOA_TAIL = struct.Struct("!IIIII")  # serial, refresh, retry, expire, minimum


class BadAnswer(Exception):
    """The server's answer can't be used; the message says why. Another server may give a better answer."""


@dataclass(frozen=True, slots=True)
class RecordType(Generic[T]):
    """A record type, how to read one record of it into our value, and the octets of memory that the value takes."""

    type: Type
    read: Callable[[Message, Record], T]
    weight: Callable[[T], int]

    def __str__(self) -> str:
        return self.type.name


@dataclass(frozen=True, slots=True)
class AnswerStep(Generic[T]):
    """What one answer says.

    `name` is where its CNAMEs end, `aliases` their number. `exists` is False for NXDOMAIN; `whole` is False
    when the answer stops at a CNAME, so that a question for `name` must follow. `ttl` is in seconds; 0 means: don't
    cache. `complete` is False when there are more records than were read.
    """

    name: Name
    records: tuple[T, ...]
    authenticated: bool
    ttl: int
    aliases: int = 0
    exists: bool = True
    whole: bool = True
    complete: bool = True


def _mx(message: Message, record: Record) -> Mx:
    if record.end - record.start < 3:
        raise MalformedAnswer("an MX record is too short")
    (preference,) = _NUMBER.unpack_from(message.octets, record.start)
    return Mx(preference, text_of(_whole_name(message, record.start + 2, record)))


def _whole_name(message: Message, at: int, record: Record) -> Name:
    name, end = message.name(at)
    if end != record.end:
        raise MalformedAnswer(f"the name in a {Type(record.type).name} record does not end with it")
    return name


def _address4(message: Message, record: Record) -> IpAddress:
    if record.end - record.start != 4:
        raise MalformedAnswer("an A record has not four octets")
    return IPv4Address(message.octets[record.start : record.end])


def _address6(message: Message, record: Record) -> IpAddress:
    if record.end - record.start != 16:
        raise MalformedAnswer("an AAAA record has not sixteen octets")
    return IPv6Address(message.octets[record.start : record.end])


def _ptr(message: Message, record: Record) -> str:
    return text_of(_whole_name(message, record.start, record))


def _txt(message: Message, record: Record) -> bytes:
    strings, at = [], record.start
    while at < record.end:
        end = at + 1 + message.octets[at]
        if end > record.end:
            raise MalformedAnswer("a string runs past its TXT record")
        strings.append(message.octets[at + 1 : end])
        at = end
    if not strings:
        raise MalformedAnswer("a TXT record is empty")
    return b"".join(strings)


MX = RecordType(Type.MX, _mx, lambda mx: 150 + len(mx.host))
A = RecordType(Type.A, _address4, lambda _: 80)
AAAA = RecordType(Type.AAAA, _address6, lambda _: 100)
PTR = RecordType(Type.PTR, _ptr, lambda name: 80 + len(name))
TXT = RecordType(Type.TXT, _txt, lambda text: 50 + len(text))


def read_answer(message: Message, name: Name, kind: RecordType[T]) -> AnswerStep[T]:
    """Return what `message` says about `name`. Raises `BadAnswer`."""
    if message.rcode not in (NOERROR, NXDOMAIN):
        raise BadAnswer(f"it says {rcode_text(message.rcode)}")
    if _is_referral(message):
        raise BadAnswer("it refers to other servers: it is not a recursive name server")
    try:
        return _follow(message, name, kind)
    except MalformedAnswer as error:
        raise BadAnswer(f"its answer can't be read: {error}") from None


def _follow(message: Message, name: Name, kind: RecordType[T]) -> AnswerStep[T]:
    sets: dict[tuple[Name, int], list[Record]] = {}
    for record in message.answers:
        sets.setdefault((record.name, record.type), []).append(record)
    ttl, aliases, seen = MAX_TTL, 0, {name}
    while (found := sets.get((name, kind.type))) is None:
        alias = sets.get((name, Type.CNAME))
        if alias is None:
            return _without_records(message, name, ttl, aliases)
        name, ttl, aliases = _whole_name(message, alias[0].start, alias[0]), min(ttl, alias[0].ttl), aliases + 1
        if name in seen:
            raise BadAnswer("its CNAMEs form a loop")
        if aliases > MAX_ALIASES:
            raise BadAnswer(f"there are more than {MAX_ALIASES} CNAMEs")
        seen.add(name)
    # One record twice is one record, and a set has one TTL, the shortest (RFC 2181 section 5).
    records = tuple(dict.fromkeys(kind.read(message, record) for record in found))
    ttl = min(ttl, *(record.ttl for record in found))
    return AnswerStep(name, records, bool(message.flags & AD), ttl, aliases, complete=message.complete)


def _without_records(message: Message, name: Name, ttl: int, aliases: int) -> AnswerStep[Any]:
    if not message.complete:
        raise BadAnswer("it has more records than are read, and none of the first answers the question")
    authenticated = bool(message.flags & AD)
    soa = next((record for record in message.authorities if record.type == Type.SOA), None)
    exists = message.rcode == NOERROR  # the code is about the last name (RFC 6604 section 3)
    if exists and aliases and (soa is None or not is_below(name, soa.name)):
        return AnswerStep(name, (), authenticated, ttl, aliases, whole=False)
    # RFC 2308 section 5: by the SOA; without one, not kept at all.
    negative = min(soa.ttl, _minimum(message, soa), MAX_NEGATIVE_TTL) if soa is not None else 0
    return AnswerStep(name, (), authenticated, min(ttl, negative), aliases, exists=exists)


def _minimum(message: Message, soa: Record) -> int:
    _, at = message.name(soa.start)
    _, at = message.name(at)
    if at + _SOA_TAIL.size != soa.end:
        raise MalformedAnswer("an SOA record has not the length of one")
    return int(_SOA_TAIL.unpack_from(message.octets, at)[-1])


def _is_referral(message: Message) -> bool:
    """RFC 2308 section 2.2: name servers instead of an answer, from a server that does not recurse."""
    if message.answers or message.flags & (AA | RA) or message.rcode != NOERROR:
        return False
    kinds = {record.type for record in message.authorities}
    return Type.NS in kinds and Type.SOA not in kinds
