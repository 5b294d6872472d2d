"""The MIME structure of a message: its parts within parts, as octet offsets (RFC 2045, RFC 2046, RFC 5322).

Only the fields that say what a part is are decoded or copied. The time is linear in the size of any message. The number
and the depth of parts are bounded: parts beyond the bounds are not seen, and the result says so.
"""

from collections.abc import Iterator
from dataclasses import dataclass

from waypost.message.content_fields import ContentField, parse_content_type, parse_disposition, parse_encoding
from waypost.message.headers import HeaderBlock

MOST_PARTS = 10_000
"""Parts of one message, the message itself and those of messages in it counted."""
DEEPEST = 50
"""How deep parts may be nested; a message that is forwarded as an attachment adds two levels."""

_TEXT = ContentField("text/plain", (("charset", b"us-ascii"),))  # RFC 2045 5.2
_MESSAGE = ContentField("message/rfc822")  # in a digest, RFC 2046 5.1.5
_MESSAGES = frozenset({"message/rfc822", "message/global"})  # RFC 2046 5.2.1, RFC 6532 3.7
_UNENCODED = frozenset({"7bit", "8bit", "binary"})
_LONGEST_BOUNDARY = 200  # octets; RFC 2046 5.1.1 allows 70


@dataclass(frozen=True, slots=True)
class Part:
    """One part, or a whole message: its header is octets [start, body), blank line included, its body [body, end).

    `parts` are those of a multipart, or the one message in a message/rfc822; they are empty for a multipart in which no
    part was found. Where the header gives no content type, or a malformed one, `content_type` is the default of MIME.
    """

    start: int
    body: int
    end: int
    content_type: ContentField
    encoding: str
    disposition: ContentField | None
    parts: tuple["Part", ...] = ()

    @property
    def is_multipart(self) -> bool:
        """True when it consists of parts."""
        return bool(self.parts) and not self.is_message

    @property
    def is_message(self) -> bool:
        """True when it encloses a message, which is `parts[0]` and has its own header."""
        return bool(self.parts) and self.content_type.value in _MESSAGES

    def leaves(self) -> Iterator["Part"]:
        """Yield the parts that are not a multipart, in order; an enclosed message is a leaf as a whole."""
        waiting = [self]
        while waiting:
            part = waiting.pop()
            if part.is_multipart:
                waiting.extend(reversed(part.parts))
            else:
                yield part


@dataclass(frozen=True, slots=True)
class Structure:
    """What `scan_structure` found. `whole` is False when there are more parts, or deeper ones, than it looks at."""

    root: Part
    whole: bool


def scan_structure(data: bytes, *, most_parts: int = MOST_PARTS, deepest: int = DEEPEST) -> Structure:
    """Find the parts of a message. It never fails: any octets are a message."""
    return _Scanner(data, most_parts, deepest).scan()


@dataclass(slots=True)
class _Open:
    """A part whose end is not found yet. `boundary` is None for a part that is not a multipart or is closed."""

    start: int
    body: int
    content_type: ContentField
    encoding: str
    disposition: ContentField | None
    boundary: bytes | None
    parts: list[Part]


@dataclass(frozen=True, slots=True)
class _Delimiter:
    """A delimiter line of an open multipart: where it begins, where the next line does, and whether it is the last."""

    position: int
    after: int
    level: int
    last: bool


class _Scanner:
    """One pass over the octets, from one line that begins with two hyphens to the next."""

    def __init__(self, data: bytes, most_parts: int, deepest: int) -> None:
        self._data = data
        self._deepest = deepest
        self._left = most_parts
        self._at = 0  # delimiters before this offset were found already
        self._blank = -1  # the offset of the last blank line that was found and is not used yet
        self._open: list[_Open] = []
        self._root: Part | None = None
        self._whole = True

    def scan(self) -> Structure:
        """Scan the whole message."""
        found = self._begin(0, _TEXT)
        while found is not None or (found := self._find(len(self._data))) is not None:
            self._close_above(found.level, found.position - 2)  # the CRLF belongs to the delimiter (RFC 2046 5.1.1)
            multipart, delimiter, found = self._open[-1], found, None
            if delimiter.last:
                multipart.boundary = None
            elif self._left:
                default = _MESSAGE if multipart.content_type.value == "multipart/digest" else _TEXT
                found = self._begin(delimiter.after, default)
            else:
                self._whole = False
                break
        self._close_above(-1, len(self._data))
        assert self._root is not None
        return Structure(self._root, self._whole)

    def _begin(self, start: int, default: ContentField) -> _Delimiter | None:
        """Open the part that begins here, and those that begin with it: the message in a message/rfc822.

        Returns the delimiter that ends the part, if one stands in its header already.
        """
        while True:
            self._left -= 1
            body = self._header_end(start)
            found = self._find(body)
            if found is not None:
                body = max(start, found.position - 2)
            part = self._read(start, body, default)
            self._open.append(part)
            if found is not None or part.content_type.value not in _MESSAGES or part.encoding not in _UNENCODED:
                return found
            if len(self._open) >= self._deepest or not self._left:
                self._whole = False
                return None
            start, default = body, _TEXT

    def _read(self, start: int, body: int, default: ContentField) -> _Open:
        """Read the fields of the header that describe its part."""
        header = HeaderBlock(self._data[start:body])
        content_type = parse_content_type(header.get(b"content-type") or b"") or default
        disposition = parse_disposition(header.get(b"content-disposition") or b"")
        encoding = parse_encoding(header.get(b"content-transfer-encoding") or b"")
        boundary = None
        if content_type.major == "multipart":
            boundary = (content_type.get("boundary") or b"").rstrip()
            if len(self._open) + 1 >= self._deepest:
                self._whole, boundary = False, None
            elif not 0 < len(boundary) <= _LONGEST_BOUNDARY:
                boundary = None
        return _Open(start, body, content_type, encoding, disposition, boundary, [])

    def _header_end(self, start: int) -> int:
        """Return the offset after the blank line that ends a header. Searches only go forward, and never repeat."""
        if self._data.startswith(b"\r\n", start):
            return start + 2
        if self._blank < start:
            found = self._data.find(b"\r\n\r\n", start)
            self._blank = found if found >= 0 else len(self._data)
        return min(self._blank + 4, len(self._data))

    def _find(self, until: int) -> _Delimiter | None:
        """Return the next delimiter that begins before `until`."""
        data = self._data
        while True:
            position = data.find(b"\r\n--", max(0, self._at - 2), until) + 2
            if position < 2:
                self._at = max(self._at, until)
                return None
            self._at = position + 2
            level = self._match(position + 2)
            if level is None:
                continue
            boundary = self._open[level].boundary
            assert boundary is not None
            behind = position + 2 + len(boundary)
            end = data.find(b"\r\n", behind)
            after = end + 2 if end >= 0 else len(data)
            self._at = after
            return _Delimiter(position, after, level, data.startswith(b"--", behind))

    def _match(self, position: int) -> int | None:
        """Return the level of the open multipart that the line is a delimiter of; None when it is not a delimiter.

        The line must begin with a boundary; any text may follow (RFC 2046 5.1.2). If several match, the longest one is
        meant, and of equal ones that of the innermost multipart.
        """
        best, longest = None, 0
        for level in range(len(self._open) - 1, -1, -1):
            boundary = self._open[level].boundary
            if boundary is not None and len(boundary) > longest and self._data.startswith(boundary, position):
                best, longest = level, len(boundary)
        return best

    def _close_above(self, level: int, end: int) -> None:
        """End the parts inside that level here."""
        while len(self._open) - 1 > level:
            part = self._open.pop()
            # Between two adjacent delimiters, a part would begin after its end.
            start, body = min(part.start, end), min(part.body, end)
            closed = Part(start, body, end, part.content_type, part.encoding, part.disposition, tuple(part.parts))
            if self._open:
                self._open[-1].parts.append(closed)
            else:
                self._root = closed
