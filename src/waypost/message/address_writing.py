"""Address lists as they are written: names quoted or encoded where they must be, addresses as they were read.

The counterpart of `address_list.py`. What it writes is valid (RFC 5322 3.4), and in ASCII unless the caller allows
UTF-8; the caller must refuse an address outside ASCII.
"""

import re
from collections.abc import Sequence
from typing import NamedTuple

from waypost.message.address_list import AddressList, AddressListError, Group, NamedAddress, encoded_word
from waypost.message.address_tokens import Token, unquoted
from waypost.message.encoded_words import Lines

_ATOMS = re.compile(rb"[A-Za-z0-9!#$%&'*+/=?^_`{|}~\x80-\xff-]+(?:[ \t]+[A-Za-z0-9!#$%&'*+/=?^_`{|}~\x80-\xff-]+)*\Z")
_SPECIALS = re.compile(rb'(["\\])')
_SPACES = re.compile(rb"([ \t]+)")
_LONG = 70  # octets of a name on one line
_LOOSE_WORD = re.compile(rb"(=\?[A-Za-z0-9_+*-]++\?[Qq]\?)([^?\x00-\x08\x0a-\x1f\x7f-\xff]++)\?=\Z")
_BETWEEN_WORDS = re.compile(rb"(?<=\?=)[ \t]+(?==\?)")
_NOT_IN_A_PHRASE = re.compile(rb"[^A-Za-z0-9!*+/=_-]")  # RFC 2047 section 5 (3)
_LONGEST_WORD = 75  # octets, RFC 2047 section 2
_CONTROLS = re.compile(rb"[\x00-\x08\x0a-\x1f\x7f]")


class _Piece(NamedTuple):
    """A part of a name: `text` to be written, an encoded `word` to be kept, or a `comment`."""

    kind: str
    octets: bytes


def write_address_list(name: bytes, parts: AddressList, *, utf8: bool) -> bytes:
    """Return the field, folded, without its line end. `name` is the field's name with its colon.

    `utf8` allows UTF-8 in names and comments (RFC 6532). Raises `AddressListError` for a control character in a name.
    """
    lines = Lines(name)
    for number, part in enumerate(parts):
        end = b"," if number + 1 < len(parts) else b""
        if isinstance(part, Group):
            _write_group(lines, part, end, utf8=utf8)
        else:
            _write_mailbox(lines, part, end, utf8=utf8)
    return lines.octets()


def _write_group(lines: Lines, group: Group, end: bytes, *, utf8: bool) -> None:
    _write_pieces(lines, _pieces(group.name), utf8=utf8)
    if not group.members:
        lines.add(b":;" + end)
        return
    lines.add(b":")
    for member in group.members[:-1]:
        _write_mailbox(lines, member, b",", utf8=utf8)
    _write_mailbox(lines, group.members[-1], b";" + end, utf8=utf8)


def _write_mailbox(lines: Lines, mailbox: NamedAddress, end: bytes, *, utf8: bool) -> None:
    _write_pieces(lines, _pieces(mailbox.name), utf8=utf8)
    address = b"<" + mailbox.address + b">" if mailbox.angle else mailbox.address
    if not mailbox.after:
        lines.add(address + end)
        return
    lines.add(address)
    comments = _pieces(mailbox.after)
    _write_pieces(lines, comments, utf8=utf8)
    if end:
        lines.add(end)


def _pieces(name: Sequence[Token]) -> list[_Piece]:
    """Return a name as pieces: text (quoted or not), encoded words that stand alone, comments."""
    pieces: list[_Piece] = []
    text: list[bytes] = []
    quoted = False

    def flush() -> None:
        said = b"".join(text).strip(b" \t")
        words = [] if quoted else _loose_words(said)
        if words:
            pieces.extend(_Piece("word", word) for word in words)
        elif said:
            pieces.append(_Piece("text", said))
        text.clear()

    for index, token in enumerate(name):
        if token.kind == "comment":
            flush()
            quoted = False
            pieces.append(_Piece("comment", token.text))
        elif token.kind == "word" and encoded_word(token.text) and _alone(name, index):
            flush()
            quoted = False
            pieces.append(_Piece("word", token.text))
        else:
            quoted = quoted or token.kind == "quoted"
            text.append(unquoted(token.text) if token.kind == "quoted" else token.text)
    flush()
    return pieces


def _loose_words(text: bytes) -> list[bytes]:
    """Return encoded words rewritten so that they are legal in a name: their Q encoding left a comma, a dot or a space.

    `=?utf-8?q?M=C3=BCller,_Hans?=` is one. In quotes, readers would see it undecoded. The list is empty where the text
    holds anything else.
    """
    words = []
    for piece in _BETWEEN_WORDS.split(text):
        match = _LOOSE_WORD.match(piece)
        if match is None:
            return []
        word = match[1] + _NOT_IN_A_PHRASE.sub(_in_q, match[2]) + b"?="
        if len(word) > _LONGEST_WORD:
            return []
        words.append(word)
    return words


def _in_q(found: re.Match[bytes]) -> bytes:
    return b"_" if found[0] in (b" ", b"\t") else b"=%02X" % found[0][0]


def _alone(name: Sequence[Token], index: int) -> bool:
    """True for a word that white space, or a special character, separates from its neighbours."""
    around = [name[at] for at in (index - 1, index + 1) if 0 <= at < len(name)]
    return all(token.kind in ("space", "comment", "special", "quoted") for token in around)


def _write_pieces(lines: Lines, pieces: Sequence[_Piece], *, utf8: bool) -> None:
    for index, piece in enumerate(pieces):
        octets = piece.octets
        if _CONTROLS.search(octets):
            raise AddressListError("a name holds a control character")
        if piece.kind == "word" or (piece.kind == "comment" and (utf8 or octets.isascii())):
            lines.add(octets)
        elif piece.kind == "comment":
            lines.add_encoded(unquoted(octets), before=b"(", behind=b")")
        elif utf8 or octets.isascii():
            _write_text(lines, octets)
        else:  # white space between two encoded words is not part of the text (RFC 2047 6.2)
            before = b" " if index and pieces[index - 1].kind == "word" else b""
            behind = b" " if index + 1 < len(pieces) and pieces[index + 1].kind == "word" else b""
            lines.add_encoded(before + octets + behind)


def _write_text(lines: Lines, text: bytes) -> None:
    """Write words unchanged where the grammar allows it, else as one quoted string; a long text is folded."""
    if not _ATOMS.match(text) or b"=?" in text:
        text = b'"' + _SPECIALS.sub(rb"\\\1", text) + b'"'
    first, *rest = _SPACES.split(text) if len(text) > _LONG else [text]
    lines.add(first)
    for space, word in zip(rest[::2], rest[1::2], strict=True):
        lines.add(word, space)
