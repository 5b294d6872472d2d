"""The server sides of PLAIN (RFC 4616), LOGIN and SCRAM-SHA-256(-PLUS) (RFC 5802, RFC 7677), sans-IO.

They read and write the messages and check proofs. The owner (`waypost/login`) knows the users, their stored keys, and
how often a client may try.
"""

import base64
import hashlib
import hmac
from collections.abc import Mapping
from dataclasses import dataclass

from waypost.protocol.sasl.scram import (
    SaslError,
    ScramKeys,
    attributes,
    check_nonce,
    decode,
    unbase64,
    unescape_name,
    xor,
)


class Distrusted(SaslError):
    """A well-formed message that proves nothing: a wrong proof, another TLS channel, or an offer tampered with."""


class UnsupportedBinding(SaslError):
    """The client asks for a type of channel binding that this connection does not have (RFC 5802 7)."""


@dataclass(frozen=True, slots=True)
class PasswordClaim:
    """A user name and a password, as sent. `authzid` is the identity to act as: "" for the user's own."""

    authzid: str
    user: str
    password: str


@dataclass(frozen=True, slots=True)
class ScramClaim:
    """The user whose keys a SCRAM login needs. `authzid` is the identity to act as: "" for the user's own."""

    authzid: str
    user: str


class PlainServer:
    """PLAIN: everything in one message (RFC 4616 section 2)."""

    def step(self, data: bytes | None) -> bytes | PasswordClaim:
        """Return the empty challenge when there was no initial response, else the claim. Raises `SaslError`."""
        if data is None:
            return b""
        parts = data.split(b"\0")
        if len(parts) != 3:
            raise SaslError("PLAIN is authzid NUL user NUL password")
        authzid, user, password = map(decode, parts)
        if not user or not password:
            raise SaslError("the user name or the password is empty")
        return PasswordClaim(authzid, user, password)


class LoginServer:
    """LOGIN (never standardised): asks for the user name, then for the password."""

    def __init__(self) -> None:
        self._user: str | None = None

    def step(self, data: bytes | None) -> bytes | PasswordClaim:
        """Return the next prompt, or the claim. An initial response is the user name. Raises `SaslError`."""
        if data is None:
            return b"Username:"
        text = decode(data)
        if self._user is None:
            self._user = text
            return b"Password:"
        if not self._user or not text:
            raise SaslError("the user name or the password is empty")
        return PasswordClaim("", self._user, text)


class ScramServer:
    """SCRAM-SHA-256: `first`, `challenge`, `final`, once each and in this order.

    `bindings` are the channel bindings of the connection. They are empty if and only if -PLUS is not offered.
    """

    def __init__(self, *, plus: bool, bindings: Mapping[str, bytes], nonce: str) -> None:
        self._plus = plus
        self._bindings = bindings
        self._nonce = check_nonce(nonce)
        self._bound = b""  # the GS2 header and channel binding that the client must repeat
        self._bare = ""
        self._server_first = ""
        self._keys: ScramKeys | None = None

    def first(self, message: bytes) -> ScramClaim:
        """Read client-first-message (RFC 5802 7). Raises `SaslError`."""
        text = decode(message)
        parts = text.split(",", 2)
        if len(parts) != 3:
            raise SaslError("the GS2 header is missing")
        flag, identity, bare = parts
        bound = self._check_flag(flag)
        if identity and not identity.startswith("a="):
            raise SaslError("the authorization identity is not well formed")
        user, nonce = attributes(bare, "n", "r")
        if not user:
            raise SaslError("the user name is empty")
        self._bound = f"{flag},{identity},".encode() + bound
        self._bare = bare
        self._nonce = check_nonce(nonce) + self._nonce
        return ScramClaim(unescape_name(identity[2:]), unescape_name(user))

    def _check_flag(self, flag: str) -> bytes:
        """Return the channel binding that the client must know (RFC 5802 6)."""
        if flag.startswith("p="):
            if not self._plus:
                raise SaslError("a channel binding without -PLUS")
            bound = self._bindings.get(flag[2:])
            if bound is None:
                raise UnsupportedBinding("this type of channel binding is not offered")
            return bound
        if self._plus:
            raise SaslError("-PLUS without a channel binding")
        if flag == "y" and self._bindings:
            raise Distrusted("the client can bind to the channel and did not see -PLUS: somebody removed the offer")
        if flag not in ("y", "n"):
            raise SaslError("the channel binding flag is unknown")
        return b""

    def challenge(self, keys: ScramKeys) -> bytes:
        """Return server-first-message for the keys of the user."""
        self._keys = keys
        salt = base64.b64encode(keys.salt).decode()
        self._server_first = f"r={self._nonce},s={salt},i={keys.iterations}"
        return self._server_first.encode()

    def final(self, message: bytes) -> bytes:
        """Check client-final-message; return server-final, which proves that we know the password's keys.

        Raises `SaslError`, or `Distrusted` when the proof or the channel is wrong.
        """
        keys = self._keys
        if keys is None:
            raise RuntimeError("`challenge` comes before `final`")
        bare, comma, proof = decode(message).rpartition(",p=")
        if not comma:
            raise SaslError("the proof is missing")
        bound, nonce = attributes(bare, "c", "r")
        if not hmac.compare_digest(unbase64(bound), self._bound):
            raise Distrusted("the client is bound to another channel")
        if not hmac.compare_digest(nonce.encode(), self._nonce.encode()):
            raise SaslError("the nonce is not the one of this login")
        auth_message = f"{self._bare},{self._server_first},{bare}".encode()
        signature = hmac.digest(keys.stored_key, auth_message, "sha256")
        given = unbase64(proof)
        if len(given) != len(signature):
            raise SaslError("the proof has a wrong length")
        if not hmac.compare_digest(hashlib.sha256(xor(given, signature)).digest(), keys.stored_key):
            raise Distrusted("wrong password")
        return b"v=" + base64.b64encode(hmac.digest(keys.server_key, auth_message, "sha256"))
