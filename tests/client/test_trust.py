"""Whose certificate is believed: an authority's for the right name, or the very one that was given."""

from pathlib import Path

import pytest
import trustme
from cryptography import x509
from tests.client.servers import self_signed

from waypost.client.errors import ClientError
from waypost.client.trust import Trust, is_certificate_of


def leaf(*names: str) -> x509.Certificate:
    return x509.load_pem_x509_certificate(trustme.CA().issue_cert(*names).cert_chain_pems[0].bytes())


@pytest.mark.parametrize(
    ("names", "host", "right"),
    [
        (["mx.example.test"], "mx.example.test", True),
        (["mx.example.test"], "MX.Example.TEST.", True),
        (["mx.example.test"], "example.test", False),
        (["example.test"], "mx.example.test", False),
        (["*.example.test"], "mx.example.test", True),
        (["*.example.test"], "a.mx.example.test", False),
        (["*.example.test"], "example.test", False),
        (["*.test"], "example.test", False),
        (["127.0.0.1"], "127.0.0.1", True),
        (["127.0.0.1"], "127.0.0.2", False),
        (["::1"], "::1", True),
        (["a.test", "b.test"], "b.test", True),
        (["xn--bcher-kva.test"], "xn--bcher-kva.test", True),
    ],
)
def test_a_certificate_belongs_to_the_hosts_it_names(names: list[str], host: str, right: bool) -> None:
    assert is_certificate_of(leaf(*names), host) is right


def test_an_address_is_no_name(tmp_path: Path) -> None:
    certificate = x509.load_pem_x509_certificate(self_signed(tmp_path, "127.0.0.1").file.read_bytes())
    assert not is_certificate_of(certificate, "127.0.0.1"), "there it stands as a DNS name"


def test_the_given_certificate_needs_no_name(tmp_path: Path) -> None:
    given = self_signed(tmp_path, "mx.example.test")
    certificate = x509.load_pem_x509_certificate(given.file.read_bytes())
    Trust(ca=given.file).check(certificate, "127.0.0.1")
    with pytest.raises(ClientError, match=r"is not that of 127\.0\.0\.1, but of mx\.example\.test"):
        Trust().check(certificate, "127.0.0.1")


@pytest.mark.parametrize(
    "content", [b"", b"nothing", b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n", b"\xff"]
)
def test_a_file_without_a_certificate_is_named(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "ca.pem"
    path.write_bytes(content)
    with pytest.raises(ClientError, match=r"ca\.pem: it holds no certificate"):
        Trust(ca=path)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(ClientError, match=r"ca\.pem: No such file"):
        Trust(ca=tmp_path / "ca.pem")
