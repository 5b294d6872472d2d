"""The tokens of an address list (RFC 5322 3.2 and 3.4), and functions over rows of tokens.

`address_list.py` gives the rows their meaning.
"""

import re
from collections.abc import Sequence
from typing import NamedTuple

_TOKEN = re.compile(
    rb"""(?P<space>[ \t]++)
    | (?P<quoted>"(?:[^"\\]++|\\.)*+")
    | (?P<literal>\[[^\[\]\\\s"()<>,;@]*+\])
    | (?P<special>[<>,;:@\\])
    | (?P<word>[^\s"()<>,;:@\\\[\]]++|[\[\]])""",
    re.VERBOSE | re.DOTALL,
)
_COMMENT_PIECE = re.compile(rb"[^()\\]++|\\.|[()]", re.DOTALL)
_ESCAPED = re.compile(rb"\\(.)", re.DOTALL)


class AddressListError(ValueError):
    """The value is not an address list; the message says in plain words what is wrong with it."""


class Token(NamedTuple):
    """A piece of a value: its kind (`space`, `comment`, `quoted`, `literal`, `special`, `word`) and its octets."""

    kind: str
    text: bytes


def tokens_of(value: bytes) -> list[Token]:
    tokens: list[Token] = []
    position = 0
    while position < len(value):
        if value[position : position + 1] == b"(":
            end = _comment_end(value, position)
            tokens.append(Token("comment", value[position:end]))
            position = end
            continue
        match = _TOKEN.match(value, position)
        if match is None:
            if value[position : position + 1] == b'"':
                raise AddressListError(f"a quote has no end: {shown(value[position:])}")
            raise AddressListError(f"something is wrong at {shown(value[position:])}")
        position = match.end()
        tokens.append(Token(match.lastgroup or "", match[0]))
    return tokens


def _comment_end(value: bytes, start: int) -> int:
    """Return where the comment that begins here ends; comments nest (RFC 5322 3.2.2)."""
    depth = 0
    for match in _COMMENT_PIECE.finditer(value, start):
        if match[0] == b"(":
            depth += 1
        elif match[0] == b")":
            depth -= 1
            if depth == 0:
                return match.end()
    raise AddressListError(f"a comment has no end: {shown(value[start:])}")


def unquoted(text: bytes) -> bytes:
    """Return the text of a quoted string or comment, without its delimiters and backslashes."""
    return _ESCAPED.sub(rb"\1", text[1:-1])


def shown(text: bytes) -> str:
    """Return the beginning of some octets as text for an error message."""
    return repr(text[:60].decode("utf-8", "replace"))


def outside_angles(tokens: Sequence[Token]) -> list[bytes]:
    specials: list[bytes] = []
    inside = False
    for token in tokens:
        if token.kind == "special":
            inside = token.text == b"<" or (inside and token.text != b">")
            if not inside:
                specials.append(token.text)
    return specials


def split(tokens: Sequence[Token], separators: bytes = b",") -> list[list[Token]]:
    """Return the pieces between separators; a separator inside angle brackets does not count."""
    pieces: list[list[Token]] = [[]]
    inside = False
    for token in tokens:
        if token.kind == "special":
            inside = token.text == b"<" or (inside and token.text != b">")
            if not inside and token.text in separators:
                pieces.append([])
                continue
        pieces[-1].append(token)
    return pieces


def significant(tokens: Sequence[Token]) -> list[Token]:
    """Return the tokens that are neither white space nor a comment."""
    return [token for token in tokens if token.kind not in ("space", "comment")]


def trimmed(tokens: Sequence[Token]) -> tuple[list[Token], list[Token], list[Token]]:
    """Return three rows: the white space and comments at the beginning, the tokens between, and those at the end."""
    start, end = 0, len(tokens)
    while start < end and tokens[start].kind in ("space", "comment"):
        start += 1
    while end > start and tokens[end - 1].kind in ("space", "comment"):
        end -= 1
    return list(tokens[:start]), list(tokens[start:end]), list(tokens[end:])


def without_space(tokens: Sequence[Token]) -> list[Token]:
    """Return tokens without the white space around them."""
    start, end = 0, len(tokens)
    while start < end and tokens[start].kind == "space":
        start += 1
    while end > start and tokens[end - 1].kind == "space":
        end -= 1
    return list(tokens[start:end])


def comments_in(tokens: Sequence[Token]) -> tuple[Token, ...]:
    return tuple(token for token in tokens if token.kind == "comment")


def joined(tokens: Sequence[Token]) -> bytes:
    return b"".join(token.text for token in significant(tokens))


def text_of(tokens: Sequence[Token]) -> bytes:
    return b"".join(b" " if token.kind == "comment" else token.text for token in tokens).strip()
