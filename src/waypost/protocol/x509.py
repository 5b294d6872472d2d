"""The little that a running service must know of an X.509 certificate: its period, and the hash of its signature.

TLS itself reads and judges certificates (OpenSSL). What it does not tell Python is read here, from DER as in RFC 5280
section 4.1; a library for all of X.509 would take 10 MB in each process. A peer chooses its certificate, so nothing is
taken on trust: whatever has another form raises `ValueError`.
"""

import base64
import binascii
import re
from dataclasses import dataclass
from datetime import UTC, datetime

_SEQUENCE, _OID, _UTC_TIME, _GENERALIZED_TIME, _FIRST = 0x30, 0x06, 0x17, 0x18, 0xA0
_VERSIONS = (b"\x02\x01\x00", b"\x02\x01\x01", b"\x02\x01\x02")  # 1 to 3, as integers
_PEM = re.compile(rb"-----BEGIN (?:X509 )?CERTIFICATE-----([A-Za-z0-9+/=\s]+)-----END (?:X509 )?CERTIFICATE-----")
_LONGEST_OID = 64  # octets; those known have up to 11
_PSS = "1.2.840.113549.1.1.10"
_HASHES = {
    "1.3.14.3.2.26": "sha1",
    "2.16.840.1.101.3.4.2.1": "sha256",
    "2.16.840.1.101.3.4.2.2": "sha384",
    "2.16.840.1.101.3.4.2.3": "sha512",
    "2.16.840.1.101.3.4.2.4": "sha224",
    "2.16.840.1.101.3.4.2.7": "sha3_224",
    "2.16.840.1.101.3.4.2.8": "sha3_256",
    "2.16.840.1.101.3.4.2.9": "sha3_384",
    "2.16.840.1.101.3.4.2.10": "sha3_512",
}
"""Hash functions by themselves, as RSASSA-PSS names them."""
_NIST_SIGNATURES = "2.16.840.1.101.3.4.3."
_SIGNATURES = {
    "1.2.840.113549.1.1.4": "md5",  # with RSA
    "1.2.840.113549.1.1.5": "sha1",
    "1.3.14.3.2.29": "sha1",
    "1.2.840.113549.1.1.11": "sha256",
    "1.2.840.113549.1.1.12": "sha384",
    "1.2.840.113549.1.1.13": "sha512",
    "1.2.840.113549.1.1.14": "sha224",
    "1.2.840.10045.4.1": "sha1",  # with ECDSA
    "1.2.840.10045.4.3.1": "sha224",
    "1.2.840.10045.4.3.2": "sha256",
    "1.2.840.10045.4.3.3": "sha384",
    "1.2.840.10045.4.3.4": "sha512",
    "1.2.840.10040.4.3": "sha1",  # with DSA
    _NIST_SIGNATURES + "1": "sha224",
    _NIST_SIGNATURES + "2": "sha256",
    _NIST_SIGNATURES + "3": "sha384",
    _NIST_SIGNATURES + "4": "sha512",
    _NIST_SIGNATURES + "9": "sha3_224",  # with ECDSA
    _NIST_SIGNATURES + "10": "sha3_256",
    _NIST_SIGNATURES + "11": "sha3_384",
    _NIST_SIGNATURES + "12": "sha3_512",
    _NIST_SIGNATURES + "13": "sha3_224",  # with RSA
    _NIST_SIGNATURES + "14": "sha3_256",
    _NIST_SIGNATURES + "15": "sha3_384",
    _NIST_SIGNATURES + "16": "sha3_512",
}


@dataclass(frozen=True, slots=True)
class Certificate:
    """Facts of one certificate. `signature_hash` is a name for `hashlib`; None where the signature has no hash of its
    own, or one that is not known."""

    der: bytes
    begins: datetime
    expires: datetime
    signature_hash: str | None


def first_certificate(pem: bytes) -> bytes:
    """Return the DER of the first certificate in PEM octets. Raises `ValueError` if they hold no certificate."""
    found = _PEM.search(pem)
    if found is None:
        raise ValueError("no certificate in PEM form")
    try:
        return base64.b64decode(b"".join(found[1].split()), validate=True)
    except binascii.Error as error:
        raise ValueError(f"a certificate in PEM form: {error}") from None


def read_certificate(der: bytes) -> Certificate:
    """Read a certificate. Raises `ValueError`."""
    whole, rest = _value(der, _SEQUENCE)
    if rest:
        raise ValueError("octets follow the certificate")
    fields, after = _value(whole, _SEQUENCE)
    if fields[:1] == bytes([_FIRST]):
        version, fields = _value(fields, _FIRST)
        if version not in _VERSIONS:
            raise ValueError("a certificate of an unknown version")
    _, _, fields = _any(fields)  # the serial number
    _, fields = _value(fields, _SEQUENCE)  # the algorithm of the signature, for the first time
    _, fields = _value(fields, _SEQUENCE)  # the issuer
    period, _ = _value(fields, _SEQUENCE)
    begins, period = _time(period)
    expires, _ = _time(period)
    algorithm, _ = _value(after, _SEQUENCE)
    return Certificate(der, begins, expires, _signature_hash(algorithm))


def _signature_hash(algorithm: bytes) -> str | None:
    octets, parameters = _value(algorithm, _OID)
    name = _dotted(octets)
    if name != _PSS:
        return _SIGNATURES.get(name)
    chosen, _ = _value(parameters, _SEQUENCE)
    if chosen[:1] != bytes([_FIRST]):
        return "sha1"  # the default
    identifier, _ = _value(_value(chosen, _FIRST)[0], _SEQUENCE)
    return _HASHES.get(_dotted(_value(identifier, _OID)[0]))


def _time(octets: bytes) -> tuple[datetime, bytes]:
    """Read a time, which is in seconds and UTC (RFC 5280 section 4.1.2.5); return what follows it, too."""
    tag, value, rest = _any(octets)
    text = value.decode("ascii", "replace")
    digits, zone = text[:-1], text[-1:]
    if not (zone == "Z" and digits.isascii() and digits.isdecimal()):
        raise ValueError(f"a time in another form: {text!r}")
    if tag == _UTC_TIME and len(digits) == 12:
        digits = ("19" if digits >= "5" else "20") + digits
    elif tag != _GENERALIZED_TIME or len(digits) != 14:
        raise ValueError(f"a time in another form: {text!r}")
    month, day, hour, minute, second = (int(digits[start : start + 2]) for start in range(4, 14, 2))
    return datetime(int(digits[:4]), month, day, hour, minute, second, tzinfo=UTC), rest


def _value(octets: bytes, tag: int) -> tuple[bytes, bytes]:
    """Return the content of the first element, which has this tag, and what follows it."""
    found, content, rest = _any(octets)
    if found != tag:
        raise ValueError(f"an element {found:#x} where {tag:#x} belongs")
    return content, rest


def _any(octets: bytes) -> tuple[int, bytes, bytes]:
    """Return the tag and the content of the first element, and what follows it (X.690 section 8.1)."""
    if len(octets) < 2:
        raise ValueError("the certificate ends too early")
    tag, length, start = octets[0], octets[1], 2
    if length & 0x80:
        start += length & 0x7F
        if not 3 <= start <= 6 or len(octets) < start:
            raise ValueError("a length in another form")
        length = int.from_bytes(octets[2:start], "big")
    end = start + length
    if len(octets) < end:
        raise ValueError("the certificate ends too early")
    return tag, octets[start:end], octets[end:]


def _dotted(octets: bytes) -> str:
    """Return an object identifier as text (X.690 section 8.19)."""
    if not octets or octets[-1] & 0x80 or len(octets) > _LONGEST_OID:
        raise ValueError("an object identifier in another form")
    numbers: list[int] = []
    number = 0
    for octet in octets:
        number = number << 7 | octet & 0x7F
        if not octet & 0x80:
            numbers.append(number)
            number = 0
    root = min(numbers[0] // 40, 2)
    return ".".join(map(str, (root, numbers[0] - 40 * root, *numbers[1:])))
