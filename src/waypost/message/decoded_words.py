"""Reads encoded words, malformed ones too, as a person would (RFC 2047). The counterpart of `encoded_words.py`."""

import base64
import binascii
import re

from waypost.message.charset import decode_charset, decode_undeclared, is_charset

_WORD = re.compile(r"=\?([^?\s*]++)(?:\*[^?\s]*+)?\?([bBqQ])\?([^?]*+)\?=")


def decode_value(value: bytes) -> str:
    """Return an unfolded header value with its encoded words decoded; a word that can't be decoded stays as it is."""
    text = decode_undeclared(value).replace("\t", " ")  # a field that is folded with a tab
    pieces: list[str] = []
    run, run_charset = bytearray(), ""  # words that belong together: a character may be split over two of them
    position = 0
    for match in _WORD.finditer(text):
        octets = _octets(match[2], match[3])
        if octets is None or not is_charset(match[1]):
            continue
        between = text[position : match.start()]
        if between.strip(" ") or match[1].lower() != run_charset:
            pieces.append(decode_charset(bytes(run), run_charset or "ascii"))
            # RFC 2047 6.2: white space between two encoded words is not part of the text.
            pieces.append(between if between.strip(" ") or not run_charset else "")
            run = bytearray()
        run += octets
        run_charset = match[1].lower()
        position = match.end()
    pieces.append(decode_charset(bytes(run), run_charset or "ascii"))
    return "".join(pieces) + text[position:]


def _octets(encoding: str, text: str) -> bytes | None:
    try:
        octets = text.encode("ascii")
        if encoding in "qQ":
            return binascii.a2b_qp(octets, header=True)
        octets = octets.rstrip(b"=")
        return base64.b64decode(octets + b"=" * (-len(octets) % 4), validate=True)
    except (UnicodeEncodeError, binascii.Error):
        return None
