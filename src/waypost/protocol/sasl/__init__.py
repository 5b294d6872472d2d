"""SASL mechanisms, client and server side, sans-IO (RFC 4422)."""

from waypost.protocol.sasl.client import LoginClient, PlainClient, ScramClient, choose
from waypost.protocol.sasl.prep import PreparationError, saslprep
from waypost.protocol.sasl.scram import SaslError

__all__ = [
    "LoginClient",
    "PlainClient",
    "PreparationError",
    "SaslError",
    "ScramClient",
    "choose",
    "saslprep",
]
