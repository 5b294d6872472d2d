"""Reads header values as a person would: RFC 2047 decoded, whatever state they are in. The twin of `fields.py`."""

import base64
import binascii
import re
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

from waypost.message.charset import decode_charset, is_charset

_WORD = re.compile(r"=\?([^?\s*]++)(?:\*[^?\s]*+)?\?([bBqQ])\?([^?]*+)\?=")


def decode_value(value: bytes) -> str:
    """Return an unfolded header value with its encoded words decoded; what can't be decoded stays as it is."""
    text = value.decode("utf-8", "replace") if _is_utf8(value) else value.decode("latin-1")
    pieces: list[str] = []
    run, run_charset = bytearray(), ""  # words that belong together: a character may be split over two of them
    position = 0
    for match in _WORD.finditer(text):
        octets = _octets(match[2], match[3])
        if octets is None or not is_charset(match[1]):
            continue
        between = text[position : match.start()]
        if between.strip(" \t") or match[1].lower() != run_charset:
            pieces.append(decode_charset(bytes(run), run_charset or "ascii"))
            # RFC 2047 6.2: white space between two encoded words is no part of the text.
            pieces.append(between if between.strip(" \t") or not run_charset else "")
            run = bytearray()
        run += octets
        run_charset = match[1].lower()
        position = match.end()
    pieces.append(decode_charset(bytes(run), run_charset or "ascii"))
    return "".join(pieces) + text[position:]


def decode_date(value: bytes) -> datetime | None:
    """Return the time of a Date field, with its zone (UTC where it has none); None when it can't be read."""
    try:
        date = parsedate_to_datetime(value.decode("ascii", "replace"))
        return date if date.tzinfo else date.replace(tzinfo=UTC)
    except (ValueError, TypeError, IndexError, OverflowError):  # all of them come, for dates that are none
        return None


def _octets(encoding: str, text: str) -> bytes | None:
    try:
        octets = text.encode("ascii")
        if encoding in "qQ":
            return binascii.a2b_qp(octets, header=True)
        octets = octets.rstrip(b"=")
        return base64.b64decode(octets + b"=" * (-len(octets) % 4), validate=True)
    except (UnicodeEncodeError, binascii.Error):
        return None


def _is_utf8(value: bytes) -> bool:
    try:
        value.decode()
    except UnicodeDecodeError:
        return False
    return True
