"""The channel binding tls-server-end-point: a hash of the server's certificate, known to both ends (RFC 5929)."""

import hashlib

from waypost.protocol.x509 import read_certificate

_WEAK = frozenset({"md5", "sha1"})


def server_end_point(der: bytes) -> bytes | None:
    """Return the hash of a certificate in DER, made with the hash function of its signature (RFC 5929 4.1).

    SHA-256 replaces MD5 and SHA-1. The result is None where the signature algorithm names no hash function (Ed25519):
    the binding is then undefined. Raises `ValueError` if the octets are not a certificate.
    """
    name = read_certificate(der).signature_hash
    if name is None:
        return None
    return hashlib.new("sha256" if name in _WEAK else name, der).digest()
