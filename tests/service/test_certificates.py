"""Certificates: made, read, and refused with the reason."""

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.x509.oid import NameOID

from waypost.service.machine.certificates import CertificateProblem, Pair, load_pair, self_signed

NOW = datetime(2026, 11, 25, 1, 7, tzinfo=UTC)


@pytest.fixture
def files(tmp_path: Path) -> tuple[Path, Path]:
    certificate, key = tmp_path / "cert.pem", tmp_path / "key.pem"
    for path, data in zip((certificate, key), self_signed(["mx.example.org", "example.org"], NOW), strict=True):
        path.write_bytes(data)
    return certificate, key


def test_a_self_signed_certificate_is_good_for_its_names_for_ten_years(files: tuple[Path, Path]) -> None:
    pair = load_pair(*files, NOW)
    assert pair == Pair(("mx.example.org", "example.org"), NOW + timedelta(days=3650), True, False)
    certificate = x509.load_pem_x509_certificate(files[0].read_bytes())
    assert certificate.subject.rfc4514_string() == "CN=mx.example.org"


def test_a_host_name_that_is_too_long_for_the_subject_stands_among_the_names_only(tmp_path: Path) -> None:
    name = f"{'a' * 60}.{'b' * 20}.example"
    for file, data in zip(("cert", "key"), self_signed([name], NOW), strict=True):
        (tmp_path / file).write_bytes(data)
    assert load_pair(tmp_path / "cert", tmp_path / "key", NOW).names == (name,)


def test_a_chain_may_follow_the_certificate(files: tuple[Path, Path]) -> None:
    files[0].write_bytes(files[0].read_bytes() + self_signed(["ca.example"], NOW)[0])
    assert load_pair(*files, NOW).covers("mx.example.org")


def test_a_self_signed_certificate_can_have_an_rsa_key(tmp_path: Path) -> None:
    certificate, key = tmp_path / "cert", tmp_path / "key"
    for path, data in zip((certificate, key), self_signed(["mx.example.org"], NOW, rsa=True), strict=True):
        path.write_bytes(data)
    assert load_pair(certificate, key, NOW).rsa


@pytest.mark.parametrize(
    ("names", "covered"),
    [
        (("mx.example.org",), True),
        (("*.example.org",), True),
        (("example.org", "*.mx.example.org"), False),
        ((), False),
    ],
)
def test_a_certificate_covers_its_names_and_wildcards(names: tuple[str, ...], covered: bool) -> None:
    assert Pair(names, NOW, False, False).covers("mx.example.org") is covered


def refused(files: tuple[Path, Path], now: datetime = NOW) -> tuple[str, str]:
    with pytest.raises(CertificateProblem) as told:
        load_pair(*files, now)
    return told.value.setting, str(told.value)


def test_an_expired_certificate_can_be_used(files: tuple[Path, Path]) -> None:
    assert load_pair(*files, NOW + timedelta(days=4000)).not_after < NOW + timedelta(days=4000)


def test_a_certificate_of_the_future_is_refused_with_its_date(files: tuple[Path, Path]) -> None:
    setting, words = refused(files, NOW - timedelta(days=1))
    assert (setting, words) == ("certificate", "is valid only from 2026-11-25 00:07 UTC on; is the clock right?")


def test_a_key_of_another_certificate_is_refused(files: tuple[Path, Path]) -> None:
    files[1].write_bytes(self_signed(["example.net"], NOW)[1])
    setting, words = refused(files)
    assert setting == "key" and words.startswith(f"is not the key of the certificate in {files[0]}")


@pytest.mark.parametrize("which", [0, 1])
def test_a_missing_file_is_told(files: tuple[Path, Path], which: int) -> None:
    files[which].unlink()
    assert refused(files) == (("certificate", "key")[which], "can't be read: No such file or directory")


@pytest.mark.parametrize("data", [b"", b"rubbish", b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"])
def test_rubbish_is_no_certificate_and_no_key(files: tuple[Path, Path], data: bytes) -> None:
    key = files[1].read_bytes()
    files[1].write_bytes(data)
    assert refused(files)[0] == "key" and "holds no private key" in refused(files)[1]
    files[1].write_bytes(key)
    files[0].write_bytes(data)
    assert refused(files)[0] == "certificate" and "holds no certificate" in refused(files)[1]


def test_the_two_files_swapped_are_told(files: tuple[Path, Path]) -> None:
    assert "holds no certificate" in refused((files[1], files[0]))[1]


def test_an_encrypted_key_is_refused(files: tuple[Path, Path]) -> None:
    key = serialization.load_pem_private_key(files[1].read_bytes(), password=None)
    files[1].write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.BestAvailableEncryption(b"secret"),
        )
    )
    assert refused(files)[0] == "key" and "is encrypted" in refused(files)[1]


def test_what_the_tls_library_will_not_serve_is_refused(tmp_path: Path) -> None:
    key = rsa.generate_private_key(65537, 1024)
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "mx.example.org")])
    builder = x509.CertificateBuilder(name, name, key.public_key(), 1, NOW, NOW + timedelta(days=1))
    certificate = builder.sign(key, hashes.SHA256())
    (tmp_path / "cert").write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    (tmp_path / "key").write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    setting, words = refused((tmp_path / "cert", tmp_path / "key"))
    assert setting == "certificate" and words == "can't be used by the TLS library: ee key too small"
