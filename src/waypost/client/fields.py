"""Header fields as they are written: folded, and in ASCII whatever they say (RFC 5322 2.2.3, RFC 2047).

Python's own writer loses spaces where encoded words meet plain ones, and quotes where names are folded; what a
person typed must arrive as it was typed.
"""

import base64
import re
from collections.abc import Iterable, Sequence

from waypost.client.people import Person

_MAX_LINE = 78  # octets, RFC 5322 2.1.1
_MAX_PLAIN = 900  # octets of one word that can't be folded; the limit of a line is 998
_MAX_QUOTED = 70
_MAX_ENCODED = 75  # octets of an encoded word, RFC 2047 section 2
_ROOM = _MAX_ENCODED - len("=?utf-8?q??=")

_PLAIN = re.compile(r"[!-~]+(?: [!-~]+)*\Z")
_PHRASE = re.compile(r"[A-Za-z0-9!#$%&'*+/=?^_`{|}~-]+(?: [A-Za-z0-9!#$%&'*+/=?^_`{|}~-]+)*\Z")
_QUOTABLE = re.compile(r"[ -~]+\Z")
# RFC 2047 5 (3): what stands for itself even inside a name.
_SAFE = frozenset("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789!*+-/")


def text_field(name: str, text: str) -> bytes:
    """Return the field for free text, such as the subject. Raises `ValueError` for a line break in it."""
    if any(character in text for character in "\r\n\0"):
        raise ValueError(f"{name}: a header field holds no line break and no NUL")
    if _PLAIN.match(text) and "=?" not in text and max(map(len, text.split(" "))) <= _MAX_PLAIN:
        return _fold(name, text.split(" "))
    return _fold(name, encoded_words(text))


def people_field(name: str, people: Sequence[Person]) -> bytes:
    """Return the field for a list of people, such as To."""
    tokens: list[str] = []
    for person in people:
        tokens.extend(_phrase(person.name))
        tokens.append((f"<{person.written}>" if person.name else person.written) + ",")
    tokens[-1] = tokens[-1].removesuffix(",")
    return _fold(name, tokens)


def encoded_words(text: str) -> list[str]:
    """Return the text as encoded words of RFC 2047, each of whole characters and 75 octets at most."""
    if not text:
        return []
    quoted = ["".join(map(_q, character.encode())) for character in text]
    if sum(map(len, quoted)) <= (len(text.encode()) + 2) // 3 * 4:  # the shorter one
        return [f"=?utf-8?q?{piece}?=" for piece in _joined(quoted, _ROOM)]
    pieces = _joined(text, _ROOM // 4 * 3)
    return [f"=?utf-8?b?{base64.b64encode(piece.encode()).decode()}?=" for piece in pieces]


def _phrase(name: str) -> list[str]:
    """The name before an address: atoms, a quoted string, or encoded words."""
    if not name:
        return []
    if "=?" not in name:
        if _PHRASE.match(name) and max(map(len, name.split(" "))) <= _MAX_QUOTED:
            return name.split(" ")
        if _QUOTABLE.match(name) and len(name) <= _MAX_QUOTED:
            return ['"' + name.replace("\\", "\\\\").replace('"', '\\"') + '"']
    return encoded_words(name)


def _q(octet: int) -> str:
    character = chr(octet)
    return character if character in _SAFE else "_" if character == " " else f"={octet:02X}"


def _joined(pieces: Iterable[str], most: int) -> list[str]:
    """Join pieces, in order, to texts of `most` octets at most."""
    joined = [""]
    size = 0
    for piece in pieces:
        length = len(piece.encode())
        if size + length > most and size:
            joined.append("")
            size = 0
        joined[-1] += piece
        size += length
    return joined


def _fold(name: str, tokens: Iterable[str]) -> bytes:
    lines = [f"{name}:".encode()]
    first = True
    for token in tokens:
        octets = b" " + token.encode()
        # A first line with nothing behind the colon would be legal, and is misread by some.
        if len(lines[-1]) + len(octets) <= _MAX_LINE or first:
            lines[-1] += octets
        else:
            lines.append(octets)
        first = False
    return b"\r\n".join(lines) + b"\r\n"
