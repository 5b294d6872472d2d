"""What a way into the house decides for itself: the session asks, submission and reception answer.

The session keeps the protocol, the acceptance keeps the storage; a policy only says whether, and what to change.
"""

from typing import Protocol

import msgspec

from waypost.delivery.resolve import Reached
from waypost.intake.client import Client
from waypost.intake.transaction import Admitted, Transaction
from waypost.message.envelope import Envelope, Recipient
from waypost.message.headers import HeaderBlock
from waypost.message.trace import Micros, TraceId
from waypost.protocol.reply import Reply
from waypost.protocol.smtp import replies


class Arrived(msgspec.Struct, frozen=True):
    """A message that has arrived whole: its header, whom it is for (in LMTP only those who have room), its trace id,
    and when it came."""

    headers: HeaderBlock
    admitted: tuple[Admitted, ...]
    trace: TraceId
    now: Micros


class Examined(msgspec.Struct, frozen=True):
    """A message is taken: the header to store instead of the one that came, and the envelope that it goes by, without
    recipients."""

    header: bytes
    envelope: Envelope
    message_id: str | None


class Judge(Protocol):
    """Decides on one transaction, from its first recipient on. Each method may raise `StorageError`, which the session
    answers. What it finds and decides beside its answer, it tells the transaction."""

    async def recipient(self, transaction: Transaction, recipient: Recipient) -> Reply | Admitted:
        """Answer RCPT: a refusal, or the recipient with where it leads."""
        ...

    async def examine(self, transaction: Transaction, arrived: Arrived) -> Reply | Examined:
        """Look at a message that has arrived: a refusal, or what to store. It may change the recipients that arrived,
        and refuse some of them."""
        ...


class Policy(Protocol):
    """Decides for one way in, and makes a transaction for each message. Methods may raise `StorageError`."""

    def hello(self, client: Client) -> Reply:
        """Answer EHLO, HELO or LHLO; `client.helo` is the name that was given."""
        ...

    async def mail(self, client: Client, envelope: Envelope) -> Reply | Transaction:
        """Answer MAIL, by a refusal or by a transaction, which the session then ends; the envelope has no recipients
        yet. A transaction that is made and not returned is for the policy to end."""
        ...


def admit(recipient: Recipient, found: Reached) -> Reply | Admitted:
    """Return the answer to RCPT for an address of ours: nobody unknown is taken, so that nobody is bounced later."""
    if found.somebody:
        return Admitted(recipient, found)
    if found.full:
        return replies.MAILBOX_FULL
    return replies.MAILBOX_DISABLED if found.disabled else replies.NO_SUCH_USER
