"""The decisions in which submission and reception differ: the session asks, their policies answer.

The session handles the protocol, and the acceptance handles storage. A policy only decides whether a message is
accepted, and what is changed in it.
"""

from typing import Protocol

import msgspec

from waypost.delivery.resolve import Resolution
from waypost.intake.client import Client
from waypost.intake.transaction import Admitted, Transaction
from waypost.message.envelope import Envelope, Recipient
from waypost.message.headers import HeaderBlock
from waypost.message.trace import Micros, TraceId
from waypost.protocol.reply import Reply
from waypost.protocol.smtp import replies


class Arrived(msgspec.Struct, frozen=True):
    """A message that has arrived whole: its header, its recipients (in LMTP only those that have room), its trace id,
    and the time of its arrival."""

    headers: HeaderBlock
    admitted: tuple[Admitted, ...]
    trace: TraceId
    now: Micros


class Examined(msgspec.Struct, frozen=True):
    """The acceptance of a message: the header to store instead of the one that came, and the envelope to use, without
    recipients."""

    header: bytes
    envelope: Envelope
    message_id: str | None


class Judge(Protocol):
    """Decides on one transaction, from its first recipient on. Each method may raise `StorageError`, which the session
    answers. Results other than the answer are recorded in the transaction."""

    async def recipient(self, transaction: Transaction, recipient: Recipient) -> Reply | Admitted:
        """Answer RCPT: a refusal, or the recipient with where it leads."""
        ...

    async def examine(self, transaction: Transaction, arrived: Arrived) -> Reply | Examined:
        """Examine a message that has arrived; return a refusal, or what to store. It may change its recipients, and
        refuse some of them."""
        ...


class Policy(Protocol):
    """Decides for one kind of listener, and makes a transaction for each message. Methods may raise `StorageError`."""

    def hello(self, client: Client) -> Reply:
        """Answer EHLO, HELO or LHLO; `client.helo` is the name that was given."""
        ...

    async def mail(self, client: Client, envelope: Envelope) -> Reply | Transaction:
        """Answer MAIL, by a refusal or by a transaction, which the session then ends; the envelope has no recipients
        yet. A policy that makes a transaction and does not return it must end it."""
        ...


def admit(recipient: Recipient, found: Resolution) -> Reply | Admitted:
    """Return the answer to RCPT for one of our addresses: an unknown one is refused now, not bounced later."""
    if found.somebody:
        return Admitted(recipient, found)
    if found.full:
        return replies.MAILBOX_FULL
    return replies.MAILBOX_DISABLED if found.disabled else replies.NO_SUCH_USER
