"""Header fields in ASCII, whatever they say: encoded words and folding (RFC 2047, RFC 5322 2.2.3)."""

import base64
from collections.abc import Iterable

MAX_LINE = 78  # octets, RFC 5322 2.1.1
_MAX_ENCODED_LINE = 76  # octets of a line with an encoded word in it, RFC 2047 section 2
_MAX_ENCODED = 75  # octets of an encoded word, RFC 2047 section 2
_OVERHEAD = len("=?utf-8?q??=")
_LEAST = 24  # octets of text in the first word, however long the name of its field is

# RFC 2047 5 (3): what stands for itself even inside a name.
_SAFE = frozenset("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789!*+-/")


def encoded_words(text: str, indent: int = 1) -> list[str]:
    """Return the text as encoded words of RFC 2047, each of whole characters and 75 octets at most.

    `indent` is how many octets stand before the first word on its line: the name of a field, say. No line is longer
    than 76 octets where each further word begins a line.
    """
    if not text:
        return []
    first = max(_LEAST, min(_MAX_ENCODED, _MAX_ENCODED_LINE - indent) - _OVERHEAD)
    room = _MAX_ENCODED - _OVERHEAD
    quoted = ["".join(map(_q, _octets(character))) for character in text]
    if sum(map(len, quoted)) <= (len(_octets(text)) + 2) // 3 * 4:  # the shorter one
        return [f"=?utf-8?q?{piece}?=" for piece in _joined(quoted, first, room)]
    pieces = _joined(text, first // 4 * 3, room // 4 * 3)
    return [f"=?utf-8?b?{base64.b64encode(_octets(piece)).decode()}?=" for piece in pieces]


def fold(name: str, tokens: Iterable[str]) -> bytes:
    """Return a field of these tokens, which are ASCII or UTF-8, with its line end; lines end between tokens alone."""
    lines = [f"{name}:".encode()]
    first = True
    for token in tokens:
        octets = b" " + token.encode()
        most = _MAX_ENCODED_LINE if b"=?" in octets or b"=?" in lines[-1] else MAX_LINE
        # A first line with nothing behind the colon would be legal, and is misread by some.
        if len(lines[-1]) + len(octets) <= most or first:
            lines[-1] += octets
        else:
            lines.append(octets)
        first = False
    return b"\r\n".join(lines) + b"\r\n"


def _octets(text: str) -> bytes:
    return text.encode("utf-8", "replace")


def _q(octet: int) -> str:
    character = chr(octet)
    return character if character in _SAFE else "_" if character == " " else f"={octet:02X}"


def _joined(pieces: Iterable[str], first: int, most: int) -> list[str]:
    """Join pieces, in order, to texts of `most` octets at most; the first one has `first`."""
    joined = [""]
    size, room = 0, first
    for piece in pieces:
        length = len(_octets(piece))
        if size + length > room and size:
            joined.append("")
            size, room = 0, most
        joined[-1] += piece
        size += length
    return joined
