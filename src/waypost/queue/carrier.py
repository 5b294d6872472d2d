"""The contract between queue (decides when) and transport (decides how).

The queue owns a destination and hands the carrier a source of its due entries; the carrier opens as many
connections as it may, takes entries, and reports each attempt. Neither knows how the other works.
"""

from collections.abc import Awaitable
from enum import StrEnum
from typing import Protocol

import msgspec
from msgspec import UNSET, UnsetType
from msgspec.structs import replace

from waypost.message.envelope import Recipient
from waypost.message.reply import Reply
from waypost.message.trace import Micros
from waypost.storage.queue import Pacing, QueueEntry
from waypost.storage.spool import MailboxDelivery, NewEntry


class Fate(StrEnum):
    """What became of one recipient in one attempt."""

    DELIVERED = "delivered"  # it is in a mailbox here
    RELAYED = "relayed"  # the next hop took it
    FORWARDED = "forwarded"  # an alias here leads to one address elsewhere: it has an entry of its own now
    EXPANDED = "expanded"  # an alias here leads to several addresses: each has the message or an entry
    DEFERRED = "deferred"  # a temporary failure: try again by the schedule
    FAILED = "failed"  # a permanent failure: return it


class RecipientResult(msgspec.Struct, frozen=True):
    """The outcome for one recipient, with the peer's reply if a peer answered.

    `status` is an RFC 3463 code ("5.1.1"). `reply` is what the peer said, None where no peer answered; `problem` then
    says in plain words what went wrong ("no mail server answered"). `mailboxes` are the addresses of the accounts here
    that have it now.
    """

    recipient: Recipient
    fate: Fate
    status: str
    reply: Reply | None = None
    problem: str | None = None
    mailboxes: tuple[str, ...] = ()

    @property
    def words(self) -> str:
        """Why it came to this, in one line."""
        return str(self.reply) if self.reply is not None else self.problem or self.status


class AttemptResult(msgspec.Struct, frozen=True):
    """One attempt of one entry: every recipient has a result.

    `dsn_passed_on`: the next hop offers DSN and got the parameters, so it reports success.
    `deadline_passed_on`: the same for DELIVERBY. `deliveries` and `forwards` are written in the same commit (entries of
    a hosted domain). `note` says what is wrong with the way to the server, though it was used. `keeps` is the source
    that the entry has from now on (None: the system chooses; unset: the one that it has), `moved` says why that is
    another one than before.
    """

    entry: QueueEntry
    started: Micros
    ended: Micros
    results: tuple[RecipientResult, ...]
    host: str | None = None  # name of the server that answered last
    address: str | None = None  # its IP address and port
    source: str | None = None  # our IP address
    tls: str | None = None  # "TLSv1.3 verified", "TLSv1.3 unverified", None: plain text
    dsn_passed_on: bool = False
    deadline_passed_on: bool = False
    deliveries: tuple[MailboxDelivery, ...] = ()
    forwards: tuple[NewEntry, ...] = ()
    note: str | None = None
    keeps: str | UnsetType | None = UNSET
    moved: str | None = None


class DestinationFailure(msgspec.Struct, frozen=True):
    """The destination as a whole failed, not a message: the failure of one attempt counts for every due entry.

    `attempt` is that attempt, with a result for each of its recipients. The rest says why: `reply` is a server's reply
    to the connection, `problem` what went wrong if no server answered. `permanent`: mail for it is returned.
    """

    attempt: AttemptResult
    status: str
    reply: Reply | None = None
    problem: str | None = None
    permanent: bool = False

    @property
    def words(self) -> str:
        """Why, in one line."""
        return str(self.reply) if self.reply is not None else self.problem or self.status

    def of(self, entry: QueueEntry) -> AttemptResult:
        """Return the result of an entry for which the failure counts; only one of them was tried."""
        if entry.id == self.attempt.entry.id:
            return replace(self.attempt, entry=entry)
        fate = Fate.FAILED if self.permanent else Fate.DEFERRED
        results = tuple(
            RecipientResult(recipient, fate, self.status, self.reply, self.problem) for recipient in entry.recipients
        )
        return replace(self.attempt, entry=entry, results=results, keeps=UNSET, moved=None)


class EntrySource(Protocol):
    """Due entries of one destination, best first. Safe to use from several tasks of one loop."""

    async def take(self, wait: float) -> QueueEntry | None:
        """Return the next due entry, waiting up to `wait` seconds for one; None when no entry is due by then."""
        ...

    def report(self, result: AttemptResult) -> Awaitable[object]:
        """Report an attempt, at once; await the result of this call to know that the outcome is durable.

        If that wait is cancelled, the outcome is still written.
        """
        ...

    def give_back(self, entry: QueueEntry) -> None:
        """Return an entry untried (the connection broke before its turn); it stays due."""
        ...


class CarryResult(msgspec.Struct, frozen=True):
    """How a carrier leaves a destination: it is not tried again before `not_before` (0: at once).

    `failure` is set when the destination as a whole failed last: the queue counts it for all due entries, without
    trying them, and the carrier does not report the entry of that attempt. `pacing` says how the destination is paced
    from each source.
    """

    not_before: Micros = 0
    failure: DestinationFailure | None = None
    pacing: tuple[Pacing, ...] = ()


class Carrier(Protocol):
    """Moves the entries of a destination to where they belong."""

    async def carry(self, destination: str, source: EntrySource) -> CarryResult:
        """Work until the source is empty, or the destination must be left alone for a while.

        Never raises for errors of peers or DNS; every entry taken was reported, given back, or is in the failure.
        """
        ...
