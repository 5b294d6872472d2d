"""Spool: message bytes on their way in, and the one commit that makes a message durable.

A message is stored once, whatever its number of recipients, and never rewritten.
"""

from collections.abc import AsyncIterator, Hashable, Sequence
from typing import Protocol

import msgspec

from waypost.journal import Event
from waypost.message.envelope import Envelope, Recipient
from waypost.message.trace import Micros, TraceId
from waypost.storage.directory import AccountVersion
from waypost.storage.spending import Expense


class Body(Protocol):
    """Message bytes while they arrive: with us up to a threshold, past it on their way to where they will be kept."""

    @property
    def size(self) -> int:
        """Octets written so far."""
        ...

    async def write(self, data: bytes) -> None:
        """Append octets. Raises `StorageFull`, `StorageError`."""
        ...

    async def spill(self) -> None:
        """Send what is with us on its way now, below the threshold, too. Raises `StorageFull`, `StorageError`."""
        ...

    def discard(self) -> None:
        """Forget the bytes and what they take up; may be called twice, after `Spool.accept`, and while it is on its way
        (what it commits stays whole).
        """
        ...


class MailboxDelivery(msgspec.Struct, frozen=True):
    """Put the message into a mailbox. `head` is in front of the shared bytes (Return-Path, Delivered-To)."""

    mailbox: int
    head: bytes
    flags: frozenset[str] = frozenset()


class NewEntry(msgspec.Struct, frozen=True):
    """One queue entry: this message to one destination (a domain key, `Address.domain_key`).

    Its sender wants nobody to try it before `not_before` (RFC 4865), whatever an operator or a wrong clock says.
    """

    destination: str
    recipients: tuple[Recipient, ...]
    next_attempt: Micros
    priority: int = 0
    not_before: Micros = 0


class NewMessage(msgspec.Struct, frozen=True):
    """Everything that one acceptance writes. `head` goes in front of the body: Received, added fields.

    `account` is the address of the logged-in submitter, or None; `login` is that account as it was at the login: when
    it has changed since, nothing is stored. `expense` is what the message costs it. Deliveries and entries may both be
    empty only when the message is discarded on purpose: then only the journal tells of it.
    """

    trace: TraceId
    received_at: Micros
    envelope: Envelope  # recipients empty: they stand in the entries
    head: bytes
    body: Body
    message_id: str | None = None  # the Message-ID header field, for `waypost trace`
    account: str | None = None
    deliveries: tuple[MailboxDelivery, ...] = ()
    entries: tuple[NewEntry, ...] = ()
    events: tuple[Event, ...] = ()
    login: AccountVersion | None = None
    expense: Expense | None = None


class StoredMessage(Protocol):
    """A message that is stored: its size and its octets, read in pieces."""

    @property
    def size(self) -> int:
        """Octets, with the head."""
        ...

    async def read(self, start: int, length: int) -> bytes:
        """Return octets [start, start+length), fewer at the end. Raises `StorageError` when damaged."""
        ...

    def chunks(self, chunk_size: int = 65536) -> AsyncIterator[bytes]:
        """Yield all octets in order."""
        ...


class Spool(Protocol):
    """Takes messages in, durably, and reads them back."""

    def new_body(self) -> Body:
        """Return an empty body."""
        ...

    def expect(self, source: Hashable) -> None:
        """A message may soon come from this source (a session, say): others may wait some milliseconds to share its
        commit. It is expected anew with each call, and never for long.
        """
        ...

    def expect_no_more(self, source: Hashable) -> None:
        """None will come from this source, or it is accepted in this very turn of the loop; any number of calls."""
        ...

    async def accept(self, message: NewMessage, reports: Sequence[NewMessage] = ()) -> None:
        """Store bytes, envelope, entries, deliveries and events in one group commit, with the `reports` (success
        DSNs of RFC 3461) that its delivery causes.

        Returns when all is durable. Raises `LimitReached` when the account may not spend the `expense`, `StorageFull`
        or `StorageError` (`AccountChanged`, when the account of `message.login` is not as it was): then nothing is
        stored, and nothing counted.
        """
        ...

    async def open(self, trace: TraceId, hint: object = None) -> StoredMessage:
        """Open a stored message, without any mailbox head. `hint` is that of its `QueueEntry`. Raises `NotFound`."""
        ...
