"""tls-exporter: both ends of a connection find the same, and no other connection has it."""

import ssl
from datetime import UTC, datetime

import pytest

from waypost.login import exporter
from waypost.login.exporter import tls_exporter
from waypost.service.machine.certificates import self_signed
from waypost.service.sockets.tls import ServerTls


@pytest.fixture(scope="module")
def server() -> ServerTls:
    return ServerTls.from_pem(*self_signed(["mx.here.test"], datetime.now(UTC)))


def connected(server: ServerTls, version: ssl.TLSVersion) -> tuple[ssl.SSLObject, ssl.SSLObject]:
    """Return the two ends of a connection in memory."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    context.maximum_version = version
    there, here = ssl.MemoryBIO(), ssl.MemoryBIO()
    ends = context.wrap_bio(there, here), server.context.wrap_bio(here, there, server_side=True)
    waiting = list(ends)
    while waiting:
        end = waiting.pop(0)
        try:
            end.do_handshake()
        except ssl.SSLWantReadError:
            waiting.append(end)
    return ends


def test_both_ends_have_the_same_and_every_connection_its_own(server: ServerTls) -> None:
    theirs, ours = connected(server, ssl.TLSVersion.TLSv1_3)
    found = tls_exporter(ours)
    assert found is not None and len(found) == 32
    assert tls_exporter(theirs) == found == tls_exporter(ours)
    assert tls_exporter(connected(server, ssl.TLSVersion.TLSv1_3)[1]) != found
    assert server.describe(ours).exporter == found


def test_tls_1_2_has_none(server: ServerTls) -> None:
    theirs, ours = connected(server, ssl.TLSVersion.TLSv1_2)
    assert ours.version() == "TLSv1.2"
    assert tls_exporter(ours) is None is tls_exporter(theirs)


def test_a_python_that_is_not_known_is_not_looked_into(server: ServerTls, monkeypatch: pytest.MonkeyPatch) -> None:
    _, ours = connected(server, ssl.TLSVersion.TLSv1_3)
    monkeypatch.setattr(exporter, "_KNOWN", ((2, 7),))
    assert exporter._openssl() is None
    monkeypatch.setattr(exporter, "_EXPORT", None)
    assert tls_exporter(ours) is None
    assert server.describe(ours).server_end_point is not None
