"""Message content on its way in: the octets of DATA and BDAT.  # hot: bench/accept

Only CRLF.CRLF ends DATA (RFC 5321 4.1.1.4). A message with a bare CR or a NUL is refused, wherever its chunks are
split, and so is a bare LF in DATA from other servers. In DATA from users, and in BDAT, whose end is counted, a bare LF
becomes a CRLF before anything else sees the octets (docs/decisions/0029).
"""

import re

from waypost.protocol.lines import find_dot, is_clean, with_whole_ends

_END = b"\r\n.\r\n"
_STUFFED = re.compile(rb"(?<!\r)\n\.\.")
"""After a bare LF, a client may or may not have doubled a leading dot. So two dots become one, and one dot stays."""


class DotReader:
    """Reads the content of one DATA command. `mends`: a bare LF becomes a CRLF, but can't be part of the end of DATA.

    `clean` is False when the content must be refused, and `size` counts the octets that were handed out.
    """

    __slots__ = ("_held", "_mends", "_virtual", "clean", "size")

    def __init__(self, *, mends: bool = False) -> None:
        # The start of the content is the start of a line, as if a CRLF came before it; that CRLF is never returned.
        self._held = b"\r\n"
        self._virtual = 2
        self._mends = mends
        self.clean = True
        self.size = 0

    def feed(self, data: bytes) -> tuple[bytes, bytes | None]:
        """Return the content octets that are certain, and the octets after the end of DATA, None before the end."""
        data = self._held + data
        dot = find_dot(data)
        end = data.find(_END, dot) if dot >= 0 else -1
        if end >= 0:
            piece, rest = data[: end + 2], data[end + 5 :]
            return self._take(piece, dotted=dot < end), rest
        keep = self._possible_end(data)
        self._held = data[len(data) - keep :]
        return self._take(data[: len(data) - keep], dotted=dot >= 0), None

    def _possible_end(self, data: bytes) -> int:
        """Return how many of the last octets must wait: they may begin the end of DATA, or a dot after a bare LF."""
        for length in (4, 3, 2, 1):
            if data.endswith(_END[:length]):
                return length
        if self._mends:
            for length in (2, 1):
                if data.endswith(b"\n."[:length]):
                    return length
        return 0

    def _take(self, piece: bytes, *, dotted: bool) -> bytes:
        if not piece:
            return b""
        unclean = self.clean and not is_clean(piece)
        if unclean and self._mends:
            piece = _STUFFED.sub(b"\n.", piece)
        if dotted:
            piece = piece.replace(b"\r\n.", b"\r\n")
        if unclean:
            piece = self._mend(piece)
        if self._virtual:
            piece, self._virtual = piece[2:], 0
        self.size += len(piece)
        return piece

    def _mend(self, piece: bytes) -> bytes:
        whole = with_whole_ends(piece) if self._mends else None
        self.clean = whole is not None
        return piece if whole is None else whole


class ChunkReader:
    """Reads the content of the BDAT commands of one message (RFC 3030).

    Unless it is `binary`, a bare LF becomes a CRLF.
    `clean` is False when the content must be refused. `left` is how many octets of the chunk are still to come, `size`
    how many octets were returned.
    """

    __slots__ = ("_held", "binary", "clean", "left", "size")

    def __init__(self, *, binary: bool) -> None:
        self.binary = binary
        self.clean = True
        self.left = 0
        self.size = 0
        self._held = b""  # a CR, which may still get its LF

    def feed(self, data: bytes) -> bytes:
        """Return the content in `data`, which holds at most the `left` octets of the present chunk."""
        self.left -= len(data)
        if not self.binary and data:
            data = self._whole(data)
        self.size += len(data)
        return data

    def _whole(self, data: bytes) -> bytes:
        if self._held:
            data, self._held = self._held + data, b""
        if data.endswith(b"\r"):
            data, self._held = data[:-1], b"\r"
        if not self.clean or is_clean(data):
            return data
        whole = with_whole_ends(data)
        self.clean = whole is not None
        return data if whole is None else whole

    def end(self) -> None:
        """The last chunk is complete: a CR that waits for its LF is bare."""
        if self._held:
            self.clean = False
