"""Decodes content transfer encodings, damaged ones as far as possible (RFC 2045 section 6), in linear time."""

import binascii

_NO_BASE64 = bytes(set(range(256)) - set(b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/="))
_NO_TEXT = bytes(set(range(256)) - set(_NO_BASE64) | set(b"\r\n"))  # the octets that lines of base64 may hold
_MOST_PIECES = 100_000


def decode_transfer(octets: bytes, encoding: str) -> bytes:
    """Return the decoded octets of a body; malformed parts are skipped.

    With an unknown encoding, or one such as 8bit that changes nothing, the octets are returned unchanged.
    """
    if encoding == "base64":
        return _base64(octets)
    if encoding == "quoted-printable":
        return binascii.a2b_qp(octets)
    return octets


def _base64(octets: bytes) -> bytes:
    digits = octets.translate(None, _NO_BASE64)
    if octets.translate(None, _NO_TEXT):
        return _piece(
            digits.partition(b"=")[0]
        )  # padding ends the data (RFC 2045 6.8); a mailing list may add its footer after it
    # Some programs encode in pieces, each with padding of its own.
    return b"".join(map(_piece, digits.split(b"=", _MOST_PIECES)[:_MOST_PIECES]))


def _piece(digits: bytes) -> bytes:
    if len(digits) % 4 == 1:  # one digit has only six bits, which do not make an octet
        digits = digits[:-1]
    return binascii.a2b_base64(digits + b"=" * (-len(digits) % 4))
