"""A list of addresses in ASCII, for clients that can't take UTF-8 in a header (RFC 6857 3.1.1 to 3.1.5).

What is ASCII stays as it was written. Whatever the list holds, it is read in linear time and no word of it is lost.
"""

import re
from collections.abc import Iterator

from waypost.message.address import AddressError, domain_key
from waypost.message.encoded_words import encoded_words

_PIECE = re.compile(r'"(?:[^"\\]++|\\.)*+"?|<[^>]*+>?|[(),:;]|[^"<(),:;]++', re.DOTALL)
_IN_COMMENT = re.compile(r"[^()\\]++|\\.?|[()]", re.DOTALL)
_ESCAPED = re.compile(r"\\(.)", re.DOTALL)
_QUOTED = re.compile(r'"(?:[^"\\]++|\\.)*+"\Z', re.DOTALL)


def people_tokens(value: str, indent: int) -> list[str]:
    """Return an unfolded address list as tokens between which a line may end. `indent` octets precede the first."""
    tokens: list[str] = []
    in_group = False
    for end, pieces in _elements(value):
        before = 1 if tokens else indent
        if end == ":":
            name = _phrase(pieces, before)
            in_group = bool(name)
            tokens += [*name, ":"] if name else []
            continue
        member = _mailbox(pieces, before)
        if in_group and member[-1:] == [":;"]:  # groups do not nest: the outer one ends before it
            _append(tokens, ";,")
            in_group = False
        tokens += member
        if in_group and end in (";", ""):
            _append(tokens, ";")
            in_group = False
        elif tokens and end and not tokens[-1].endswith((",", ":")):
            _append(tokens, ",")
    if tokens:
        tokens[-1] = tokens[-1].removesuffix(",")
    return tokens


def address_in_ascii(address: str) -> str | None:
    """Return an address with its domain in A-labels; None when it is not ASCII even then, or not an address."""
    local, at, domain = address.rpartition("@")
    if not at or not local or not local.isascii() or not domain or (" " in local and not _QUOTED.match(local)):
        return None
    try:
        return f"{local}@{domain if domain.isascii() else domain_key(domain)}"
    except AddressError:
        return None


def _append(tokens: list[str], end: str) -> None:
    tokens[-1] = tokens[-1].removesuffix(",") + end


def _elements(value: str) -> Iterator[tuple[str, list[str]]]:
    """Yield the elements between commas, colons and semicolons: the character that ends each, or "", and its pieces."""
    pieces: list[str] = []
    position = 0
    while position < len(value):
        if value[position] == "(":
            end = _comment_end(value, position)
            pieces.append(value[position:end])
            position = end
            continue
        match = _PIECE.match(value, position)
        piece = match[0] if match else value[position]
        position += len(piece)
        if piece in (",", ":", ";"):
            yield piece, pieces
            pieces = []
        else:
            pieces.append(piece)
    yield "", pieces


def _comment_end(value: str, position: int) -> int:
    depth = 0
    for piece in _IN_COMMENT.finditer(value, position):
        depth += (piece[0] == "(") - (piece[0] == ")")
        if not depth:
            return piece.end()
    return len(value)


def _mailbox(pieces: list[str], indent: int) -> list[str]:
    text = "".join(pieces).strip()
    if text.isascii():
        return text.split()
    angles = [index for index, piece in enumerate(pieces) if piece.startswith("<")]
    if angles:
        name, address = pieces[: angles[-1]], pieces[angles[-1]].strip("<> ")
    else:
        name = [piece[1:].removesuffix(")") for piece in pieces if piece.startswith("(")]
        address = "".join(piece for piece in pieces if not piece.startswith("(")).strip()
    written = address_in_ascii(address)
    if written is not None:
        return [*_phrase(name, indent), f"<{written}>"]
    shown = f"{_plain(''.join(name).strip())} {address}" if angles else _plain(text)
    return [*encoded_words(shown.strip(), indent), ":;"]


def _phrase(pieces: list[str], indent: int) -> list[str]:
    text = "".join(pieces).strip()
    return text.split() if text.isascii() else encoded_words(_plain(text), indent)


def _plain(text: str) -> str:
    """Return words as they are read: without the quotes around them."""
    if len(text) > 1 and text.startswith('"') and text.endswith('"') and text.count('"') == 2:
        return _ESCAPED.sub(r"\1", text[1:-1])
    return text
