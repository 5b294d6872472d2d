"""Line ends and leading dots of message octets, handled at the speed of memory.  # hot: bench/accept

No function loops over lines. Each searches for single octets, which the C library finds many at a time; a search for
two or three octets takes fifty times as long. Large pieces are handled in blocks that stay in the cache and below the
size for which the allocator asks the kernel.
"""

_DOT = b"\r\n."
_BLOCK = 16 * 1024
_WINDOW = 4096


def is_clean(piece: bytes) -> bool:
    """True when every CR and LF is part of a CRLF and there is no NUL. A piece must not end inside a CRLF."""
    if b"\0" in piece or piece.startswith(b"\n"):
        return False
    if len(piece) <= _BLOCK:
        return _has_whole_ends(piece)
    start = 0
    while start < len(piece):
        end = start + _BLOCK
        if piece[end - 1 : end] == b"\r":  # its LF belongs to this block
            end += 1
        if not _has_whole_ends(piece[start:end]):
            return False
        start = end
    return True


def _has_whole_ends(block: bytes) -> bool:
    # Remove every CR, then put one before each LF: this gives the same block only if it had no bare CR or LF.
    return block.replace(b"\r", b"").replace(b"\n", b"\r\n") == block


def with_whole_ends(piece: bytes) -> bytes | None:
    """Return a piece in which each bare LF has become a CRLF; None when there is a bare CR or a NUL.

    A piece must not end inside a CRLF, nor begin inside one.
    """
    lines = piece.replace(b"\r\n", b"\n")
    if b"\r" in lines or b"\0" in lines:
        return None
    return lines.replace(b"\n", b"\r\n")


def find_dot(data: bytes) -> int:
    """Return the position of the first CRLF with a dot after it; -1 when no line begins with a dot.

    Most large contents are base64, which has no dots.
    """
    dot = data.find(b".")
    while dot >= 0:
        found = data.find(_DOT, max(0, dot - 2), dot + _WINDOW)
        if found >= 0:
            return found
        dot = data.find(b".", dot + _WINDOW)
    return -1


def double_dots(data: bytes) -> bytes:
    """Return data with the dot after each CRLF doubled (RFC 5321 4.5.2, RFC 1939 3)."""
    return data.replace(_DOT, b"\r\n..") if find_dot(data) >= 0 else data
