"""ASCII headers of messages with UTF-8 in their header, for POP3 clients that did not say UTF8 (RFC 6856 2.1).

Such a message must not go out unchanged. A refusal would stop a client at this message each time it polls; so it gets
a header that RFC 5322 allows, in the manner of RFC 6857 and RFC 6858: texts and names become encoded words (RFC 2047),
domains become A-labels, parameters are encoded by RFC 2231, and an address whose local part is not ASCII becomes an
empty group with the address in its name (RFC 6854). Anywhere else, the characters outside ASCII are lost. The body and
the stored message stay as they are: a client that says UTF8 gets every octet.
"""

import re
from urllib.parse import quote

from waypost.message.encoded_words import encoded_words, fold
from waypost.protocol.pop3.surrogate_people import address_in_ascii, people_tokens

_END_OF_FIELD = re.compile(rb"\r\n(?![ \t])")
_FOR = re.compile(r"\s++for\s++[^;]*+(?=;)", re.IGNORECASE)
_QUOTED_PARAMETER = re.compile(
    r'([!#$%&+.^_`{|}~0-9A-Za-z-]++)=(?:"((?:[^"\\]++|\\.)*+)"|([^\s;"]++(?: [^\s;"(][^\s;"]*+)*+))'
)
_PEOPLE = frozenset(
    {"from", "sender", "reply-to", "to", "cc", "bcc", "mail-followup-to", "disposition-notification-to"}
)
# Names and identifiers that programs compare: an encoded word would change them.
_STRUCTURED = frozenset(
    {
        *("arc-authentication-results", "arc-message-signature", "arc-seal", "authentication-results"),
        *("content-id", "content-location", "content-transfer-encoding", "date", "dkim-signature", "in-reply-to"),
        *("list-archive", "list-help", "list-id", "list-owner", "list-post", "list-subscribe", "list-unsubscribe"),
        *("message-id", "mime-version", "received", "received-spf", "references"),
    }
)
_LARGEST = 32 << 10  # octets of a header that is parsed for addresses and text: parsing takes up to 1 us an octet


def surrogate(header: bytes) -> bytes:
    """Return the ASCII form of a header with UTF-8; the empty line at its end stays where there is one.

    Fields in other charsets stay as they are. In a very large header, which may be an attack, each character outside
    ASCII is replaced by "?" without parsing.
    """
    if header.isascii():
        return header
    if len(header) > _LARGEST:
        return _replaced(header)
    return b"\r\n".join(field if field.isascii() else _field(field) for field in _END_OF_FIELD.split(header))


def _replaced(octets: bytes) -> bytes:
    try:
        return octets.decode().encode("ascii", "replace")
    except UnicodeDecodeError:
        return octets


def _field(octets: bytes) -> bytes:
    try:
        field = octets.decode()
    except UnicodeDecodeError:
        return octets
    name, colon, value = field.partition(":")
    written = name.rstrip(" \t")
    kind = written.lower().removeprefix("resent-")
    value = " ".join(value.split())
    if not colon or not written.isascii():
        return _replaced(octets)
    if kind in _PEOPLE:
        return _folded(written, people_tokens(value, len(written) + 2))
    if kind in ("content-type", "content-disposition"):
        return _folded(written, _parameters(value).split(" "))
    if kind in ("return-path", "delivered-to"):
        address = address_in_ascii(value.strip("<>"))
        return _replaced(octets) if address is None else _folded(written, [value.replace(value.strip("<>"), address)])
    if kind in _STRUCTURED:
        shorter = _FOR.sub("", value) if kind == "received" else value
        return _folded(written, shorter.split(" ")) if shorter.isascii() else _replaced(octets)
    return _folded(written, encoded_words(value, len(written) + 2))


def _folded(name: str, tokens: list[str]) -> bytes:
    """Return a field without its line end."""
    octets = fold(name, tokens)[:-2]
    return octets if octets.isascii() else _replaced(octets)


def _parameters(value: str) -> str:
    """Return the value of a MIME field; parameters outside ASCII are encoded (RFC 2231 section 4)."""

    def encode(match: re.Match[str]) -> str:
        if match[0].isascii():
            return match[0]
        text = match[3] if match[2] is None else re.sub(r"\\(.)", r"\1", match[2])
        return f"{match[1]}*=utf-8''{quote(text, safe='', errors='replace')}"

    return _QUOTED_PARAMETER.sub(encode, value)
