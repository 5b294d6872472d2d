"""The address lists of header fields (RFC 5322 3.4, RFC 6854): From, Sender, and whoever else they name.

Strict on purpose: who may send as whom is decided on what is read here, so what another program could read as a
different address is refused. The time is linear in the length, whatever stands in it.
"""

import binascii
import re

_TOKEN = re.compile(
    rb"""(?P<space>[ \t]++)
    | (?P<quoted>"(?:[^"\\]++|\\.)*+")
    | <(?P<angle>(?:[^<>"]++|"(?:[^"\\]++|\\.)*+")*+)>
    | (?P<special>[,;:])
    | (?P<word>[^\s"()<>,;:\\]++)""",
    re.VERBOSE | re.DOTALL,
)
_ENCODED_WORD = re.compile(rb"=\?[^?\s]++\?([BbQq])\?([^?\s]*+)\?=")
_COMMENT_PIECE = re.compile(rb"[^()\\]++|\\.|[()]", re.DOTALL)


class AddressListError(ValueError):
    """The value is no address list; the message says in plain words what is wrong with it."""


def mailboxes_of(value: bytes) -> list[str]:
    """Return the addr-specs of an unfolded address list: `alice@example.org`, without names and comments.

    Groups are looked into; one without members has no mailboxes. Raises `AddressListError`.
    """
    reader = _Reader()
    position = 0
    while position < len(value):
        if value[position : position + 1] == b"(":
            position = _comment_end(value, position)
            reader.words.append(b" ")
            continue
        match = _TOKEN.match(value, position)
        if match is None:
            raise AddressListError(f"something is wrong at {_shown(value[position:])}")
        position = match.end()
        reader.take(match.lastgroup or "", match[match.lastgroup or 0])
    return reader.finish()


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
    raise AddressListError("a comment has no end")


def _hides_an_at(name: bytes) -> bool:
    """True when an @ stands in quotes, or in an encoded word (RFC 2047), or one that can't be read."""
    if b"@" in name:
        return True
    for encoding, octets in _ENCODED_WORD.findall(name):
        try:
            decoded = binascii.a2b_base64(octets) if encoding in b"Bb" else binascii.a2b_qp(octets, header=True)
        except binascii.Error:
            return True
        if b"@" in decoded:
            return True
    return False


class _Reader:
    """Takes tokens and finds where one element of the list ends and the next begins."""

    def __init__(self) -> None:
        self.words: list[bytes] = []
        self._angle: bytes | None = None
        self._found: list[str] = []
        self._in_group = False
        self._group_ended = False  # only a comma or the end may follow

    def take(self, kind: str, token: bytes) -> None:
        """Take one token: space, quoted, angle, special or word."""
        if kind == "special":
            self._special(token)
        elif kind == "space":
            self.words.append(b" ")
        elif self._angle is not None or self._group_ended:
            raise AddressListError(f"a comma is missing before {_shown(token)}")
        elif kind == "angle":
            self._angle = token
        else:
            self.words.append(token)

    def _special(self, token: bytes) -> None:
        if token == b":":
            if self._in_group or self._angle is not None or not self._text():
                raise AddressListError("a colon stands where none may be")
            self._check_name()
            self.words, self._in_group = [], True
            return
        if token == b";":
            if not self._in_group:
                raise AddressListError("a semicolon stands where none may be")
            if self._text() or self._angle is not None:
                self._end_element()
            self._in_group, self._group_ended = False, True
        elif self._group_ended:
            self._group_ended = False
        else:
            self._end_element()
        self.words, self._angle = [], None

    def finish(self) -> list[str]:
        """Take the end of the value."""
        if self._in_group:
            raise AddressListError("a group has no end")
        if not self._group_ended:
            self._end_element()
        return self._found

    def _text(self) -> bytes:
        return b"".join(self.words).strip()

    def _check_name(self) -> None:
        """Refuse names that may be read as addresses: which one a reader shows is anybody's guess.

        `alice@us <bob@them>`, `alice@us: bob@them;`, and `"alice@us"[ <bob@them>`, where quotes don't count any more.
        """
        plain = b"".join(word for word in self.words if not word.startswith(b'"'))
        how = "outside of quotes" if b"@" in plain else "beside brackets"
        if b"@" in plain or ((b"[" in plain or b"]" in plain) and _hides_an_at(self._text())):
            raise AddressListError(f"the name {_shown(self._text())} holds an @ {how}")

    def _end_element(self) -> None:
        text = self._text()
        if self._angle is not None:
            self._check_name()
            text = self._angle
        elif b" " in b"".join(word for word in self.words if not word.startswith(b'"')).strip():
            raise AddressListError(f"{_shown(text)} is no address")
        if b"@" not in text:
            raise AddressListError(f"{_shown(text)} has no address" if text else "an address is missing")
        try:
            self._found.append(text.decode())
        except UnicodeDecodeError:
            raise AddressListError(f"{_shown(text)} is not UTF-8") from None


def _shown(text: bytes) -> str:
    return repr(text[:60].decode("utf-8", "replace"))
