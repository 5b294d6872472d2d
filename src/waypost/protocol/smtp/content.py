"""Message content on its way in: the octets of DATA and BDAT.  # hot: bench/accept

Only CRLF.CRLF ends DATA (RFC 5321 4.1.1.4); a bare CR, bare LF or NUL spoils the message, wherever the borders of
chunks fall.
"""

from waypost.protocol.lines import find_dot, is_clean

_END = b"\r\n.\r\n"


class DotReader:
    """Reads the content of one DATA command."""

    __slots__ = ("_held", "_virtual", "clean", "size")

    def __init__(self) -> None:
        # The content begins at a line's beginning: as if a CRLF stood before it, which is never handed out.
        self._held = b"\r\n"
        self._virtual = 2
        self.clean = True
        self.size = 0

    def feed(self, data: bytes) -> tuple[bytes, bytes | None]:
        """Return the content that is certain, and what follows the end; None while the end is not reached."""
        data = self._held + data
        dot = find_dot(data)
        end = data.find(_END, dot) if dot >= 0 else -1
        if end >= 0:
            piece, rest = data[: end + 2], data[end + 5 :]
            return self._take(piece, dotted=dot < end), rest
        keep = self._possible_end(data)
        self._held = data[len(data) - keep :]
        return self._take(data[: len(data) - keep], dotted=dot >= 0), None

    @staticmethod
    def _possible_end(data: bytes) -> int:
        for length in (4, 3, 2, 1):
            if data.endswith(_END[:length]):
                return length
        return 0

    def _take(self, piece: bytes, *, dotted: bool) -> bytes:
        if not piece:
            return b""
        if self.clean and not is_clean(piece):
            self.clean = False
        if dotted:
            piece = piece.replace(b"\r\n.", b"\r\n")
        if self._virtual:
            piece, self._virtual = piece[2:], 0
        self.size += len(piece)
        return piece


class ChunkReader:
    """Reads the content of the BDAT commands of one message (RFC 3030)."""

    __slots__ = ("_cr", "binary", "clean", "left", "size")

    def __init__(self, *, binary: bool) -> None:
        self.binary = binary
        self.clean = True
        self.left = 0
        self.size = 0
        self._cr = False

    def feed(self, data: bytes) -> bytes:
        """Return content of the present chunk; `data` holds no more than is `left` of it."""
        self.left -= len(data)
        self.size += len(data)
        if not self.binary and self.clean and data:
            piece = b"\r" + data if self._cr else data
            self._cr = piece.endswith(b"\r")
            self.clean = is_clean(piece[:-1] if self._cr else piece)
        return data

    def end(self) -> None:
        """The last chunk is complete: a CR that waits for its LF is bare."""
        if self._cr:
            self.clean = False
