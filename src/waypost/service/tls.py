"""TLS of the listeners: the context that shakes hands, and the channel binding of our certificate.

The key comes as octets, since workers may not read its file; OpenSSL reads it from memory that has no name.
"""

import os
import ssl
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from cryptography import x509

from waypost.login.exporter import tls_exporter
from waypost.protocol.sasl.end_point import server_end_point
from waypost.protocol.session import TlsInfo


class TlsProblem(Exception):
    """The certificate or the key can't be used; the message says why."""


@dataclass(frozen=True, slots=True)
class ServerTls:
    """What all TLS listeners of a worker share."""

    context: ssl.SSLContext
    end_point: bytes | None

    @classmethod
    def from_pem(cls, certificate: bytes, key: bytes) -> "ServerTls":
        """Make it of PEM octets: the certificate with its chain, and the key. Raises `TlsProblem`."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.minimum_version = ssl.TLSVersion.TLSv1_2  # RFC 8314 4.1, RFC 8996
        context.options |= ssl.OP_NO_RENEGOTIATION | ssl.OP_NO_COMPRESSION
        try:
            with _nameless_file(certificate) as chain, _nameless_file(key) as secret:
                # A password callback keeps OpenSSL from asking on the terminal for the one of an encrypted key.
                context.load_cert_chain(chain, secret, password=_no_password)
            return cls(context, server_end_point(x509.load_pem_x509_certificate(certificate)))
        except (ssl.SSLError, ValueError, OSError) as error:
            raise TlsProblem(_words(error)) from error

    def describe(self, connection: ssl.SSLObject) -> TlsInfo:
        """Return the facts of a finished handshake."""
        cipher = connection.cipher()
        name = cipher[0] if cipher else ""
        return TlsInfo(connection.version() or "TLS", name, self.end_point, tls_exporter(connection))


def handshake_problem(error: OSError) -> str:
    """Return in words why a handshake failed."""
    return str(getattr(error, "reason", None) or "") or str(error) or "the connection was lost"


def _no_password() -> bytes:
    raise ValueError("the key is encrypted; Waypost needs it without a password")


def _words(error: Exception) -> str:
    if isinstance(error, ssl.SSLError) and error.reason == "KEY_VALUES_MISMATCH":
        return "the key does not belong to the certificate"
    if isinstance(error, ssl.SSLError):
        return f"the certificate or its key can't be read: {error.reason or error}"
    return str(error)


@contextmanager
def _nameless_file(octets: bytes) -> Iterator[str]:
    fd = os.memfd_create("waypost")
    try:
        with os.fdopen(os.dup(fd), "wb") as file:
            file.write(octets)
        yield f"/proc/self/fd/{fd}"
    finally:
        os.close(fd)
