"""What the listeners' TLS accepts: much from other mail servers, only the best from mail programs."""

import ssl
from datetime import UTC, datetime

import pytest

from waypost.service.machine.certificates import self_signed
from waypost.service.sockets.tls import ServerTls

NOW = datetime.now(UTC)
OLD_SUITES = [
    "ECDHE-RSA-AES128-SHA",
    "ECDHE-RSA-AES256-SHA384",
    "DHE-RSA-AES128-GCM-SHA256",
    "AES128-GCM-SHA256",
    "AES128-SHA",
    "AES256-SHA256",
]


@pytest.fixture(scope="module")
def tls() -> ServerTls:
    """With the certificates that a new host has."""
    ecdsa = self_signed(["mx.example.org"], NOW)
    return ServerTls.from_pem(*ecdsa, self_signed(["mx.example.org"], NOW, rsa=True))


def handshake(server: ssl.SSLContext, suites: str, version: ssl.TLSVersion = ssl.TLSVersion.TLSv1_2) -> str:
    """Shake hands with a client that knows some suites only; return the suite. Raises `ssl.SSLError`."""
    client = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    client.check_hostname, client.verify_mode = False, ssl.CERT_NONE
    client.minimum_version = client.maximum_version = version
    client.set_ciphers(f"{suites}:@SECLEVEL=0")
    to_client, to_server = ssl.MemoryBIO(), ssl.MemoryBIO()
    ends = [
        client.wrap_bio(to_client, to_server, server_hostname="mx.example.org"),
        server.wrap_bio(to_server, to_client, server_side=True),
    ]
    waiting = list(ends)
    while waiting:
        for end in list(waiting):
            try:
                end.do_handshake()
                waiting.remove(end)
            except ssl.SSLWantReadError:
                continue
    found = ends[0].cipher()
    assert found is not None
    return found[0]


@pytest.mark.parametrize("suite", OLD_SUITES)
def test_between_servers_whatever_is_better_than_plain_text_is_taken(tls: ServerTls, suite: str) -> None:
    assert tls.between_servers is not None
    assert handshake(tls.between_servers.context, suite) == suite


@pytest.mark.parametrize("suite", ["ECDHE-ECDSA-AES256-GCM-SHA384", "ECDHE-RSA-CHACHA20-POLY1305"])
def test_between_servers_both_kinds_of_certificate_are_served(tls: ServerTls, suite: str) -> None:
    assert tls.between_servers is not None
    assert handshake(tls.between_servers.context, suite) == suite


@pytest.mark.parametrize("suite", [*OLD_SUITES, "ECDHE-ECDSA-AES128-SHA256", "ECDHE-ECDSA-AES256-SHA384"])
def test_users_ports_take_authenticated_encryption_with_forward_secrecy_only(suite: str) -> None:
    for rsa in (False, True):
        with pytest.raises(ssl.SSLError):
            handshake(ServerTls.from_pem(*self_signed(["mx.example.org"], NOW, rsa=rsa)).context, suite)


def test_users_ports_use_the_first_certificate_alone_so_that_its_channel_binding_is_known(tls: ServerTls) -> None:
    assert handshake(tls.context, "ECDHE-ECDSA-AES128-GCM-SHA256")
    with pytest.raises(ssl.SSLError):
        handshake(tls.context, "ECDHE-RSA-AES128-GCM-SHA256")
    assert tls.end_point is not None and tls.between_servers is not None and tls.between_servers.end_point is None


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1, ssl.TLSVersion.TLSv1_1])
def test_no_port_speaks_the_versions_that_are_forbidden(tls: ServerTls, version: ssl.TLSVersion) -> None:
    assert tls.between_servers is not None
    for context in (tls.context, tls.between_servers.context):
        with pytest.raises(ssl.SSLError):
            handshake(context, "ALL", version)


@pytest.mark.parametrize("suites", ["aNULL", "eNULL"])
def test_no_port_speaks_without_a_certificate_or_without_encryption(tls: ServerTls, suites: str) -> None:
    assert tls.between_servers is not None
    for context in (tls.context, tls.between_servers.context):
        with pytest.raises(ssl.SSLError):
            handshake(context, suites)
