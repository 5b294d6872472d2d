"""The input buffer from which every engine of a line protocol reads its command lines.  # hot: bench/accept

All these protocols agree where a line ends, and which line ends are suspicious. The reply to a line that is too long
or ends wrongly is the protocol's own.
"""


class LineInput:
    """Octets that were received and not handled: those of `buffer` from `position` on."""

    __slots__ = ("buffer", "position")

    def __init__(self) -> None:
        self.buffer = b""
        self.position = 0

    def receive(self, data: bytes) -> None:
        """Take bytes from the peer."""
        rest = self.buffer[self.position :]
        self.buffer = rest + data if rest else data
        self.position = 0

    def drop_input(self) -> None:
        """Forget what was received and not handled."""
        self.buffer, self.position = b"", 0

    @property
    def unread(self) -> int:
        """How many octets were received and not handled."""
        return len(self.buffer) - self.position

    def take_line(self) -> bytes | None:
        """Return the next line without its CRLF, unchecked; None while no line is complete."""
        buffer, position = self.buffer, self.position
        end = buffer.find(b"\r\n", position)
        if end < 0:
            return None
        self.position = end + 2
        if self.position == len(buffer):
            self.drop_input()
        return buffer[position:end]

    def take_rest(self) -> bytes:
        """Return all octets that were received and not handled."""
        rest = self.buffer[self.position :]
        self.drop_input()
        return rest

    def lines_with_lf(self) -> int:
        """Return how many lines wait if all of them end with LF alone and nothing else waits; otherwise 0.

        A person at netcat or a health check sends such lines. Among lines that end with CRLF, a bare LF could hide a
        command.
        """
        rest = self.buffer[self.position :]
        return rest.count(b"\n") if rest.endswith(b"\n") and b"\r" not in rest and b"\0" not in rest else 0


def has_bare_end(line: bytes) -> bool:
    """True when a line holds a bare CR, a bare LF or a NUL."""
    return b"\n" in line or b"\r" in line or b"\0" in line
