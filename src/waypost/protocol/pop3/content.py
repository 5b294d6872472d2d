"""Message octets on their way to a POP3 client (RFC 1939 3).  # hot: bench/pop3

Whole chunks are handled at C speed, without a loop over lines. Every line of the input ends with CRLF: a message that
is stored in another form was converted before (`protocol/canonical.py`).
"""

from waypost.protocol.lines import double_dots


class LineDotStuffer:
    """Doubles dots at the beginning of lines, and ends the message with CRLF.CRLF."""

    __slots__ = ("_matched",)

    def __init__(self) -> None:
        self._matched = 2  # octets of CRLF that the last chunk ended with; a message begins a line

    def stuff(self, data: bytes) -> bytes:
        """Return the octets to write for the next chunk."""
        if not data:
            return data
        stuffed = double_dots(data)
        if self._matched == 2 and data.startswith(b"."):
            stuffed = b"." + stuffed
        elif self._matched == 1 and data.startswith(b"\n."):
            stuffed = b"\n." + stuffed[1:]
        if data.endswith(b"\r\n") or (self._matched == 1 and data == b"\n"):
            self._matched = 2
        else:
            self._matched = 1 if data.endswith(b"\r") else 0
        return stuffed

    def finish(self) -> bytes:
        """Return the end of the message."""
        return b".\r\n" if self._matched == 2 else b"\r\n.\r\n"


class TopCutter:
    """Passes the header, the empty line, and the first `lines` lines of the body (RFC 1939 7, TOP)."""

    __slots__ = ("_held", "_in_header", "_lines", "_virtual", "done")

    def __init__(self, lines: int) -> None:
        self._lines = lines
        self._in_header = True
        # The start of a message is the start of a line, as if a CRLF came before it; that CRLF is never returned.
        self._held = b"\r\n"
        self._virtual = 2
        self.done = False
        """True when the client needs no more octets of the message."""

    def cut(self, data: bytes) -> bytes:
        """Return the part of the next chunk that the client gets."""
        if self.done:
            return b""
        data, self._held = self._held + data, b""
        if not self._in_header:
            return self._body(data)
        end = data.find(b"\r\n\r\n")
        if end < 0:
            self._held = data[-3:]
            return self._real(data[:-3])
        self._in_header = False
        return self._real(data[: end + 4]) + self._body(data[end + 4 :])

    def finish(self) -> bytes:
        """The message has ended: return the octets that were held back."""
        return b"" if self.done else self._real(self._held)

    def _body(self, data: bytes) -> bytes:
        if self._lines and data.endswith(b"\r"):
            data, self._held = data[:-1], b"\r"
        ends = data.count(b"\r\n")
        if ends < self._lines:
            self._lines -= ends
            return data
        rest = data.split(b"\r\n", self._lines)[-1] if self._lines else data
        self.done = True
        return data[: len(data) - len(rest)]

    def _real(self, data: bytes) -> bytes:
        virtual = min(self._virtual, len(data))
        self._virtual -= virtual
        return data[virtual:]
