"""What a way into the house decides for itself: the session asks, submission and reception answer.

The session keeps the protocol, the acceptance keeps the storage; a policy only says whether, and what to change.
"""

from typing import Protocol

import msgspec

from waypost.delivery.resolve import Reached
from waypost.intake.client import Client
from waypost.message.envelope import Envelope, Recipient
from waypost.message.headers import HeaderBlock
from waypost.message.trace import Micros, TraceId
from waypost.protocol.reply import Reply
from waypost.protocol.smtp import replies


class Admitted(msgspec.Struct, frozen=True):
    """A recipient is taken. `reached` is where an address of ours leads, None for an address elsewhere."""

    reached: Reached | None


class Examined(msgspec.Struct, frozen=True):
    """A message is taken: the header to store instead of the one that came, and the envelope that it goes by."""

    header: bytes
    envelope: Envelope
    message_id: str | None


class Policy(Protocol):
    """Decides for one way in. Each method may raise `StorageError`, which the session answers."""

    def hello(self, client: Client) -> Reply:
        """Answer EHLO, HELO or LHLO; `client.helo` is the name that was given."""
        ...

    async def mail(self, client: Client, envelope: Envelope) -> Reply:
        """Answer MAIL; the envelope has no recipients yet."""
        ...

    async def recipient(self, client: Client, envelope: Envelope, recipient: Recipient) -> Reply | Admitted:
        """Answer RCPT: a refusal, or where the recipient leads."""
        ...

    async def examine(
        self, client: Client, envelope: Envelope, headers: HeaderBlock, trace: TraceId, now: Micros
    ) -> Reply | Examined:
        """Look at a message that has arrived: a refusal, or what to store. `envelope` has its accepted recipients."""
        ...

    async def withdraw(self, client: Client, envelope: Envelope, now: Micros) -> None:
        """A message that `examine` let through at `now` was not stored after all: undo what was counted."""
        ...


def admit(found: Reached) -> Reply | Admitted:
    """Return the answer to RCPT for an address of ours: nobody unknown is taken, so that nobody is bounced later."""
    if found.somebody:
        return Admitted(found)
    if found.full:
        return replies.MAILBOX_FULL
    return replies.MAILBOX_DISABLED if found.disabled else replies.NO_SUCH_USER
