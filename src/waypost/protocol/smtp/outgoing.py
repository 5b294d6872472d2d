"""Message content on its way out: what it needs of the next hop, and how it is written after DATA or BDAT.

No function here lets a bare CR, a bare LF or a NUL pass into DATA (RFC 5321 2.3.8 and 4.5.2): with these, a sender
could smuggle SMTP commands. Everything works on whole chunks of bytes; there is no loop over lines.
"""

import msgspec

from waypost.protocol.lines import double_dots, is_clean


class ContentError(ValueError):
    """The content can't be sent by DATA: it holds a bare CR, a bare LF or a NUL."""


class ContentFacts(msgspec.Struct, frozen=True):
    """What must be known of a content before MAIL is sent.

    `size` in octets; `line_clean`: every line end is CRLF and there is no NUL; `eight_bit`: octets above
    127 occur; `header_ascii`: the header has no such octet (RFC 6532).
    """

    size: int
    line_clean: bool
    eight_bit: bool
    header_ascii: bool


def scan(content: bytes) -> ContentFacts:  # hot: bench/relay
    """Return the facts of a whole content."""
    if content.isascii():
        return ContentFacts(len(content), is_clean(content), False, True)
    end = content.find(b"\r\n\r\n")
    header = content if end < 0 else content[:end]
    return ContentFacts(len(content), is_clean(content), True, header.isascii())


class ContentScanner:
    """`scan` for a content that is read in pieces."""

    __slots__ = ("_clean", "_eight_bit", "_guard", "_header_ascii", "_in_header", "_size", "_tail")

    def __init__(self) -> None:
        self._guard = LineGuard()
        self._size = 0
        self._clean = True
        self._eight_bit = False
        self._header_ascii = True
        self._in_header = True
        self._tail = b""  # the header's end may lie across two pieces

    def feed(self, data: bytes) -> None:
        """Take the next octets."""
        self._size += len(data)
        if self._clean:
            try:
                self._guard.check(data)
            except ContentError:
                self._clean = False
        if not self._eight_bit and not data.isascii():
            self._eight_bit = True
        if self._in_header:
            joined = self._tail + data
            end = joined.find(b"\r\n\r\n")
            self._in_header = end < 0
            if not (joined if end < 0 else joined[:end]).isascii():
                self._header_ascii = False
            self._tail = joined[-3:]

    def facts(self) -> ContentFacts:
        """Return the facts of all octets fed."""
        if self._clean:
            try:
                self._guard.finish()
            except ContentError:
                self._clean = False
        return ContentFacts(self._size, self._clean, self._eight_bit, self._header_ascii)


class LineGuard:
    """Passes clean octets on, and holds a CR at the end of a piece back until its LF is seen."""

    __slots__ = ("_held",)

    def __init__(self) -> None:
        self._held = False

    def check(self, data: bytes) -> bytes:
        """Return the octets that may go out now. Raises `ContentError`."""
        if self._held and data:
            data = b"\r" + data
            self._held = False
        if data.endswith(b"\r"):
            data = data[:-1]
            self._held = True
        if not is_clean(data):
            raise ContentError("the content has a bare CR, a bare LF or a NUL")
        return data

    def finish(self) -> None:
        """The content is whole. Raises `ContentError` when it ends with a bare CR."""
        if self._held:
            raise ContentError("the content ends with a bare CR")


def stuff_whole(content: bytes) -> bytes:  # hot: bench/relay
    """Return a content for DATA, with its end. It must be one that `scan` found clean."""
    stuffed = double_dots(content)
    if content.startswith(b"."):
        stuffed = b"." + stuffed
    return stuffed + (b".\r\n" if not content or content.endswith(b"\n") else b"\r\n.\r\n")


class DotStuffer:
    """Writes content after DATA (RFC 5321 4.5.2): dots doubled, the end as CRLF.CRLF."""

    __slots__ = ("_at_line_start", "_guard")

    def __init__(self) -> None:
        self._guard = LineGuard()
        self._at_line_start = True

    def stuff(self, data: bytes) -> bytes:
        """Return the octets to write for the next piece of content. Raises `ContentError`."""
        data = self._guard.check(data)
        if not data:
            return data
        first_is_dot = self._at_line_start and data.startswith(b".")
        self._at_line_start = data.endswith(b"\n")
        data = double_dots(data)
        return b"." + data if first_is_dot else data

    def finish(self) -> bytes:
        """Return the end of the content. Raises `ContentError` when it ends with a bare CR."""
        self._guard.finish()
        return b".\r\n" if self._at_line_start else b"\r\n.\r\n"
