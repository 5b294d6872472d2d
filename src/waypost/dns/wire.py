"""Reads only those octets of an answer that are used (RFC 1035 section 4.1, RFC 6891 section 6.1).

Strangers write these octets: the sender of a message chooses a name, and its name servers choose the records. So the
work is bounded before it begins: octets, records, labels and pointers have limits, and the rest is not read. Pure:
octets in, records with their offsets out; `answers.py` decides what the records mean.
"""

import struct
from dataclasses import dataclass
from enum import IntEnum

from waypost.dns.names import MOST_LABEL, MOST_OCTETS, Name

MOST_MESSAGE_OCTETS = 16_384
"""The most octets of an answer that are read, over TCP and UDP. Real answers are shorter: RFC 9715 aims at 1,232."""
MOST_RECORDS = 128
"""The most records of an answer that are read, in all its sections. No domain uses more than 20 mail servers."""
MOST_POINTERS = 32
"""The most pointers in one compressed name."""
MOST_STEPS = 20_000
"""The most labels and pointers of all names together: they take a few milliseconds."""

HEADER = struct.Struct("!HHHHHH")  # id, flags, and how many questions, answers, authorities and additions
QR, TC, AA, RD, RA, AD = 0x8000, 0x0200, 0x0400, 0x0100, 0x0080, 0x0020
_QUESTION_TAIL = 4  # type and class
_RECORD = struct.Struct("!HHIH")  # type, class, TTL and the length of the data
_IN = 1


class MalformedAnswer(Exception):
    """The octets are not a message, or need more work than an answer may cost."""


class _PastTheEnd(MalformedAnswer):
    """The octets end in the middle of a name or a record."""


class Type(IntEnum):
    """Record types that are read (RFC 1035 section 3.2.2, RFC 3596, RFC 6891)."""

    A = 1
    NS = 2
    CNAME = 5
    SOA = 6
    PTR = 12
    MX = 15
    TXT = 16
    AAAA = 28
    OPT = 41


_RCODES = {1: "FORMERR", 2: "SERVFAIL", 3: "NXDOMAIN", 4: "NOTIMP", 5: "REFUSED", 9: "NOTAUTH", 16: "BADVERS"}
NOERROR, FORMERR, SERVFAIL, NXDOMAIN, NOTIMP, REFUSED, BADVERS = 0, 1, 2, 3, 4, 5, 16


def rcode_text(rcode: int) -> str:
    """Return the name of a response code."""
    return _RCODES.get(rcode, f"response code {rcode}")


@dataclass(frozen=True, slots=True)
class Record:
    """One record of the class IN: its data lies from `start` to `end`. `ttl` is in seconds."""

    name: Name
    type: int
    ttl: int
    start: int
    end: int


class Message:
    """An answer. `rcode` has the upper bits of EDNS; `edns` is True when the server sent an OPT record.

    `asked_with_edns` is True when the question had one. `complete` is False when the answer section has more records
    than were read. Of a truncated answer only the header is read. Raises `MalformedAnswer`.
    """

    def __init__(self, octets: bytes, *, asked_with_edns: bool = True) -> None:
        self.asked_with_edns = asked_with_edns
        self._cut = len(octets) > MOST_MESSAGE_OCTETS
        self.octets = octets[:MOST_MESSAGE_OCTETS]
        self.steps = 0
        """Labels and pointers that were read."""
        if len(self.octets) < HEADER.size:
            raise MalformedAnswer("it is shorter than a header")
        _, self.flags, questions, *counts = HEADER.unpack_from(self.octets)
        self.rcode = self.flags & 0xF
        self.edns = False
        self.complete = True
        self.answers: list[Record] = []
        self.authorities: list[Record] = []
        if not self.truncated:
            self._read(questions, *counts)

    @property
    def truncated(self) -> bool:
        """True when the answer did not fit into the message (TC bit)."""
        return bool(self.flags & TC)

    # -- the sections -------------------------------------------------------------------------------------

    def _read(self, questions: int, answers: int, authorities: int, additions: int) -> None:
        if questions > 1:
            raise MalformedAnswer("it has several questions")
        at = HEADER.size
        for _ in range(questions):
            at = self._after_name(at) + _QUESTION_TAIL
        self.answers, behind = self._section(at, answers, MOST_RECORDS)
        self.complete = behind is not None
        if behind is None:
            return
        left = MOST_RECORDS - answers
        self.authorities, behind = self._section(behind, authorities, left)
        if behind is not None:
            self._additions(behind, min(additions, left - authorities))

    def _section(self, at: int, count: int, most: int) -> tuple[list[Record], int | None]:
        """Return the records of class IN and the offset of the next section; None as offset if not all were read."""
        found: list[Record] = []
        for _ in range(min(count, most)):
            try:
                name, at = self.name(at)
                kind, rdclass, ttl, start, end = self._head(at)
            except _PastTheEnd:
                if self._cut:
                    return found, None
                raise
            if rdclass == _IN:
                found.append(Record(name, kind, ttl if ttl < 1 << 31 else 0, start, end))  # RFC 2181 section 8
            at = end
        return found, at if count <= most else None

    def _additions(self, at: int, count: int) -> None:
        """Look for the OPT record; other records of this section are not used, so their names are not unpacked."""
        for _ in range(count):
            try:
                kind, _, ttl, _, at = self._head(self._after_name(at))
            except _PastTheEnd:
                if self._cut:
                    return
                raise
            if kind == Type.OPT:
                self.edns = True
                self.rcode |= (ttl >> 24) << 4
                return

    def _head(self, at: int) -> tuple[int, int, int, int, int]:
        """Return type, class and TTL of the record whose name ends at `at`, and the offsets of its data."""
        start = at + _RECORD.size
        if start > len(self.octets):
            raise _PastTheEnd("a record runs past the end")
        kind, rdclass, ttl, length = _RECORD.unpack_from(self.octets, at)
        if start + length > len(self.octets):
            raise _PastTheEnd("a record runs past the end")
        return kind, rdclass, ttl, start, start + length

    # -- names --------------------------------------------------------------------------------------------

    def name(self, at: int) -> tuple[Name, int]:
        """Return the unpacked name that begins at `at`, and the offset after it. Raises `MalformedAnswer`.

        Each pointer must lead to an offset before all parts of the name read so far (RFC 1035 section 4.1.4), so there
        can't be a loop.
        """
        octets, most = self.octets, len(self.octets)
        parts: list[bytes] = []
        size, pointers, behind, limit = 1, 0, -1, at
        while True:
            self._step()
            if at >= most:
                raise _PastTheEnd("a name runs past the end")
            length = octets[at]
            if length == 0:
                parts.append(b"\0")
                return b"".join(parts).lower(), at + 1 if behind < 0 else behind
            if length <= MOST_LABEL:
                size += length + 1
                if size > MOST_OCTETS:
                    raise MalformedAnswer("a name is too long")
                if at + 1 + length > most:
                    raise _PastTheEnd("a name runs past the end")
                parts.append(octets[at : at + 1 + length])
                at += 1 + length
                continue
            target = self._pointer(at)
            pointers += 1
            if target >= limit or pointers > MOST_POINTERS:
                raise MalformedAnswer("a name points ahead, or too often")
            if behind < 0:
                behind = at + 2
            at = limit = target

    def _pointer(self, at: int) -> int:
        if self.octets[at] < 0xC0:
            raise MalformedAnswer("a label has an unknown kind")
        if at + 2 > len(self.octets):
            raise _PastTheEnd("a name runs past the end")
        return (self.octets[at] & 0x3F) << 8 | self.octets[at + 1]

    def _after_name(self, at: int) -> int:
        """Return the offset after the name that begins at `at`, without following its pointer."""
        while True:
            self._step()
            if at >= len(self.octets):
                raise _PastTheEnd("a name runs past the end")
            length = self.octets[at]
            if length == 0:
                return at + 1
            if length > MOST_LABEL:
                self._pointer(at)
                return at + 2
            at += 1 + length

    def _step(self) -> None:
        self.steps += 1
        if self.steps > MOST_STEPS:
            raise MalformedAnswer("its names need too much work")
