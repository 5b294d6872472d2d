"""TLS on the way out: the contexts, and what a handshake reached (RFC 3207, RFC 7435).

The contexts are made once and carry no sessions: Python's ssl can't tell a ticket that a server refuses from a
broken handshake, so nothing is ever resumed, and every handshake is a fresh one.
"""

import ssl
from dataclasses import dataclass
from functools import cached_property

from waypost.protocol.sasl.end_point import server_end_point
from waypost.protocol.session import TlsInfo
from waypost.transport.broken_tls import BrokenTls

# RFC 7435 section 3: with a certificate that nobody checks, whatever is better than plain text will do; RFC 8996
# forbids TLS 1.0 and 1.1 only. Level 0 admits the short keys and SHA-1 signatures of old servers.
BETTER_THAN_PLAIN_TEXT = "DEFAULT:!aNULL:!eNULL:@SECLEVEL=0"


@dataclass(frozen=True, slots=True)
class Secured:
    """What a handshake reached. `verified`: the certificate is a trusted one for the server's name."""

    verified: bool
    info: TlsInfo

    def __str__(self) -> str:
        return f"{self.info.version} {'verified' if self.verified else 'unverified'}"


class TlsClient:
    """The TLS side of all connections of a worker. `verified` is a context for tests; default: the system's CAs."""

    def __init__(self, *, verified: ssl.SSLContext | None = None, broken: BrokenTls | None = None) -> None:
        if verified is not None:
            self.verified = verified
        self.broken = broken or BrokenTls()
        """The servers whose TLS fails again and again."""

    @cached_property
    def verified(self) -> ssl.SSLContext:
        """The context that takes only a trusted certificate for the right name."""
        context = ssl.create_default_context()
        context.minimum_version = ssl.TLSVersion.TLSv1_2  # RFC 8996
        return context

    @cached_property
    def unverified(self) -> ssl.SSLContext:
        """The context that takes any certificate: it keeps out who only listens (RFC 7435)."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        context.set_ciphers(BETTER_THAN_PLAIN_TEXT)
        return context


def secured(connection: ssl.SSLObject, *, verified: bool) -> Secured:
    """Return what a finished handshake reached."""
    cipher = connection.cipher()
    der = connection.getpeercert(binary_form=True)
    return Secured(verified, TlsInfo(connection.version() or "TLS", cipher[0] if cipher else "", _end_point(der)))


def _end_point(der: bytes | None) -> bytes | None:
    """The channel binding of the server's certificate; None where it has none, or can't be read."""
    if der is None:
        return None
    try:
        return server_end_point(der)
    except ValueError:  # OpenSSL takes some that are malformed
        return None


def tls_words(error: Exception) -> str:
    """Say in plain words why a handshake failed."""
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"the server's certificate is not trusted: {error.verify_message}"
    if isinstance(error, ssl.SSLError) and error.reason:
        return f"TLS did not start: {error.reason.lower().replace('_', ' ')}"
    if isinstance(error, TimeoutError):
        return "TLS did not start: the server did not answer"
    return f"TLS did not start: {error}" if str(error) else "TLS did not start: the connection was lost"
