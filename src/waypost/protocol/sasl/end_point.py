"""The channel binding tls-server-end-point: what both ends of a TLS connection know of its certificate (RFC 5929)."""

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes


def server_end_point(certificate: x509.Certificate) -> bytes | None:
    """Return the hash of a certificate by the hash of its signature (RFC 5929 4.1).

    MD5 and SHA-1 give way to SHA-256; None where the signature has no hash of its own (Ed25519), which leaves the
    binding undefined.
    """
    try:
        algorithm = certificate.signature_hash_algorithm
    except UnsupportedAlgorithm:
        return None
    if algorithm is None:
        return None
    if isinstance(algorithm, hashes.MD5 | hashes.SHA1):
        algorithm = hashes.SHA256()
    return certificate.fingerprint(algorithm)
