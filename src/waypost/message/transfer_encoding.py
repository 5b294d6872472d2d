"""Content transfer encodings, undone as far as they can be (RFC 2045 section 6), in time linear in the octets."""

import binascii

_NO_BASE64 = bytes(set(range(256)) - set(b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/="))
_NO_TEXT = bytes(set(range(256)) - set(_NO_BASE64) | set(b"\r\n"))  # what stands in lines of base64
_MOST_PIECES = 100_000


def decode_transfer(octets: bytes, encoding: str) -> bytes:
    """Return what the octets of a body stand for; what is not well formed is passed over.

    An encoding that is not known, and one that encodes nothing, leave them as they are.
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
        )  # padding ends the data (RFC 2045 6.8); a list put its footer behind it
    # Some programs encode in pieces, each with padding of its own.
    return b"".join(map(_piece, digits.split(b"=", _MOST_PIECES)[:_MOST_PIECES]))


def _piece(digits: bytes) -> bytes:
    if len(digits) % 4 == 1:  # six bits are no octet
        digits = digits[:-1]
    return binascii.a2b_base64(digits + b"=" * (-len(digits) % 4))
