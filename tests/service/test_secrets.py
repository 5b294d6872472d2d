"""Secrets are read once, tried, handed over, and never shown."""

import dataclasses
import pickle
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from waypost.config.settings import Route, Settings, Tls
from waypost.protocol.sasl.end_point import server_end_point
from waypost.service.machine.certificates import self_signed
from waypost.service.machine.problems import SetupProblem
from waypost.service.machine.secrets import read_secrets
from waypost.service.sockets.tls import ServerTls, TlsProblem


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    certificate, key = self_signed(["mx.example.org"], datetime.now(UTC))
    (tmp_path / "cert.pem").write_bytes(certificate)
    (tmp_path / "key.pem").write_bytes(key)
    (tmp_path / "password").write_text("correct horse\n")
    return Settings(
        path=tmp_path / "waypost.toml",
        hostname="mx.example.org",
        domains=("example.org",),
        data=tmp_path / "data",
        tls=Tls(tmp_path / "cert.pem", tmp_path / "key.pem"),
        routes=(Route(("*",), "smarthost.example.net", username="u", password_file=tmp_path / "password"),),
    )


def test_they_reach_a_worker_and_are_not_shown(settings: Settings, tmp_path: Path) -> None:
    secrets = pickle.loads(pickle.dumps(dataclasses.replace(read_secrets(settings), login=b"l" * 32)))
    assert secrets.passwords == {tmp_path / "password": "correct horse"}
    assert isinstance(secrets.tls(), ServerTls)
    for secret in ("correct horse", "PRIVATE KEY", "llll"):
        assert secret not in repr(secrets)


def test_a_fault_of_the_second_pair_names_its_file(settings: Settings, tmp_path: Path) -> None:
    assert settings.tls is not None
    certificate, key = self_signed(["mx.example.org"], datetime.now(UTC), rsa=True)
    (tmp_path / "rsa.pem").write_bytes(certificate)
    (tmp_path / "rsa-key.pem").write_bytes(key)
    tls = dataclasses.replace(
        settings.tls, second_certificate=tmp_path / "rsa.pem", second_key=tmp_path / "rsa-key.pem"
    )
    secrets = pickle.loads(pickle.dumps(read_secrets(dataclasses.replace(settings, tls=tls))))
    assert secrets.second_certificate == certificate and "PRIVATE" not in repr(secrets)
    (tmp_path / "rsa-key.pem").write_bytes((tmp_path / "key.pem").read_bytes())
    with pytest.raises(SetupProblem, match=r"tls.second_certificate: .*rsa.pem: the key does not belong"):
        read_secrets(dataclasses.replace(settings, tls=tls))


def test_without_tls_there_is_none(settings: Settings) -> None:
    assert read_secrets(dataclasses.replace(settings, tls=None, routes=())).tls() is None


def test_every_fault_is_told(settings: Settings, tmp_path: Path) -> None:
    (tmp_path / "key.pem").unlink()
    (tmp_path / "password").write_text("\n")
    with pytest.raises(SetupProblem) as problem:
        read_secrets(settings)
    key, password = problem.value.problems
    assert key == f"tls.key: {tmp_path / 'key.pem'} can't be read: No such file or directory"
    assert password.startswith(f"route.password_file: {tmp_path / 'password'} has an empty first line")


def test_an_expired_certificate_still_serves(settings: Settings, tmp_path: Path) -> None:
    certificate, key = self_signed(["mx.example.org"], datetime.now(UTC) - timedelta(days=10_000))
    (tmp_path / "cert.pem").write_bytes(certificate)
    (tmp_path / "key.pem").write_bytes(key)
    assert read_secrets(settings).tls() is not None


def test_a_key_that_is_not_the_certificates_is_refused(settings: Settings, tmp_path: Path) -> None:
    (tmp_path / "key.pem").write_bytes(self_signed(["mx.example.org"], datetime.now(UTC))[1])
    with pytest.raises(SetupProblem, match="the key does not belong to the certificate"):
        read_secrets(settings)


def test_an_encrypted_key_is_refused_without_asking_for_its_password(settings: Settings) -> None:
    certificate, _ = self_signed(["mx.example.org"], datetime.now(UTC))
    key = ec.generate_private_key(ec.SECP256R1()).private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.BestAvailableEncryption(b"secret"),
    )
    with pytest.raises(TlsProblem, match="without a password"):
        ServerTls.from_pem(certificate, key)


@pytest.mark.parametrize(
    "octets", [b"", b"nonsense", b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"]
)
def test_what_is_no_certificate_is_refused(octets: bytes) -> None:
    with pytest.raises(TlsProblem):
        ServerTls.from_pem(octets, octets)


def test_the_end_point_is_the_hash_of_the_certificate() -> None:
    import hashlib
    import ssl

    certificate, _ = self_signed(["mx.example.org"], datetime.now(UTC))
    der = ssl.PEM_cert_to_DER_cert(certificate.decode())
    assert server_end_point(der) == hashlib.sha256(der).digest()


def test_an_ed25519_certificate_has_no_end_point() -> None:
    from cryptography import x509
    from cryptography.hazmat.primitives.asymmetric import ed25519
    from cryptography.hazmat.primitives.serialization import Encoding

    key = ed25519.Ed25519PrivateKey.generate()
    name = x509.Name([])
    now = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now)
        .not_valid_after(now + timedelta(days=1))
        .sign(key, None)
    )
    assert server_end_point(certificate.public_bytes(Encoding.DER)) is None
