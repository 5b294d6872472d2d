"""The parts of SCRAM-SHA-256 that both sides use: keys, messages, channel binding (RFC 5802, 7677, 5929, 9266)."""

import base64
import binascii
import hashlib
import hmac
import re
import secrets
from dataclasses import dataclass

from waypost.protocol.session import TlsInfo

SCRAM = "SCRAM-SHA-256"
SCRAM_PLUS = "SCRAM-SHA-256-PLUS"
MIN_ITERATIONS = 4096  # RFC 7677 section 4
MAX_ITERATIONS = 1_000_000  # the most that a server may make a client compute
MAX_MESSAGE = 9216  # octets: what fits, in base64, into the longest line of AUTH (RFC 4954 section 4)

_NONCE = re.compile(r"[!-+\--~]+")  # printable, without the comma
_NAME_ESCAPE = re.compile(r"=(?!2C|3D)")
_ATTRIBUTE = re.compile(r"([A-Za-z])=(.*)", re.DOTALL)


class SaslError(ValueError):
    """The other side's message is malformed or must not be believed. The text is for our log."""


@dataclass(frozen=True, slots=True)
class ScramKeys:
    """The keys that a server stores instead of a password (RFC 5802 3, RFC 5803)."""

    salt: bytes
    iterations: int
    stored_key: bytes
    server_key: bytes


def derive_client_key(password: str, salt: bytes, iterations: int) -> tuple[bytes, bytes]:
    """Return ClientKey and ServerKey of a prepared password (RFC 5802 3)."""
    salted = hashlib.pbkdf2_hmac("sha256", password.encode(), salt, iterations)
    return hmac.digest(salted, b"Client Key", "sha256"), hmac.digest(salted, b"Server Key", "sha256")


def derive_keys(password: str, salt: bytes, iterations: int) -> ScramKeys:
    """Return the keys that a server stores for a prepared password."""
    client_key, server_key = derive_client_key(password, salt, iterations)
    return ScramKeys(salt, iterations, hashlib.sha256(client_key).digest(), server_key)


def xor(left: bytes, right: bytes) -> bytes:
    """Return the exclusive or of two strings of equal length."""
    return (int.from_bytes(left, "big") ^ int.from_bytes(right, "big")).to_bytes(len(left), "big")


def make_nonce() -> str:
    """Return a nonce of 144 random bits."""
    return secrets.token_urlsafe(18)


def check_nonce(nonce: str) -> str:
    """Return the nonce. Raises `SaslError` when it is not well formed (RFC 5802 5.1)."""
    if not _NONCE.fullmatch(nonce):
        raise SaslError("the nonce is not well formed")
    return nonce


def bindings(tls: TlsInfo | None) -> dict[str, bytes]:
    """Return the channel bindings that a connection has, the better one first (RFC 9266 section 2, RFC 5929 4)."""
    if tls is None:
        return {}
    offers = {"tls-exporter": tls.exporter, "tls-server-end-point": tls.server_end_point}
    return {name: data for name, data in offers.items() if data}


def decode(message: bytes) -> str:
    """Return a message as text. Raises `SaslError` when it is too long, is not UTF-8, or holds a NUL."""
    if len(message) > MAX_MESSAGE:
        raise SaslError("the message is too long")
    try:
        text = message.decode()
    except UnicodeDecodeError:
        raise SaslError("the message is not UTF-8") from None
    if "\0" in text:
        raise SaslError("the message holds a NUL")
    return text


def attributes(text: str, *expected: str) -> list[str]:
    """Return the values of the attributes that a message must begin with, in order (RFC 5802 5.1).

    Extensions may follow; an attribute "m" demands one that we don't support. Raises `SaslError`.
    """
    parts = text.split(",")
    values = []
    for number, part in enumerate(parts):
        attribute = _ATTRIBUTE.fullmatch(part)
        if attribute is None:
            raise SaslError("an attribute is not well formed")
        if attribute[1] == "m":
            raise SaslError("a mandatory extension is not supported")
        if number < len(expected):
            if attribute[1] != expected[number]:
                raise SaslError(f"the attribute {expected[number]!r} is missing")
            values.append(attribute[2])
    if len(values) < len(expected):
        raise SaslError(f"the attribute {expected[len(values)]!r} is missing")
    return values


def unbase64(text: str | bytes) -> bytes:
    """Decode base64 strictly. Raises `SaslError`."""
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        raise SaslError("the text is not base64") from None


def escape_name(name: str) -> str:
    """Return a user name as a saslname (RFC 5802 5.1)."""
    return name.replace("=", "=3D").replace(",", "=2C")


def unescape_name(name: str) -> str:
    """Read a saslname. Raises `SaslError`."""
    if _NAME_ESCAPE.search(name):
        raise SaslError("the user name has a bare '='")
    return name.replace("=2C", ",").replace("=3D", "=")
