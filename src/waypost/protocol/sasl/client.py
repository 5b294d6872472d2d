"""The client sides of PLAIN (RFC 4616), LOGIN and SCRAM-SHA-256(-PLUS) (RFC 5802, RFC 7677), sans-IO.

They are `ClientMechanism`s of `protocol/smtp/client.py`; the POP3 client uses them too. User name and password are
prepared by SASLprep; a text that SASLprep refuses is sent unchanged, and the server decides.
"""

import base64
import hashlib
import hmac
from collections.abc import Callable, Collection

from waypost.protocol.sasl.prep import PreparationError, saslprep
from waypost.protocol.sasl.scram import (
    MAX_ITERATIONS,
    MIN_ITERATIONS,
    SCRAM,
    SCRAM_PLUS,
    SaslError,
    attributes,
    bindings,
    check_nonce,
    decode,
    derive_client_key,
    escape_name,
    make_nonce,
    unbase64,
    xor,
)
from waypost.protocol.session import TlsInfo
from waypost.protocol.smtp.client import ClientMechanism


class PlainClient:
    """PLAIN: user and password in one message. Only over TLS: the caller ensures that, as `choose` does."""

    name = "PLAIN"

    def __init__(self, user: str, password: str) -> None:
        self._message = b"\0" + _prepare(user).encode() + b"\0" + _prepare(password).encode()
        self.done = False

    def start(self) -> bytes:
        """Return the whole login."""
        self.done = True
        return self._message

    def step(self, challenge: bytes) -> bytes:
        """Answer the empty challenge of a server that ignored the initial response. Raises `SaslError` at any other."""
        if challenge:
            raise SaslError("PLAIN has no challenge")
        return self._message


class LoginClient:
    """LOGIN (obsolete, never standardised): user, then password. Only over TLS, when nothing better is offered."""

    name = "LOGIN"

    def __init__(self, user: str, password: str) -> None:
        self._user = _prepare(user).encode()
        self._password = _prepare(password).encode()
        self.done = False

    def start(self) -> bytes:
        """Return the user name."""
        return self._user

    def step(self, challenge: bytes) -> bytes:
        """Answer the prompt: a server that asks for the user name again gets it again."""
        if self.done:
            raise SaslError("LOGIN has no third challenge")
        if challenge.lower().startswith(b"user"):
            return self._user
        self.done = True
        return self._password


class ScramClient:
    """SCRAM-SHA-256, or -PLUS with the channel `binding` (its type and data).

    A binding without `plus` says that we could bind but saw no offer of -PLUS: a server that did offer it then knows
    that somebody removed the offer (RFC 5802 section 6). `nonce` is printable, without a comma.
    """

    def __init__(
        self, user: str, password: str, *, plus: bool, binding: tuple[str, bytes] | None = None, nonce: str
    ) -> None:
        if plus and binding is None:
            raise ValueError("-PLUS needs a channel binding")
        self.name = SCRAM_PLUS if plus else SCRAM
        self.done = False
        self._password = _prepare(password)
        self._nonce = check_nonce(nonce)
        if binding is None:
            self._header, bound = "n,,", b""
        elif plus:
            self._header, bound = f"p={binding[0]},,", binding[1]
        else:
            self._header, bound = "y,,", b""
        self._bound = base64.b64encode(self._header.encode() + bound).decode()
        self._first = f"n={escape_name(_prepare(user))},r={nonce}"
        self._signature: bytes | None = None  # what the server must prove

    def start(self) -> bytes:
        """Return client-first-message."""
        return (self._header + self._first).encode()

    def step(self, challenge: bytes) -> bytes:
        """Answer server-first, then check server-final. Raises `SaslError` when the server can't be trusted."""
        if self.done:
            raise SaslError("a challenge arrived after the end of the login")
        message = decode(challenge)
        if self._signature is None:
            return self._final(message)
        if message.startswith("e="):
            raise SaslError(f"the server ends the login: {message[2:60]!r}")
        [signature] = attributes(message, "v")
        if not hmac.compare_digest(unbase64(signature), self._signature):
            raise SaslError("the server does not know the password")
        self.done = True
        return b""

    def _final(self, server_first: str) -> bytes:
        """Return client-final-message (RFC 5802 3)."""
        nonce, salt, count = attributes(server_first, "r", "s", "i")
        if not nonce.startswith(self._nonce) or len(nonce) == len(self._nonce):
            raise SaslError("the server's nonce does not continue ours")
        check_nonce(nonce)
        iterations = int(count) if count.isascii() and count.isdigit() and len(count) <= 9 else 0
        if not MIN_ITERATIONS <= iterations <= MAX_ITERATIONS:
            raise SaslError(f"the iteration count is outside {MIN_ITERATIONS}..{MAX_ITERATIONS}")
        client_key, server_key = derive_client_key(self._password, unbase64(salt), iterations)
        bare = f"c={self._bound},r={nonce}"
        auth_message = f"{self._first},{server_first},{bare}".encode()
        stored_key = hashlib.sha256(client_key).digest()
        proof = xor(client_key, hmac.digest(stored_key, auth_message, "sha256"))
        self._signature = hmac.digest(server_key, auth_message, "sha256")
        return f"{bare},p={base64.b64encode(proof).decode()}".encode()


def choose(
    offered: Collection[str],
    user: str,
    password: str,
    tls: TlsInfo | None,
    *,
    nonce: Callable[[], str] = make_nonce,
) -> ClientMechanism | None:
    """Return the best mechanism that the server offers and we may use; None when it offers no such mechanism.

    SCRAM comes first, bound to the TLS channel where both sides can; PLAIN and LOGIN are used only over TLS.
    """
    names = {name.upper() for name in offered}
    binding = next(iter(bindings(tls).items()), None)
    if binding is not None and SCRAM_PLUS in names:
        return ScramClient(user, password, plus=True, binding=binding, nonce=nonce())
    if SCRAM in names:
        return ScramClient(user, password, plus=False, binding=binding, nonce=nonce())
    if tls is not None and "PLAIN" in names:
        return PlainClient(user, password)
    if tls is not None and "LOGIN" in names:
        return LoginClient(user, password)
    return None


def _prepare(text: str) -> str:
    if "\0" in text:
        raise ValueError("user names and passwords must not hold a NUL")
    try:
        return saslprep(text)
    except PreparationError:
        return text
