"""Certificates: a self-signed one for a new host, and whether a certificate and key from files can be used.

RFC 5280 is the form, RFC 9525 says which names count. Only PEM files are read, as `ssl` does.
"""

import ssl
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey
from cryptography.hazmat.primitives.asymmetric.rsa import generate_private_key as generate_rsa_key
from cryptography.hazmat.primitives.asymmetric.types import PrivateKeyTypes
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

_SELF_SIGNED_DAYS = 3650
_LONGEST_COMMON_NAME = 64  # RFC 5280 appendix A.1, ub-common-name


@dataclass(frozen=True, slots=True)
class Pair:
    """What a usable certificate says: its DNS names and until when it is valid."""

    names: tuple[str, ...]
    not_after: datetime
    self_signed: bool
    rsa: bool
    """The key is an RSA key, which every peer can use."""

    def covers(self, hostname: str) -> bool:
        """True when the certificate is good for a host name (A-labels), by its name or a wildcard."""
        wildcard = "*." + hostname.partition(".")[2]
        return any(name.lower() in (hostname, wildcard) for name in self.names)


class CertificateProblem(Exception):
    """A certificate or key can't be used; `setting` is `certificate` or `key`, the message plain words."""

    def __init__(self, setting: str, words: str) -> None:
        super().__init__(words)
        self.setting = setting


def self_signed(names: Sequence[str], now: datetime, *, rsa: bool = False) -> tuple[bytes, bytes]:
    """Return the PEM of a certificate for DNS names (A-labels), signed by its own key, and of that key.

    The key is ECDSA P-256, or RSA of 2048 bits.
    """
    key: ec.EllipticCurvePrivateKey | RSAPrivateKey = (
        generate_rsa_key(65537, 2048) if rsa else ec.generate_private_key(ec.SECP256R1())
    )
    common = [x509.NameAttribute(NameOID.COMMON_NAME, names[0])] if len(names[0]) <= _LONGEST_COMMON_NAME else []
    subject = x509.Name(common)
    public = key.public_key()
    identifier = x509.SubjectKeyIdentifier.from_public_key(public)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(public)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(hours=1))  # clocks of others may be behind
        .not_valid_after(now + timedelta(days=_SELF_SIGNED_DAYS))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(name) for name in names]), critical=not common)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        .add_extension(identifier, critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(identifier), critical=False)
        .sign(key, hashes.SHA256())
    )
    pem = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    return certificate.public_bytes(serialization.Encoding.PEM), pem


def load_pair(certificate: Path, key: Path, now: datetime) -> Pair:
    """Read a certificate (its chain may follow it) and its key, and check that they can be used at `now`.

    One that has expired can: other servers take it, and a reload does. Raises `CertificateProblem`.
    """
    first = _certificate(certificate)
    private = _key(key)
    if not _fit(first, private):
        raise CertificateProblem("key", f"is not the key of the certificate in {certificate}; write the one that is")
    if now < first.not_valid_before_utc:
        raise CertificateProblem(
            "certificate", f"is valid only from {first.not_valid_before_utc:%Y-%m-%d %H:%M} UTC on; is the clock right?"
        )
    _try_as_server(certificate, key)
    return Pair(
        _names(first), first.not_valid_after_utc, first.subject == first.issuer, isinstance(private, RSAPrivateKey)
    )


def _certificate(path: Path) -> x509.Certificate:
    try:
        return x509.load_pem_x509_certificates(path.read_bytes())[0]
    except OSError as error:
        raise CertificateProblem("certificate", f"can't be read: {error.strerror}") from None
    except ValueError:
        raise CertificateProblem(
            "certificate", "holds no certificate; write a PEM file: the certificate, then its chain"
        ) from None


def _key(path: Path) -> PrivateKeyTypes:
    try:
        return serialization.load_pem_private_key(path.read_bytes(), password=None)
    except OSError as error:
        raise CertificateProblem("key", f"can't be read: {error.strerror}") from None
    except TypeError:
        raise CertificateProblem(
            "key", "is encrypted; write the key without a passphrase, readable by root alone"
        ) from None
    except (ValueError, UnsupportedAlgorithm):
        raise CertificateProblem("key", "holds no private key; write a PEM file with the certificate's key") from None


def _fit(certificate: x509.Certificate, key: PrivateKeyTypes) -> bool:
    try:
        return key.public_key() == certificate.public_key()
    except (ValueError, UnsupportedAlgorithm):
        raise CertificateProblem(
            "certificate", "has a key of an unknown kind; get one with an ECDSA or RSA key"
        ) from None


def _try_as_server(certificate: Path, key: Path) -> None:
    """Load both as the service does: the TLS library has rules of its own, for example about short keys."""
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(certificate, key)
    except ssl.SSLError as error:
        reason = (error.reason or str(error)).replace("_", " ").lower()
        raise CertificateProblem("certificate", f"can't be used by the TLS library: {reason}") from None


def _names(certificate: x509.Certificate) -> tuple[str, ...]:
    try:
        extension = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName)
    except (x509.ExtensionNotFound, ValueError):
        return ()
    return tuple(extension.value.get_values_for_type(x509.DNSName))
