"""Intake: what both ways in do alike, from the connection's first octet to the commit of a message."""

from waypost.intake.acceptance import Acceptance, Arrival
from waypost.intake.client import Client
from waypost.intake.options import server_options
from waypost.intake.policy import Admitted, Examined, Policy
from waypost.intake.session import SmtpSession

__all__ = [
    "Acceptance",
    "Admitted",
    "Arrival",
    "Client",
    "Examined",
    "Policy",
    "SmtpSession",
    "server_options",
]
