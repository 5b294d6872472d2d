"""The header block of a message (RFC 5322 section 2.2), over its bytes and never re-encoded.

Fields are found once, with their octet offsets; values are sliced when they are asked for. Nothing here decodes
what it does not need.
"""

import re
from collections.abc import Collection
from dataclasses import dataclass

_NAME = re.compile(rb"[!-9;-~]+[ \t]*:")
_TOKEN = re.compile(rb'"(?:[^"\\]|\\.)*"|\((?:[^()\\]|\\.)*\)|<[^<>]*>|[,;:()<>@]|[^\s"(),;:<>@]+|.', re.DOTALL)


def find_header_end(data: bytes, start: int = 0) -> int | None:
    """Return the offset behind the blank line that ends the header block, None when it is not there yet.

    `start` is where to look on, for data that grows. A message that begins with a blank line has no header.
    """
    if data.startswith(b"\r\n"):
        return 2
    found = data.find(b"\r\n\r\n", max(0, start - 3))
    return None if found < 0 else found + 4


@dataclass(frozen=True, slots=True)
class Field:
    """One header field: lower-case name, and octets [start, end) of the block, line end included."""

    name: bytes
    start: int
    end: int
    value_start: int


class HeaderBlock:
    """The fields of a header block; `data` may hold the blank line and more behind it."""

    __slots__ = ("data", "fields", "problems")

    def __init__(self, data: bytes) -> None:
        self.data = data
        self.fields: list[Field] = []
        self.problems: list[str] = []
        self._scan()

    def _scan(self) -> None:
        data, position, end = self.data, 0, len(self.data)
        while position < end and not data.startswith(b"\r\n", position):
            line_end = data.find(b"\r\n", position)
            line_end = end if line_end < 0 else line_end + 2
            while line_end < end and data[line_end] in b" \t":  # a folded line (RFC 5322 2.2.3)
                following = data.find(b"\r\n", line_end)
                line_end = end if following < 0 else following + 2
            match = _NAME.match(data, position, line_end)
            if match is None:
                words = data[position : position + 40].decode("ascii", "backslashreplace").strip()
                self.problems.append(f"this line of the header is no field: {words!r}")
            else:
                name = match.group()[:-1].rstrip().lower()
                self.fields.append(Field(name, position, line_end, match.end()))
            position = line_end

    def get(self, name: bytes) -> bytes | None:
        """Return the unfolded value of the first field of this lower-case name; None when there is none."""
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
        """Return the block (and what is behind it) without the fields of these lower-case names."""
        kept, position = [], 0
        for field in self.fields:
            if field.name in names:
                kept.append(self.data[position : field.start])
                position = field.end
        kept.append(self.data[position:])
        return b"".join(kept)


def mailboxes_of(value: bytes) -> list[str]:
    """Return the addr-specs of an address list (RFC 5322 3.4), such as a From field's value.

    Display names, comments and groups are passed over; the time is linear in the length. An element without an
    address is left out, so that the caller can see that there is none.
    """
    found: list[str] = []
    word: list[bytes] = []
    angle: bytes | None = None
    for match in _TOKEN.finditer(value):
        token = match.group()
        if token.isspace() or token.startswith(b"("):
            continue
        if token in (b",", b";"):
            _add(found, word, angle)
            word, angle = [], None
        elif token == b":" and angle is None:
            word = []  # what stood before was a group's name
        elif token.startswith(b"<") and token.endswith(b">"):
            angle = token[1:-1]
        else:
            word.append(token)
    _add(found, word, angle)
    return found


def _add(found: list[str], word: list[bytes], angle: bytes | None) -> None:
    text = angle if angle is not None else b"".join(word)
    text = text.strip()
    if text.startswith(b"@") and b":" in text:  # an obsolete route in the angle brackets
        text = text.partition(b":")[2]
    if b"@" in text:
        found.append(text.decode("utf-8", "backslashreplace"))
