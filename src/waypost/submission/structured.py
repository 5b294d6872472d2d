"""Structured header fields in ASCII: what is text gets the encoding that its place allows (RFC 2047 5, RFC 2231 4).

Every function returns a field without its line end, or None where other parts of it are outside ASCII. `name` is what
the line begins with, the colon included; `value` is unfolded UTF-8.
"""

import re
from urllib.parse import quote_from_bytes

from waypost.message.encoded_words import Lines

_COMMENT_TOKEN = re.compile(rb'"(?:[^"\\]++|\\.)*+"|\((?:[^()\\]++|\\.)*+\)|[^"(]++|["(]', re.DOTALL)
_PARAMETER_TOKEN = re.compile(rb'(?:[^";]++|"(?:[^"\\]++|\\.)*+")++', re.DOTALL)
_PARAMETER = re.compile(
    rb"""[ \t]*+([!#$&+.^_`{|}~0-9A-Za-z-]++)[ \t]*+=[ \t]*+("(?:[^"\\]++|\\.)*+"|[^\s"]++)[ \t]*+\Z""", re.DOTALL
)
_IDENTIFIED = re.compile(rb"([^<>]*)(<[^<>]*>)[ \t]*\Z")
_ESCAPED = re.compile(rb"\\(.)", re.DOTALL)
_LONGEST_PARAMETER = 900  # octets: it stands on a line of its own


def encode_comments(name: bytes, value: bytes) -> bytes | None:
    """Encode comments; everything else stays, octet for octet: `Date: ... (Mitteleuropäische Zeit)`."""
    tokens = [match[0] for match in _COMMENT_TOKEN.finditer(value)]
    written, fresh = name + b" ", True
    for token in tokens:
        if token.isascii():
            if not fresh:  # no more on the line of an encoded word
                token = token.lstrip(b" \t")
                written += b"\r\n " if token else b""
            written += token
            fresh = fresh or bool(token)
        elif token.startswith(b"(") and token.endswith(b")"):
            lines = Lines(b"")
            lines.add_encoded(_ESCAPED.sub(rb"\1", token[1:-1]), before=b"(", behind=b")")
            written = written.rstrip(b" \t") + b"\r\n" + lines.octets()
            fresh = False
        else:
            return None
    return written


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
    """Encode parameters as RFC 2231 section 4 wants them: `filename*=UTF-8''Pr%C3%BCfung.pdf`."""
    tokens = [match[0] for match in _PARAMETER_TOKEN.finditer(value)]
    if b";".join(tokens) != value.rstrip(b"; \t") or not tokens[0].isascii():  # a quote has no end, say
        return None
    first, *rest = tokens
    lines = [name + b" " + first.strip(b" \t")]
    for piece in rest:
        lines[-1] += b";"
        if not piece.isascii():
            match = _PARAMETER.match(piece)
            if match is None or match[1].endswith(b"*"):
                return None
            said = _ESCAPED.sub(rb"\1", match[2][1:-1]) if match[2].startswith(b'"') else match[2]
            piece = match[1] + b"*=UTF-8''" + quote_from_bytes(said, safe="").encode()
            if len(piece) > _LONGEST_PARAMETER:
                return None
        lines.append(b" " + piece.strip(b" \t"))
    return b"\r\n".join(lines)
