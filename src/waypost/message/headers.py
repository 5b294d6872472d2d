"""The header block of a message (RFC 5322 section 2.2), over its bytes and never re-encoded.

Fields are found once, with their octet offsets; values are sliced when they are asked for. Nothing here decodes
what it does not need. Every search takes time linear in the size of its input, for any input.
"""

import re
from collections.abc import Collection, Sequence
from typing import NamedTuple

# A name with its colon if there is one, then everything up to the line end that no folding follows (RFC 5322 2.2.3).
_FIELD = re.compile(rb"(?:([!-9;-~]++)[ \t]*+:)?((?:[^\r]++|\r(?!\n)|\r\n[ \t])*+)(?:\r\n)?+")
_END_OF_FIELD = re.compile(rb"\r\n(?![ \t])")
_FIELD_NAME = re.compile(rb"[!-9;-~]++[ \t]*+:")
_MESSAGE_ID = re.compile(rb"<[^<>\s]++>")
_LONGEST_ID = 998  # octets: a line of RFC 5322 2.1.1
_MOST_PROBLEMS = 10


def find_header_end(data: bytes | bytearray, start: int = 0) -> int | None:
    """Return the offset after the blank line that ends the header block; None when the blank line is not there yet.

    For data that grows, `start` is where to continue the search. A message that begins with a blank line has no header.
    """
    if data.startswith(b"\r\n"):
        return 2
    found = data.find(b"\r\n\r\n", max(0, start - 3))
    return None if found < 0 else found + 4


def fields_end(content: bytes) -> int:
    """Return how many octets of a content are its header: up to the blank line, which is not counted.

    Where there is no blank line, the header ends at the first line that is not a field (RFC 5322 2.1).
    """
    if content.startswith(b"\r\n"):
        return 0
    end = content.find(b"\r\n\r\n")
    if end >= 0:
        return end
    position = 0
    for line in _END_OF_FIELD.split(content):
        if not _FIELD_NAME.match(line):
            return max(0, position - 2)
        position += len(line) + 2
    return len(content)


class Field(NamedTuple):
    """One header field: lower-case name, and octets [start, end) of the block, line end included."""

    name: bytes
    start: int
    end: int
    value_start: int


class HeaderBlock:
    """The fields of a header block; `data` may hold the blank line and more after it.

    `problems` describes the first few lines that are not a field, in plain words.
    """

    __slots__ = ("data", "fields", "problems")

    def __init__(self, data: bytes) -> None:
        self.data = data
        self.fields: list[Field] = []
        self.problems: list[str] = []
        self._scan()

    def _scan(self) -> None:  # hot: bench/accept
        add = self.fields.append
        for match in _FIELD.finditer(self.data):
            name = match[1]
            start, end = match.span()
            if name is not None:
                add(Field(name.lower(), start, end, match.start(2)))
            elif match[2] and len(self.problems) < _MOST_PROBLEMS:
                words = self.data[start : min(end, start + 40)].decode("ascii", "backslashreplace").strip()
                found = repr(words) if words else "it holds only white space"
                self.problems.append(f"this line of the header is not a field: {found}")
            elif not match[2]:
                return  # the blank line

    def get(self, name: bytes) -> bytes | None:
        """Return the unfolded value of the first field of this lower-case name; None when there is no such field."""
        for field in self.fields:
            if field.name == name:
                return self.value(field)
        return None

    def get_all(self, name: bytes) -> list[bytes]:
        """Return the unfolded values of all fields of this lower-case name."""
        return [self.value(field) for field in self.fields if field.name == name]

    def count(self, name: bytes) -> int:
        """Return how many fields have this lower-case name."""
        return sum(field.name == name for field in self.fields)

    def value(self, field: Field) -> bytes:
        """Return the unfolded value of a field, without the white space around it."""
        return self.data[field.value_start : field.end].replace(b"\r\n", b"").strip()

    def without(self, names: Collection[bytes]) -> bytes:
        """Return the block (and what follows it) without the fields of these lower-case names."""
        return self.without_fields([field for field in self.fields if field.name in names])

    def without_fields(self, fields: Sequence[Field]) -> bytes:
        """Return the block (and what follows it) without these of its fields, given in their order."""
        if not fields:
            return self.data
        kept, position = [], 0
        for field in fields:
            kept.append(self.data[position : field.start])
            position = field.end
        kept.append(self.data[position:])
        return b"".join(kept)


def message_id_of(headers: HeaderBlock) -> str | None:
    """Return the message's identifier `<...>`, by which people search; None when it is missing (RFC 5322 3.6.4)."""
    value = headers.get(b"message-id")
    if not value:
        return None
    match = _MESSAGE_ID.search(value)
    return (match[0] if match else value)[:_LONGEST_ID].decode("utf-8", "backslashreplace")
