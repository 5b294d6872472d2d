"""Decides whether a server is the right one: by certificate authorities, or by a certificate that the user gave.

Python can check the name in a certificate only during the handshake, when it is not known yet which certificate comes;
but a certificate that the user gave needs no matching name. So the name is checked here, after the handshake and before
anything is sent.
"""

import ssl
from ipaddress import ip_address
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from waypost.client.errors import ClientError

UNSAFE = (
    "--insecure: the server's certificate is NOT checked. "
    "Anybody between you and the server can read the mail and the password."
)


class Trust:
    """Checks certificates. `ca` is a PEM file that is trusted in addition to the system's authorities."""

    def __init__(self, *, ca: Path | None = None, insecure: bool = False) -> None:
        self.context = ssl.create_default_context()
        self.context.check_hostname = False  # see `check`
        self.insecure = insecure
        self._given: frozenset[bytes] = frozenset()
        if insecure:
            self.context.verify_mode = ssl.CERT_NONE
        elif ca is not None:
            self._trust(ca)

    def _trust(self, path: Path) -> None:
        try:
            pem = path.read_bytes()
            certificates = x509.load_pem_x509_certificates(pem)
            self.context.load_verify_locations(cadata=pem.decode("ascii", "replace"))
        except OSError as error:
            raise ClientError(f"{path}: {error.strerror}") from None
        except (ValueError, ssl.SSLError):
            raise ClientError(f"{path}: it holds no certificate in PEM form") from None
        self.context.verify_flags |= ssl.VerifyFlags.VERIFY_X509_PARTIAL_CHAIN  # it needs no issuer
        self._given = frozenset(_der(certificate) for certificate in certificates)

    def check(self, certificate: x509.Certificate, host: str) -> None:
        """Check that the certificate of a finished handshake is that of `host`. Raises `ClientError`."""
        if self.insecure or _der(certificate) in self._given or is_certificate_of(certificate, host):
            return
        raise ClientError(f"the server's certificate is not that of {host}, but of {', '.join(_names(certificate))}")


def is_certificate_of(certificate: x509.Certificate, host: str) -> bool:
    """True when a subject alternative name is the host's: its IP address, or its name in A-labels (RFC 9525 6)."""
    names = _alternative_names(certificate)
    if names is None:
        return False
    try:
        return ip_address(host) in names.get_values_for_type(x509.IPAddress)
    except ValueError:
        wanted = host.lower().rstrip(".")
    parent = wanted.partition(".")[2]
    for name in names.get_values_for_type(x509.DNSName):
        presented = name.lower().rstrip(".")
        if presented == wanted:
            return True
        if presented.startswith("*.") and "." in parent and presented[2:] == parent:  # RFC 9525 6.3: one whole label
            return True
    return False


def _alternative_names(certificate: x509.Certificate) -> x509.SubjectAlternativeName | None:
    try:
        return certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except (x509.ExtensionNotFound, ValueError):  # ValueError: the extension can't be read
        return None


def _names(certificate: x509.Certificate) -> list[str]:
    names = _alternative_names(certificate)
    if names is None:
        return ["no host"]
    return [*names.get_values_for_type(x509.DNSName), *map(str, names.get_values_for_type(x509.IPAddress))][:5]


def _der(certificate: x509.Certificate) -> bytes:
    return certificate.public_bytes(Encoding.DER)
