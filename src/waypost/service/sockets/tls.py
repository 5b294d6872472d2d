"""TLS of the listeners: the contexts that shake hands, and the channel binding of our certificate.

Users' ports and port 25 have different contexts. A mail program that can't do better is refused (RFC 8314 4.1); another
server would send in plain text instead, so it gets what is better than that (RFC 7435 section 3).

The key comes as octets, since workers may not read its file; OpenSSL reads it from memory that has no name.
"""

import asyncio
import os
import ssl
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from waypost.login.exporter import tls_exporter
from waypost.protocol.sasl.end_point import server_end_point
from waypost.protocol.session import TlsInfo
from waypost.protocol.x509 import first_certificate
from waypost.service.sockets.timing import Timing

_NOT_ITS_KEY = frozenset({"KEY_VALUES_MISMATCH", "KEY_TYPE_MISMATCH", "NO_CERTIFICATE_ASSIGNED"})

# TLS 1.2 suites; those of TLS 1.3 are always on.
_FOR_USERS = "ECDHE+AESGCM:ECDHE+CHACHA20"
_FOR_SERVERS = "ECDHE+AESGCM:ECDHE+CHACHA20:DHE+AESGCM:ALL:!aNULL:!eNULL:!PSK:!SRP:@SECLEVEL=0"

# The group ffdhe2048 of RFC 7919 appendix A.1, for peers without elliptic curves.
_FFDHE2048 = b"""\
-----BEGIN DH PARAMETERS-----
MIIBCAKCAQEA//////////+t+FRYortKmq/cViAnPTzx2LnFg84tNpWp4TZBFGQz
+8yTnc4kmz75fS/jY2MMddj2gbICrsRhetPfHtXV/WVhJDP1H18GbtCFY2VVPe0a
87VXE15/V8k1mE8McODmi3fipona8+/och3xWKE2rec1MKzKT0g6eXq8CrGCsyT7
YdEIqUuyyOP7uWrat2DX9GgdT0Kj3jlN9K5W7edjcrsZCwenyO4KbXCeAvzhzffi
7MA0BM0oNC9hkXL+nOmFg/+OTxIy7vKBg8P+OxtMb61zO7X8vC7CIAXFjvGDfRaD
ssbzSibBsu/6iGtCOGEoXJf//////////wIBAg==
-----END DH PARAMETERS-----
"""


class TlsProblem(Exception):
    """The certificate or the key can't be used; the message says why."""


@dataclass(frozen=True, slots=True)
class ServerTls:
    """What the TLS listeners of a worker share. `context` is that of users' ports.

    `between_servers` is that of port 25, with both certificates where there are two. Nobody logs in there, and
    OpenSSL does not tell which certificate a session got, so it has no channel binding.
    """

    context: ssl.SSLContext
    end_point: bytes | None
    between_servers: "ServerTls | None" = None

    @classmethod
    def from_pem(cls, certificate: bytes, key: bytes, second: tuple[bytes, bytes] | None = None) -> "ServerTls":
        """Make it of PEM octets: the certificate with its chain, and the key; and a second pair of another kind.

        Raises `TlsProblem`.
        """
        pairs = [(certificate, key)] + ([second] if second else [])
        try:
            users, servers = _contexts()
            _load(users, *pairs[0])
            for pair in pairs:
                _load(servers, *pair)
            end_point = server_end_point(first_certificate(certificate))
        except (ssl.SSLError, ValueError, OSError) as error:
            raise TlsProblem(_words(error)) from error
        return cls(users, end_point, cls(servers, None))

    async def shake_hands(
        self, plain: asyncio.Transport, protocol: asyncio.Protocol, timing: Timing
    ) -> asyncio.Transport | None:
        """Change a connection over to TLS; None when it was dropped meanwhile. Raises `OSError`."""
        encrypted = await asyncio.get_running_loop().start_tls(
            plain,
            protocol,
            self.context,
            server_side=True,
            ssl_handshake_timeout=timing.handshake,
            ssl_shutdown_timeout=timing.closing,
        )
        if encrypted is None or encrypted.get_extra_info("ssl_object") is None:
            return None
        return encrypted

    def describe(self, connection: ssl.SSLObject) -> TlsInfo:
        """Return the facts of a finished handshake."""
        cipher = connection.cipher()
        name = cipher[0] if cipher else ""
        return TlsInfo(connection.version() or "TLS", name, self.end_point, tls_exporter(connection))


def load_openssl() -> None:
    """Have OpenSSL make what it makes with the first contexts of a process and keeps: algorithms, ciphers, groups."""
    _contexts()
    ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)


def handshake_problem(error: OSError) -> str:
    """Return in words why a handshake failed."""
    return str(getattr(error, "reason", None) or "") or str(error) or "the connection was lost"


def _contexts() -> tuple[ssl.SSLContext, ssl.SSLContext]:
    """Return those of users' ports and of port 25, without a certificate. Raises `ssl.SSLError`, `OSError`."""
    users, servers = _context(), _context()
    users.set_ciphers(_FOR_USERS)
    servers.set_ciphers(_FOR_SERVERS)
    with _nameless_file(_FFDHE2048) as group:
        servers.load_dh_params(group)
    return users, servers


def _context() -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2  # RFC 8314 4.1, RFC 8996
    context.options |= ssl.OP_NO_RENEGOTIATION | ssl.OP_NO_COMPRESSION
    return context


def _load(context: ssl.SSLContext, certificate: bytes, key: bytes) -> None:
    with _nameless_file(certificate) as chain, _nameless_file(key) as secret:
        # A password callback keeps OpenSSL from asking on the terminal for the one of an encrypted key.
        context.load_cert_chain(chain, secret, password=_no_password)


def _no_password() -> bytes:
    raise ValueError("the key is encrypted; Waypost needs it without a password")


def _words(error: Exception) -> str:
    if isinstance(error, ssl.SSLError) and error.reason in _NOT_ITS_KEY:
        return "the key does not belong to the certificate"
    if isinstance(error, ssl.SSLError):
        reason = f" ({error.reason})" if error.reason else ""
        return f"the certificate or its key can't be read{reason}: `waypost check` says which, and what is wrong"
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
