"""xtext of RFC 3461 section 4: printable ASCII, with `+XX` for the rest."""

import re

_XCHARS = re.compile(r"(?:[!-*,-<>-~]|\+[0-9A-F]{2})*\Z")


def decode_xtext(text: str) -> str:
    """Return the decoded text; octets above ASCII are read as UTF-8. Raises `ValueError` when it is not xtext."""
    if not _XCHARS.match(text):
        raise ValueError("not xtext")
    octets = re.sub(rb"\+([0-9A-F]{2})", lambda found: bytes([int(found[1], 16)]), text.encode())
    try:
        return octets.decode()
    except UnicodeDecodeError:
        raise ValueError("xtext that is not UTF-8") from None


def encode_xtext(text: str) -> str:
    """Return text as xtext."""
    return "".join(
        chr(octet) if 33 <= octet <= 126 and octet not in b"+=" else f"+{octet:02X}" for octet in text.encode()
    )
