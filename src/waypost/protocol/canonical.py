"""Content in canonical form: text lines that end with CRLF, without bare CR, bare LF and NUL (RFC 2049 section 4).

A message that came by BINARYMIME (RFC 3030) may hold any octets, and one that came by BDAT may end inside a line. POP3
can carry neither (RFC 1939 3; RFC 6856 2.1 allows UTF-8 but not binary content). `FormMeter` measures a message once,
when it is stored, and says what must be converted; `CanonicalLines` converts it when it is read.
"""

from dataclasses import dataclass

from waypost.protocol.lines import is_clean


@dataclass(frozen=True, slots=True)
class ContentForm:
    """How a content differs from what every POP3 client can take.

    `growth` is None for a content of whole CRLF lines without NUL, which goes out as it is. Otherwise it is the number
    of octets that `CanonicalLines` adds, negative where it removes more than it adds, or `UNMEASURED`.
    `eight_bit_header` is False only if every octet of the header is ASCII.
    """

    growth: int | None = None
    eight_bit_header: bool = False


UNMEASURED = -(1 << 63)
"""The growth of a content that was never measured: the version of Waypost that stored it had no `FormMeter`."""

PLAIN = ContentForm()
"""The form of nearly every message: CRLF lines and an ASCII header."""


class FormMeter:
    """Measures a content that is written in pieces. `eight_bit`: an octet above 127 occurred."""

    __slots__ = ("_begun", "_ends_line", "_growth", "_held", "eight_bit")

    def __init__(self) -> None:
        self._begun = False
        self._growth: int | None = None
        self._held = False  # the last piece ended with CR, whose LF may come
        self._ends_line = True
        self.eight_bit = False

    def feed(self, data: bytes) -> None:  # hot: bench/accept
        """Take the next octets."""
        if not self.eight_bit and not data.isascii():
            self.eight_bit = True
        if b"\0" in data:
            self._growth = (self._growth or 0) - data.count(b"\0")
            data = data.translate(None, b"\0")
        if not data:
            return
        self._begun = True
        if self._held:
            data = b"\r" + data
        self._held = data.endswith(b"\r")
        if self._held:
            data = data[:-1]
        if not is_clean(data):
            bare = data.count(b"\r") + data.count(b"\n") - 2 * data.count(b"\r\n")
            self._growth = (self._growth or 0) + bare
        self._ends_line = data.endswith(b"\n")

    def form(self, head: bytes) -> ContentForm:
        """Return the form of `head` followed by the octets fed. `head` is clean; it may end inside a line."""
        growth, ends_line = self._growth, self._ends_line if self._begun else not head or head.endswith(b"\r\n")
        if self._held:
            growth, ends_line = (growth or 0) + 1, True
        if not ends_line:
            growth = (growth or 0) + 2
        # If the head has no blank line, the header may continue in the octets after it.
        eight_bit = not head.isascii() or (self.eight_bit and not head.endswith(b"\r\n\r\n"))
        return PLAIN if growth is None and not eight_bit else ContentForm(growth, eight_bit)


class CanonicalLines:
    """Writes content as CRLF lines: a bare CR or LF becomes CRLF, NUL is left out, and the last line gets its CRLF."""

    __slots__ = ("_ends_line", "_held")

    def __init__(self) -> None:
        self._held = False
        self._ends_line = True  # an empty content needs no line end

    def convert(self, data: bytes) -> bytes:
        """Return the next piece in canonical form."""
        if b"\0" in data:
            data = data.translate(None, b"\0")
        if not data:
            return data
        if self._held:
            data = b"\r" + data
        self._held = data.endswith(b"\r")
        if self._held:
            data = data[:-1]
        if data:
            self._ends_line = data.endswith((b"\r", b"\n"))
        return data if is_clean(data) else _converted(data)

    def finish(self) -> bytes:
        """Return the octets that end the content."""
        return b"\r\n" if self._held or not self._ends_line else b""


def _converted(data: bytes) -> bytes:
    return data.replace(b"\r\n", b"\n").replace(b"\r", b"\n").replace(b"\n", b"\r\n")
