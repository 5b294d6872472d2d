"""One connection of a mail program to a server: a blocking socket, TLS, and errors in plain words.

A person waits for one thing at a time, so this code is not asynchronous.
"""

import os
import socket
import ssl
from types import TracebackType

from cryptography import x509

from waypost.client.errors import ClientError
from waypost.client.places import Security, ServerPlace, other_scheme
from waypost.client.trust import Trust
from waypost.protocol.sasl.end_point import server_end_point
from waypost.protocol.session import TlsInfo

CONNECT_TIMEOUT = 30.0
"""Seconds for the connection, and again for the handshake."""
COMMAND_TIMEOUT = 300.0
"""Seconds that a server may be silent (RFC 5321 4.5.3.2)."""
CONTENT_TIMEOUT = 600.0
"""Seconds that a server may take to accept a whole message (RFC 5321 4.5.3.2.6)."""

_PIECE = 65536
_NOT_TLS = frozenset({"WRONG_VERSION_NUMBER", "UNKNOWN_PROTOCOL", "HTTP_REQUEST", "RECORD_LAYER_FAILURE"})


class ClientConnection:
    """An open connection; TLS is on if the place asks for it from the first octet. Raises `ClientError`."""

    def __init__(self, place: ServerPlace, trust: Trust) -> None:
        self._place = place
        self._trust = trust
        self.tls: TlsInfo | None = None
        """The facts of the handshake; None before it."""
        try:
            self._socket = socket.create_connection((place.host, place.port), CONNECT_TIMEOUT)
        except UnicodeError:
            raise ClientError(f"{place}: this is not the name of a host") from None
        except OSError as error:
            raise ClientError(f"{place}: {_words(error)}") from None
        if place.security is Security.IMPLICIT:
            try:
                self.start_tls()
            except ClientError:
                self.close()
                raise

    def __enter__(self) -> "ClientConnection":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    @property
    def local_address(self) -> str:
        """Our IP address."""
        return str(self._socket.getsockname()[0])

    def start_tls(self) -> None:
        """Do the TLS handshake, and verify that it is the right server. Raises `ClientError`."""
        self._socket.settimeout(CONNECT_TIMEOUT)
        try:
            secured = self._trust.context.wrap_socket(self._socket, server_hostname=self._place.host)
        except ssl.SSLCertVerificationError as error:
            reason = error.verify_message
            raise ClientError(
                f"{self._place}: the server's certificate is not trusted: {reason}; "
                "if it is your own, name its file with --ca"
            ) from None
        except (OSError, ValueError) as error:
            hint = ""
            if (
                isinstance(error, ssl.SSLError)
                and error.reason in _NOT_TLS
                and self._place.security is Security.IMPLICIT
            ):
                hint = f"; {other_scheme(self._place)}"
            raise ClientError(f"{self._place}: TLS did not start: {_words(error)}{hint}") from None
        self._socket = secured
        end_point = None
        der = secured.getpeercert(binary_form=True)
        if der is not None:
            try:
                certificate = x509.load_der_x509_certificate(der)
                self._trust.check(certificate, self._place.host)
                end_point = server_end_point(der)
            except (ValueError, x509.InvalidVersion) as error:
                raise ClientError(f"{self._place}: the server's certificate can't be read: {error}") from None
        cipher = secured.cipher()
        self.tls = TlsInfo(secured.version() or "TLS", cipher[0] if cipher else "", end_point)

    def read(self, timeout: float = COMMAND_TIMEOUT) -> bytes:
        """Return the server's next octets, b"" at their end, waiting up to `timeout` seconds. Raises `ClientError`."""
        self._socket.settimeout(timeout)
        try:
            return self._socket.recv(_PIECE)
        except ConnectionError:
            return b""
        except OSError as error:
            raise ClientError(f"{self._place}: {_words(error)}") from None

    def write(self, data: bytes) -> None:
        """Send all of `data`. Raises `ClientError`, but not if the server hung up: its last reply is read first."""
        self._socket.settimeout(COMMAND_TIMEOUT)
        try:
            for start in range(0, len(data), _PIECE):  # the timeout is for each piece, not for the whole message
                self._socket.sendall(data[start : start + _PIECE])
        except ConnectionError:
            return
        except OSError as error:
            raise ClientError(f"{self._place}: {_words(error)}") from None

    def close(self) -> None:
        """Close the connection."""
        self._socket.close()


def _words(error: Exception) -> str:
    if isinstance(error, TimeoutError):
        return "the server does not answer"
    if isinstance(error, socket.gaierror):
        return f"the name can't be found: {error.strerror}"
    if isinstance(error, ssl.SSLError):
        return error.reason.lower().replace("_", " ") if error.reason else str(error)
    if isinstance(error, OSError) and error.errno:
        return os.strerror(error.errno).lower()
    return str(error)
