"""Answers that cost much to read whole: what name servers of strangers may send."""

import struct

HEAD = struct.Struct("!HHHHHH")
RECORD = struct.Struct("!HHIH")
MX, TXT, CNAME, NS = 15, 16, 5, 2


def wire(*labels: bytes) -> bytes:
    """A name on the wire."""
    return b"".join(bytes((len(label),)) + label for label in labels) + b"\0"


NAME = wire(b"bomb", b"test")
TO_NAME = b"\xc0\x0c"  # a pointer to the name of the question


def message(
    answers: list[bytes],
    authorities: list[bytes] | None = None,
    additions: list[bytes] | None = None,
    *,
    kind: int = MX,
    number: int = 0,
    counts: tuple[int, int, int] | None = None,
) -> bytes:
    """An answer of the records, to the question for records of one kind of bomb.test."""
    sections = answers, authorities or [], additions or []
    given = counts or tuple(map(len, sections))
    head = HEAD.pack(number, 0x8180, 1, *given)
    return head + NAME + struct.pack("!HH", kind, 1) + b"".join(record for section in sections for record in section)


def record(kind: int, data: bytes, owner: bytes = TO_NAME, ttl: int = 60) -> bytes:
    """A record on the wire."""
    return owner + RECORD.pack(kind, 1, ttl, len(data)) + data


def mx(host: bytes, preference: int = 10) -> bytes:
    """An MX record on the wire."""
    return record(MX, struct.pack("!H", preference) + host)


def pointing_mx(count: int = 3627) -> list[bytes]:
    """MX records whose hosts point into one name of a hundred labels; that name is the first one's."""
    deep = wire(*[b"a"] * 100)
    first = mx(deep)
    at = HEAD.size + len(NAME) + 4 + len(first) - len(deep)
    return [first, *(mx(b"\1" + bytes((0x61 + n % 26,)) + struct.pack("!H", 0xC000 | at)) for n in range(count - 1))]


def whole_mx(count: int = 293) -> list[bytes]:
    """MX records with whole names of many labels."""
    return [mx(wire(*[b"%x" % (n % 16)] * 100, b"%04d" % n)) for n in range(count)]


def pointer_chain(count: int = 7000) -> list[bytes]:
    """Pointers to pointers to pointers, and MX records that begin at the last one."""
    begin = HEAD.size + len(NAME) + 4 + 2 + RECORD.size  # the data of the first record
    links = b"\0\0" + b"".join(struct.pack("!H", 0xC000 | (begin + 2 * n)) for n in range(count - 1))
    last = 0xC000 | (begin + 2 * (count - 1))
    return [record(TXT, links), *(mx(struct.pack("!H", last)) for _ in range(100))]


def cname_chain(count: int = 120) -> list[bytes]:
    """Aliases of aliases."""
    names = [NAME, *(wire(b"n%d" % n, b"test") for n in range(count))]
    return [record(CNAME, names[n + 1], names[n]) for n in range(count)]


BOMBS = {
    "pointing": message(pointing_mx()),
    "whole names": message(whole_mx()),
    "a chain of pointers": message(pointer_chain()),
    "a chain of aliases": message(cname_chain()),
    "owners of many labels": message([record(MX, b"\0\1\0", wire(*[b"a"] * 120)) for _ in range(250)]),
    "huge texts": message([record(TXT, b"\xff" + b"x" * 255) for _ in range(230)], kind=TXT),
    "many addresses": message([record(1, struct.pack("!I", 0x01010101 + n)) for n in range(3000)], kind=1),
    "names of an address": message([record(12, wire(*[b"a"] * 100, b"%04d" % n)) for n in range(290)], kind=12),
    "many texts": message([record(TXT, b"\1x") for _ in range(4000)], kind=TXT),
    "additions": message([mx(wire(b"mx", b"test"))], None, [record(1, b"\1\1\1\1", wire(*[b"a"] * 120))] * 220),
    "authorities": message([], [record(NS, wire(*[b"b"] * 120), wire(*[b"a"] * 120))] * 120),
    "counts that are not there": message([mx(wire(b"mx", b"test"))], counts=(65535, 65535, 65535)),
    "a label of a kind that nobody knows": message([mx(b"\x80\0")]),
    "a pointer to itself": message([mx(struct.pack("!H", 0xC000 | 34))]),
}
