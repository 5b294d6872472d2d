"""What is read of certificates is what a whole library reads, and nothing that a peer sends breaks the reader."""

import hashlib
from datetime import UTC, datetime, timedelta

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import dsa, ec, ed448, ed25519, padding, rsa
from cryptography.hazmat.primitives.serialization import Encoding
from hypothesis import given
from hypothesis import strategies as st

from waypost.protocol.sasl.end_point import server_end_point
from waypost.protocol.x509 import first_certificate, read_certificate

RSA = rsa.generate_private_key(65537, 2048)
ECDSA = ec.generate_private_key(ec.SECP256R1())
NOW = datetime(2026, 11, 30, 12, 34, 56, tzinfo=UTC)


def made(key, algorithm, *, begins=NOW, days=90, names=("mx.example.org",), **options) -> x509.Certificate:
    name = x509.Name([x509.NameAttribute(x509.NameOID.ORGANIZATION_NAME, "long" * 200 if len(names) > 9 else "x")])
    return (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(begins)
        .not_valid_after(begins + timedelta(days=days))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(name) for name in names]), critical=False)
        .sign(key, algorithm, **options)
    )


def agrees(certificate: x509.Certificate) -> str | None:
    der = certificate.public_bytes(Encoding.DER)
    found = read_certificate(der)
    assert (found.der, found.begins, found.expires) == (
        der,
        certificate.not_valid_before_utc,
        certificate.not_valid_after_utc,
    )
    theirs = certificate.signature_hash_algorithm
    assert found.signature_hash == (theirs.name.replace("-", "_") if theirs else None)
    return found.signature_hash


SHA2 = [hashes.SHA224(), hashes.SHA256(), hashes.SHA384(), hashes.SHA512()]
SHA3 = [hashes.SHA3_224(), hashes.SHA3_256(), hashes.SHA3_384(), hashes.SHA3_512()]


@pytest.mark.parametrize("algorithm", SHA2 + SHA3, ids=lambda algorithm: algorithm.name)
def test_the_hash_of_each_signature_is_known(algorithm: hashes.HashAlgorithm) -> None:
    for key in (RSA, ECDSA):
        certificate = made(key, algorithm)
        name = agrees(certificate)
        der = certificate.public_bytes(Encoding.DER)
        assert name is not None and server_end_point(der) == hashlib.new(name, der).digest()
    if algorithm in SHA2:
        pss = padding.PSS(padding.MGF1(algorithm), padding.PSS.DIGEST_LENGTH)
        assert agrees(made(RSA, algorithm, rsa_padding=pss)) == algorithm.name


def test_dsa_has_a_hash_and_edwards_curves_have_none() -> None:
    assert agrees(made(dsa.generate_private_key(2048), hashes.SHA256())) == "sha256"
    assert agrees(made(ed25519.Ed25519PrivateKey.generate(), None)) is None
    assert agrees(made(ed448.Ed448PrivateKey.generate(), None)) is None


@pytest.mark.parametrize("oid", ["1.2.840.113549.1.1.4", "1.2.840.113549.1.1.5"], ids=["MD5", "SHA-1"])
def test_md5_and_sha1_give_way_to_sha256(oid: str) -> None:
    """A library of today signs with neither, so the name of the algorithm is changed; nobody checks the signature."""
    der = made(RSA, hashes.SHA256()).public_bytes(Encoding.DER)
    names = {number: b"\x06\x09" + bytes.fromhex("2a864886f70d0101") + bytes([number]) for number in (4, 5, 11)}
    changed = der.replace(names[11], names[int(oid[-1])])
    assert changed != der and server_end_point(changed) == hashlib.sha256(changed).digest()


@pytest.mark.parametrize("year", [1951, 1999, 2000, 2049, 2050, 2500])
def test_both_forms_of_time_are_read(year: int) -> None:
    agrees(made(ECDSA, hashes.SHA256(), begins=datetime(year, 2, 28, 23, 59, 59, tzinfo=UTC), days=2))


def test_long_fields_are_read() -> None:
    agrees(made(ECDSA, hashes.SHA256(), names=[f"mx{number}.{'long.' * 20}example.org" for number in range(900)]))


def test_the_first_certificate_of_a_chain_is_taken_whatever_stands_before_it() -> None:
    first, second = (made(ECDSA, hashes.SHA256()) for _ in range(2))
    pem = first.public_bytes(Encoding.PEM)
    for text in (pem, b"subject=CN = mx\n" + pem, pem.replace(b"\n", b"\r\n"), pem + b"junk\n"):
        chain = text + second.public_bytes(Encoding.PEM)
        assert first_certificate(chain) == first.public_bytes(Encoding.DER)
    for octets in (b"", b"no certificate", pem[: len(pem) // 2], pem.replace(b"M", b"=", 1)):
        with pytest.raises(ValueError):
            first_certificate(octets)


GOOD = made(ECDSA, hashes.SHA256()).public_bytes(Encoding.DER)


@given(
    st.binary(max_size=300)
    | st.tuples(st.integers(0, len(GOOD) - 1), st.binary(max_size=5)).map(
        lambda change: GOOD[: change[0]] + change[1] + GOOD[change[0] + len(change[1]) :]
    )
    | st.integers(0, len(GOOD)).map(lambda end: GOOD[:end])
)
def test_whatever_a_peer_sends_is_read_or_refused(octets: bytes) -> None:
    try:
        found = read_certificate(octets)
    except ValueError:
        return
    assert found.der == octets and found.begins.tzinfo is UTC


def test_what_no_list_of_numbers_ends_is_refused() -> None:
    for change in (b"\x06\x08" + b"\x80" * 8, b"\x06\x00"):
        algorithm = b"\x30" + bytes([len(change)]) + change
        period = b"\x30\x1e" + b"\x17\x0d260101000000Z" * 2
        fields = b"\x02\x01\x01" + algorithm + b"\x30\x00" + period
        whole = b"\x30" + bytes([len(fields)]) + fields + algorithm
        with pytest.raises(ValueError):
            read_certificate(b"\x30" + bytes([len(whole)]) + whole)
