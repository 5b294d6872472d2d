"""The header that a POP3 client gets which did not say UTF8, of a message with UTF-8 in its header (RFC 6856 2.1).

Such a message must not go out as it is. A refusal would stop a client at this message each time it polls; so it gets
a header that RFC 5322 allows, in the manner of RFC 6858: text and names become encoded words (RFC 2047), an address
outside ASCII an empty group with the address in its name (RFC 6854), and what is neither loses the characters. The
body stays as it is, and so does what is stored: a client that says UTF8 gets every octet. The size in LIST is that
of the message, not of its surrogate.
"""

import base64
import re
from email.utils import getaddresses

_END_OF_FIELD = re.compile(rb"\r\n(?![ \t])")
_ADDRESSES = frozenset({"from", "sender", "reply-to", "to", "cc", "bcc"})
_TEXTS = frozenset({"subject", "comments", "content-description"})
_LARGEST = 32 << 10  # octets of a header that is read for addresses and text: that takes 2 us an octet at worst
_WORD = 33  # octets of text in one encoded word: with the name of its field it fits into a line of 78


def needs_surrogate(header: bytes) -> bool:
    """True when a header holds UTF-8. Other octets above 127 are no internationalised header, and nobody's to mend."""
    if header.isascii():
        return False
    try:
        header.decode()
    except UnicodeDecodeError:
        return False
    return True


def surrogate(header: bytes) -> bytes:
    """Return an ASCII header for one that `needs_surrogate`; both with or without the empty line at the end.

    Of a very large one, which whoever sent it may have made so, all characters outside ASCII are replaced at once.
    """
    if len(header) > _LARGEST:
        return header.decode().encode("ascii", "replace")
    return b"\r\n".join(field if field.isascii() else _field(field.decode()) for field in _END_OF_FIELD.split(header))


def _field(field: str) -> bytes:
    name, colon, value = field.partition(":")
    kind = name.strip().lower().removeprefix("resent-")
    if colon and name.isascii() and kind in _ADDRESSES:
        return f"{name}: {_addresses(' '.join(value.split()))}".encode("ascii")
    if colon and name.isascii() and kind in _TEXTS:
        return f"{name}: {_words(' '.join(value.split()))}".encode("ascii")
    return field.encode("ascii", "replace")


def _addresses(value: str) -> str:
    try:
        pairs = getaddresses([value])
    except RecursionError:  # so many comments in comments that nobody means them
        pairs = []
    return ",\r\n ".join(_address(name, address) for name, address in pairs) if pairs else _address(value, "")


def _address(name: str, address: str) -> str:
    if not address.isascii() or "@" not in address:
        return f"{_words(f'{name} {address}'.strip())} :;"
    return f"{_words(name)} <{address}>" if name else f"<{address}>"


def _words(text: str) -> str:
    """Return text as encoded words of RFC 2047, folded between them."""
    words: list[str] = []
    part = b""
    for character in (*text, ""):
        octets = character.encode("utf-8", "replace")
        if part and (not octets or len(part) + len(octets) > _WORD):
            words.append(f"=?utf-8?B?{base64.b64encode(part).decode()}?=")
            part = b""
        part += octets
    return "\r\n ".join(words)
