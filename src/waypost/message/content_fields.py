"""Content-Type and Content-Disposition: a word, then parameters (RFC 2045 5.1, RFC 2183, RFC 2231).

Common mistakes are read as they are meant, within reason: unquoted values with spaces or `/` in them, quotes that do
not end, parameters without a value. The time is linear in the length of any value.
"""

import re
from dataclasses import dataclass
from urllib.parse import unquote_to_bytes

from waypost.message.charset import decode_charset

MOST_PARAMETERS = 1000
"""How many parameters of one field are read, each section of RFC 2231 counted; the rest is ignored."""

_TOKEN = rb"[!#$%&'*+.^_`{|}~0-9A-Za-z-]++"
_TYPE = re.compile(rb"(" + _TOKEN + rb")[ \t]*+/[ \t]*+(" + _TOKEN + rb")")
_WORD = re.compile(rb"(" + _TOKEN + rb")")
_ATTRIBUTE = re.compile(rb'([^\s=;"()]++)[ \t]*+=')
_QUOTED = re.compile(rb'"((?:[^"\\]++|\\.)*+)"?', re.DOTALL)
_TO_SEMICOLON = re.compile(rb"[^;]*+")
_ESCAPED = re.compile(rb"\\(.)", re.DOTALL)
_COMMENT_BEHIND = re.compile(rb"[ \t]\(")
_SPACE = re.compile(rb"\s*+")
_COMMENT_PIECE = re.compile(rb"[^()\\]++|\\.?|[()]", re.DOTALL)
_SECTION = re.compile(r"([^*]+)(?:\*(0|[1-9][0-9]{0,3}))?(\*)?\Z")  # RFC 2231 sections 3 and 4
_UNSAFE = re.compile(rb"[^!#$&+.^_`{|}~0-9A-Za-z-]")


@dataclass(frozen=True, slots=True)
class ContentField:
    """A field that was read: `value` in lower case (`text/plain`, `attachment`), and parameters as octets, by names in
    lower case.

    The sections of RFC 2231 are joined already, as an IMAP server must (RFC 2231 section 6); a value that is encoded
    with its charset stays encoded, and has a `*` after its name.
    """

    value: str
    parameters: tuple[tuple[str, bytes], ...] = ()

    @property
    def major(self) -> str:
        """The part of a media type before the slash."""
        return self.value.partition("/")[0]

    def get(self, name: str) -> bytes | None:
        """Return the octets of the first parameter with exactly this name; None when it is missing."""
        return next((value for key, value in self.parameters if key == name), None)

    def text(self, name: str) -> str | None:
        """Return a parameter as text, its charset decoded (RFC 2231 section 4); None when it is missing."""
        encoded = self.get(name + "*")
        if encoded is not None:
            charset, separator, rest = encoded.partition(b"'")
            _, second, value = rest.partition(b"'")
            if not separator or not second:
                charset, value = b"utf-8", encoded
            return decode_charset(unquote_to_bytes(value), charset.decode("ascii", "replace") or "utf-8")
        plain = self.get(name)
        if plain is None:
            return None
        try:
            return plain.decode()
        except UnicodeDecodeError:
            return plain.decode("latin-1")


def parse_content_type(value: bytes) -> ContentField | None:
    """Read the unfolded value of a Content-Type field; None when it names no type (RFC 2045 5.2: it is text/plain)."""
    position = _skip(value, 0)
    match = _TYPE.match(value, position)
    if match is None:
        return None
    kind = match[1] + b"/" + match[2]
    return ContentField(kind.decode().lower(), _parameters(value, match.end()))


def parse_disposition(value: bytes) -> ContentField | None:
    """Read the unfolded value of a Content-Disposition field (RFC 2183); None when it names no disposition."""
    position = _skip(value, 0)
    match = _WORD.match(value, position)
    if match is None:
        return None
    return ContentField(match[1].decode().lower(), _parameters(value, match.end()))


def parse_encoding(value: bytes) -> str:
    """Read the unfolded value of a Content-Transfer-Encoding field, in lower case (RFC 2045 section 6)."""
    match = _WORD.match(value, _skip(value, 0))
    return match[1].decode().lower() if match else "7bit"


def _skip(value: bytes, position: int) -> int:
    """Return where something other than white space and comments begins; comments nest (RFC 5322 3.2.2)."""
    while True:
        space = _SPACE.match(value, position)
        position = space.end() if space else position
        if value[position : position + 1] != b"(":
            return position
        depth = 0
        for piece in _COMMENT_PIECE.finditer(value, position):
            position = piece.end()
            depth += (piece[0] == b"(") - (piece[0] == b")")
            if not depth:
                break


def _parameters(value: bytes, position: int) -> tuple[tuple[str, bytes], ...]:
    found: list[tuple[str, bytes]] = []
    position = _to_semicolon(value, position)
    while position < len(value) and len(found) < MOST_PARAMETERS:
        position = _skip(value, position + 1)
        match = _ATTRIBUTE.match(value, position)
        if match is not None:
            octets, position = _value(value, _skip(value, match.end()))
            found.append((match[1].decode("latin-1").lower(), octets))
        position = _to_semicolon(value, position)
    return _joined(found)


def _to_semicolon(value: bytes, position: int) -> int:
    match = _TO_SEMICOLON.match(value, position)
    return match.end() if match else position


def _value(value: bytes, position: int) -> tuple[bytes, int]:
    quoted = _QUOTED.match(value, position)
    if quoted is not None:
        return _ESCAPED.sub(rb"\1", quoted[1]), quoted.end()
    end = _to_semicolon(value, position)
    # Parentheses in file names are more frequent than comments: only after a space do they begin a comment.
    return _COMMENT_BEHIND.split(value[position:end], maxsplit=1)[0].strip(), end


def _joined(found: list[tuple[str, bytes]]) -> tuple[tuple[str, bytes], ...]:
    """Join the sections `name*0`, `name*1*`, ... at the place of the first; keep other parameters (RFC 2231)."""
    parameters: dict[str, bytes] = {}
    sections: dict[str, dict[int, tuple[bytes, bool]]] = {}
    for name, octets in found:
        match = _SECTION.match(name)
        if match is None or match[2] is None:
            parameters.setdefault(name, octets)
            continue
        if match[1] not in sections:
            sections[match[1]] = {}
            parameters.setdefault(match[1] + "*0", b"")  # keeps the place
        sections[match[1]].setdefault(int(match[2]), (octets, match[3] is not None))
    joined: dict[str, bytes] = {}
    for name, octets in parameters.items():
        base = name.removesuffix("*0")
        if base == name or base not in sections:
            joined.setdefault(name, octets)
        elif (whole := _whole(base, sections[base])) is not None:
            joined.setdefault(*whole)
    return tuple(joined.items())


def _whole(name: str, sections: dict[int, tuple[bytes, bool]]) -> tuple[str, bytes] | None:
    """Return a parameter joined from its sections, from 0 up to the first gap in their numbers."""
    pieces: list[tuple[bytes, bool]] = []
    while (piece := sections.get(len(pieces))) is not None:
        pieces.append(piece)
    if not pieces:
        return None
    if not any(encoded for _, encoded in pieces):
        return name, b"".join(octets for octets, _ in pieces)
    start = b"" if pieces[0][1] else b"''"  # no charset is given
    return name + "*", start + b"".join(octets if encoded else _escape(octets) for octets, encoded in pieces)


def _escape(octets: bytes) -> bytes:
    return _UNSAFE.sub(lambda found: b"%%%02X" % found[0][0], octets)
