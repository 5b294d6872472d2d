"""Mailboxes: delivered messages and how they are read, in the data model that IMAP needs (RFC 9051, RFC 7162).

A mailbox has a UIDVALIDITY; each message in it a UID that only grows, a MODSEQ, flags and keywords, an
internal date. The bytes of a message are its `head` (Return-Path, Delivered-To) and then the shared bytes.
"""

from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from typing import Protocol

import msgspec

from waypost.message.trace import Micros, TraceId
from waypost.protocol.canonical import PLAIN, ContentForm
from waypost.storage.directory import AccountVersion
from waypost.storage.spool import StoredMessage


@dataclass(frozen=True, slots=True)
class Mailbox:
    """A mailbox of an account; `INBOX` exists from the account's first day."""

    id: int
    account: int
    name: str
    uidvalidity: int
    uidnext: int
    highest_modseq: int


class MailboxMessage(msgspec.Struct, frozen=True):
    """One message in a mailbox, without its bytes. `size` counts the octets that are stored, head included.

    `form` says how they differ from what every POP3 client can take. `head` is the head if it holds octets outside
    ASCII, and empty otherwise.
    """

    mailbox: int
    uid: int
    trace: TraceId
    size: int
    internal_date: Micros
    modseq: int
    flags: frozenset[str]
    form: ContentForm = PLAIN
    head: bytes = b""


class MailboxLock(Protocol):
    """The exclusive lock of a session on a mailbox (RFC 1939 section 4). It ends with its process at the latest."""

    def release(self) -> None:
        """Release the lock; may be called twice."""
        ...


class Mailboxes(Protocol):
    """Reads and changes mailboxes. Deliveries go through `Spool.accept`, in the message's own commit."""

    async def all(self, account: int) -> list[Mailbox]:
        """Return the mailboxes of an account, by name."""
        ...

    async def get(self, account: int, name: str = "INBOX") -> Mailbox:
        """Return a mailbox; INBOX is found in any case. Raises `NotFound`."""
        ...

    async def create(self, account: int, name: str) -> Mailbox:
        """Make a mailbox, with a UIDVALIDITY never used before under its name. Raises `Conflict`."""
        ...

    def pages(self, mailbox: int, *, after: int = 0) -> AsyncIterator[Sequence[MailboxMessage]]:
        """Yield the messages after a UID, by UID, in pages; between two pages, other operations have a turn.

        Messages that are delivered meanwhile may be among the last ones; messages that are removed may be missing.
        """
        ...

    async def messages(self, mailbox: int) -> list[MailboxMessage]:
        """Return all messages, by UID, read in pages."""
        ...

    async def open(self, mailbox: int, uid: int) -> StoredMessage:
        """Open the bytes of a message: its head, then the shared bytes. Raises `NotFound`."""
        ...

    async def set_flags(self, mailbox: int, uids: Sequence[int], flags: frozenset[str]) -> None:
        """Replace flags and keywords; MODSEQ grows."""
        ...

    async def expunge(self, mailbox: int, uids: Sequence[int], login: AccountVersion | None = None) -> int:
        """Remove messages; their bytes are removed when nothing else needs them. Return how many were removed.

        Raises `AccountChanged` when the account of `login` has changed since the login.
        """
        ...

    async def lock(self, mailbox: int) -> MailboxLock:
        """Lock a mailbox against exclusive sessions in any process. Deliveries go on. Raises `Conflict`."""
        ...

    async def usage(self, account: int) -> int:
        """Return the octets stored in all mailboxes of an account."""
        ...
