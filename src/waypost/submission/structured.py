"""Writes structured header fields in ASCII: text gets the encoding that its place allows (RFC 2047 5, RFC 2231 4).

Every function returns a field without its line end, or None where parts other than text are outside ASCII. `name` is
the field's name with its colon; `value` is unfolded UTF-8.
"""

import re
from urllib.parse import quote_from_bytes

from waypost.message.encoded_words import SPACES, Lines

_COMMENT_TOKEN = re.compile(rb'"(?:[^"\\]++|\\.)*+"|\((?:[^()\\]++|\\.)*+\)|[^"(]++|["(]', re.DOTALL)
_PARAMETER_TOKEN = re.compile(rb'(?:[^";]++|"(?:[^"\\]++|\\.)*+")++', re.DOTALL)
_PARAMETER = re.compile(
    rb"""[ \t]*+([!#$&+.^_`{|}~0-9A-Za-z-]++)[ \t]*+=[ \t]*+("(?:[^"\\]++|\\.)*+"|[^"]++)[ \t]*+\Z""", re.DOTALL
)
_EXTENDED = re.compile(rb"[ \t]*+([^\s=*]++)\*(?:0\*)?[ \t]*+=")
_IDENTIFIED = re.compile(rb"([^<>]*)(<[^<>]*>)[ \t]*\Z")
_ASCII_ALONE = frozenset({b"boundary", b"charset"})
"""Parameters that programs compare as they are: encoding would change their meaning (RFC 2046 5.1.1)."""
_ESCAPED = re.compile(rb"\\(.)", re.DOTALL)
_LONGEST_LINE = 900  # octets; 998 are allowed (RFC 5322 2.1.1)


def encode_comments(name: bytes, value: bytes) -> bytes | None:
    """Encode comments; only the folding of the rest may change: `Date: ... (Mitteleuropäische Zeit)`."""
    tokens = [match[0] for match in _COMMENT_TOKEN.finditer(value)]
    written, fresh = name + b" ", True
    for token in tokens:
        if token.isascii():
            if not fresh:  # nothing more goes on the line of an encoded word
                token = token.lstrip(b" \t")
                written += b"\r\n " if token else b""
            written = _folded(written, token)
            fresh = fresh or bool(token)
        elif token.startswith(b"(") and token.endswith(b")"):
            lines = Lines(b"")
            lines.add_encoded(_ESCAPED.sub(rb"\1", token[1:-1]), before=b"(", behind=b")")
            written = written.rstrip(b" \t") + b"\r\n" + lines.octets()
            fresh = False
        else:
            return None
    return written


def _folded(written: bytes, token: bytes) -> bytes:
    """Return `written` with a token after it, folded where the line would be too long: the value was unfolded."""
    if len(written) + len(token) <= _LONGEST_LINE:
        return written + token
    before, end, line = written.rpartition(b"\r\n")
    first, *rest = SPACES.split(token)
    lines = Lines(line + first)
    for space, word in zip(rest[::2], rest[1::2], strict=True):
        lines.add(word, space)
    return before + end + lines.octets()


def encode_phrases(name: bytes, value: bytes) -> bytes | None:
    """Encode names: those of Keywords, with commas between them, or the one before the identifier of List-Id."""
    identified = _IDENTIFIED.match(value)
    phrases = [identified[1]] if identified else value.split(b",")
    lines = Lines(name)
    for number, phrase in enumerate(phrases):
        end = b"," if number + 1 < len(phrases) else b""
        phrase = phrase.strip(b" \t")
        if phrase.isascii():
            for word in (phrase + end).split():
                lines.add(word)
        elif b"(" in phrase or b'"' in phrase.strip(b'"'):
            return None
        else:
            lines.add_encoded(phrase.strip(b'"'), behind=end)
    if identified:
        if not identified[2].isascii():
            return None
        lines.add(identified[2])
    return lines.octets()


def encode_parameters(name: bytes, value: bytes) -> bytes | None:
    """Encode parameters by RFC 2231 section 4: `filename*=UTF-8''Pr%C3%BCfung.pdf`.

    If a parameter exists in this form already, the one of the same name outside ASCII is dropped: two have no meaning.
    """
    tokens = [match[0] for match in _PARAMETER_TOKEN.finditer(value)]
    if b";".join(tokens) != value.rstrip(b"; \t") or not tokens[0].isascii():  # for example, a quote has no end
        return None
    first, *rest = tokens
    lines = [name + b" " + first.strip(b" \t")]
    extended = {match[1].lower() for piece in rest if (match := _EXTENDED.match(piece))}
    for piece in rest:
        if not piece.isascii() and piece.partition(b"=")[0].strip(b" \t").lower() in extended:
            continue
        lines[-1] += b";"
        if not piece.isascii():
            match = _PARAMETER.match(piece)
            if match is None or match[1].endswith(b"*") or match[1].lower() in _ASCII_ALONE:
                return None
            if match[2].startswith(b'"'):
                said = _ESCAPED.sub(rb"\1", match[2][1:-1])
            elif b" (" in match[2]:  # a comment, or a part of the name
                return None
            else:  # a name that lost its quotes: white space inside it belongs to it
                said = match[2].rstrip(b" \t")
            piece = match[1] + b"*=UTF-8''" + quote_from_bytes(said, safe="").encode()
            if len(piece) > _LONGEST_LINE:
                return None
        lines.append(b" " + piece.strip(b" \t"))
    return b"\r\n".join(lines)
