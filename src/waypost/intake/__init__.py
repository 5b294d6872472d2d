"""Intake: the work that submission and reception share, from a connection's first octet to a message's commit."""

from waypost.intake.acceptance import Acceptance
from waypost.intake.client import Client
from waypost.intake.options import server_options
from waypost.intake.policy import Arrived, Examined, Judge, Policy, admit
from waypost.intake.session import SmtpSession
from waypost.intake.tasks import ReplyDelay, TransactionTasks
from waypost.intake.transaction import Admitted, Transaction, TransactionEnd
from waypost.message.verdict import Verdict

__all__ = [
    "Acceptance",
    "Admitted",
    "Arrived",
    "Client",
    "Examined",
    "Judge",
    "Policy",
    "ReplyDelay",
    "SmtpSession",
    "Transaction",
    "TransactionEnd",
    "TransactionTasks",
    "Verdict",
    "admit",
    "server_options",
]
