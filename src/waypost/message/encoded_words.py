"""Writes any text as a header field in ASCII: encoded words and folding (RFC 2047, RFC 5322 2.2.3).

`encoded_words` and `fold` write new fields from text. `encode_text` and `Lines` rewrite a field that came as octets,
and keep every word in it that is ASCII already.
"""

import base64
import re
from collections.abc import Iterable

MAX_LINE = 78  # octets, RFC 5322 2.1.1
_MAX_ENCODED_LINE = 76  # octets of a line with an encoded word in it, RFC 2047 section 2
_MAX_ENCODED = 75  # octets of an encoded word, RFC 2047 section 2
_OVERHEAD = len("=?utf-8?q??=")
_LEAST = 24  # octets of text in the first word, however long the name of its field is
_LEAST_ROOM = 32  # octets; where less is left of a line, `Lines` begins the next one

# RFC 2047 5 (3): the octets that need no encoding even inside a name. A space is `_`.
_PLAIN = frozenset(b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789!*+-/")
_Q = tuple(bytes([octet]) if octet in _PLAIN else b"_" if octet == 0x20 else b"=%02X" % octet for octet in range(256))
SPACES = re.compile(rb"([ \t]+)")
_ENCODED_WORD = re.compile(rb"=\?[^?\s]++\?[BbQq]\?[^?\s]*+\?=\Z")


def encoded_words(text: str, indent: int = 1) -> list[str]:
    """Return the text as encoded words of RFC 2047, each of whole characters and 75 octets at most.

    `indent` is how many octets stand before the first word on its line, such as the name of the field. If each further
    word begins a line, no line is longer than 76 octets.
    """
    octets = text.encode("utf-8", "replace")
    quoted = sum(len(_Q[octet]) for octet in octets) <= (len(octets) + 2) // 3 * 4  # the shorter one
    first = max(_LEAST + _OVERHEAD, min(_MAX_ENCODED, _MAX_ENCODED_LINE - indent))
    return [word.decode() for word in _words(octets, first, _MAX_ENCODED, quoted=quoted)]


def fold(name: str, tokens: Iterable[str]) -> bytes:
    """Return a field of these tokens (ASCII or UTF-8) with its line end; lines are broken only between tokens."""
    lines = [f"{name}:".encode()]
    first = True
    for token in tokens:
        octets = b" " + token.encode()
        most = _MAX_ENCODED_LINE if b"=?" in octets or b"=?" in lines[-1] else MAX_LINE
        # A first line with nothing after the colon would be legal, but some programs misread it.
        if len(lines[-1]) + len(octets) <= most or first:
            lines[-1] += octets
        else:
            lines.append(octets)
        first = False
    return b"\r\n".join(lines) + b"\r\n"


def _words(text: bytes, room: int, most: int, *, quoted: bool) -> list[bytes]:
    """Return UTF-8 text as encoded words, each of whole characters and of `most` octets; the first one of `room`."""
    words: list[bytes] = []
    position = 0
    while position < len(text):
        end = _piece(text, position, min(room, most) - _OVERHEAD, quoted=quoted)
        piece = text[position:end]
        if quoted:
            words.append(b"=?utf-8?q?" + b"".join(map(_Q.__getitem__, piece)) + b"?=")
        else:
            words.append(b"=?utf-8?b?" + base64.b64encode(piece) + b"?=")
        position, room = end, most
    return words


def _piece(text: bytes, start: int, room: int, *, quoted: bool) -> int:
    """Return the end of the longest piece whose encoding fits into `room`; it lies between two characters."""
    if quoted:
        end = start
        while end < len(text) and room >= len(_Q[text[end]]):
            room -= len(_Q[text[end]])
            end += 1
    else:
        end = min(len(text), start + room // 4 * 3)
    while start < end < len(text) and text[end] & 0xC0 == 0x80:  # inside of a character
        end -= 1
    return end


def _readable(text: bytes) -> bool:
    """True where people can read most of the text if they see it undecoded in Q encoding."""
    return 2 * (sum(map(_PLAIN.__contains__, text)) + text.count(b" ")) >= len(text)


def encode_text(name: bytes, value: bytes) -> bytes:
    """Return the field for free text, such as the subject: words outside ASCII are encoded, the others stay.

    `name` is what the line begins with, its colon included; `value` is unfolded UTF-8. No line end is added.
    """
    lines = Lines(name)
    pieces = SPACES.split(value.strip(b" \t"))
    words, spaces = pieces[::2], [b" ", *pieces[1::2]]
    index = 0
    while index < len(words):
        if words[index].isascii():
            lines.add(words[index], spaces[index])
            index += 1
            continue
        end = index + 1
        while end < len(words) and not words[end].isascii():
            end += 1
        text = b"".join(spaces[at] + words[at] for at in range(index, end)).removeprefix(spaces[index])
        # White space between two encoded words is not part of the text (RFC 2047 6.2), so one of them takes it in.
        if index and _ENCODED_WORD.match(words[index - 1]):
            text = spaces[index] + text
        if end < len(words) and _ENCODED_WORD.match(words[end]):
            text += spaces[end]
        lines.add_encoded(text, spaces[index])
        index = end
    return lines.octets()


class Lines:
    """Folds the pieces of one field (RFC 5322 2.2.3)."""

    def __init__(self, name: bytes) -> None:
        self._lines = [name]
        self._first = True

    def add(self, piece: bytes, space: bytes = b" ") -> None:
        """Add a piece that must not be broken, with the white space before it."""
        # Some programs misread a first line with nothing after the colon.
        if len(self._lines[-1]) + len(space) + len(piece) <= _MAX_ENCODED_LINE or self._first:
            self._lines[-1] += space + piece
        else:
            self._lines.append(space + piece)
        self._first = False

    def add_encoded(self, text: bytes, space: bytes = b" ", before: bytes = b"", behind: bytes = b"") -> None:
        """Add UTF-8 text as encoded words; `before` and `behind` stand at its ends without a space."""
        if len(space) > _LEAST:  # it would not leave room for a word
            space = space[:1]
        most = _MAX_ENCODED - len(before) - len(behind)
        room = _MAX_ENCODED_LINE - len(self._lines[-1]) - len(space) - len(before) - len(behind)
        if room < _LEAST_ROOM:
            self._lines.append(b"")
            room = most + 1 - len(space)
        words = _words(text, room, most, quoted=_readable(text))
        words[0] = before + words[0]
        words[-1] += behind
        for word in words:
            if self._lines[-1] and len(self._lines[-1]) + len(space) + len(word) > _MAX_ENCODED_LINE:
                self._lines.append(b"")
            self._lines[-1] += space + word
            space = b" "
        self._first = False

    def octets(self) -> bytes:
        """Return the field without its line end."""
        return b"\r\n".join(self._lines)
