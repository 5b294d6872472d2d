"""The channel binding tls-server-end-point: a hash of the server's certificate, known to both ends (RFC 5929)."""

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes


def server_end_point(certificate: x509.Certificate) -> bytes | None:
    """Return the hash of a certificate, made with the hash function of its signature (RFC 5929 4.1).

    SHA-256 replaces MD5 and SHA-1. The result is None where the signature algorithm names no hash function (Ed25519):
    the binding is then undefined.
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
