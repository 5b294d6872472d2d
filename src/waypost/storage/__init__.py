"""Storage: the interfaces to messages, queue, mailboxes and accounts.

`storage/engine` opens the engine that the settings choose; one test suite runs over each.
"""

from dataclasses import dataclass

from waypost.journal import Event
from waypost.storage.bus import Bus, Notice, Watchers
from waypost.storage.directory import Account, AccountVersion, Alias, Credentials, Directory, Spending
from waypost.storage.errors import AccountChanged, Conflict, Damaged, NotFound, StorageError, StorageFull, Unfit
from waypost.storage.journal import Journal
from waypost.storage.mailboxes import Mailbox, Mailboxes, MailboxLock, MailboxMessage
from waypost.storage.networks import KnownNetworks
from waypost.storage.queue import (
    Deferral,
    DestinationStats,
    EntryId,
    EntryState,
    FailedRound,
    Filter,
    Lease,
    Outcome,
    Pacing,
    PlannedAttempt,
    PlannedPage,
    Queue,
    QueueEntry,
    QueueStats,
    Replanned,
)
from waypost.storage.spending import Expense, LimitReached
from waypost.storage.spool import Body, MailboxDelivery, NewEntry, NewMessage, Spool, StoredMessage

__all__ = [
    "Account",
    "AccountChanged",
    "AccountVersion",
    "Alias",
    "Body",
    "Bus",
    "Conflict",
    "Credentials",
    "Damaged",
    "Deferral",
    "DestinationStats",
    "Directory",
    "EntryId",
    "EntryState",
    "Event",
    "Expense",
    "FailedRound",
    "Filter",
    "Journal",
    "KnownNetworks",
    "Lease",
    "LimitReached",
    "Mailbox",
    "MailboxDelivery",
    "MailboxLock",
    "MailboxMessage",
    "Mailboxes",
    "NewEntry",
    "NewMessage",
    "NotFound",
    "Notice",
    "Outcome",
    "Pacing",
    "PlannedAttempt",
    "PlannedPage",
    "Queue",
    "QueueEntry",
    "QueueStats",
    "Replanned",
    "Spending",
    "Spool",
    "Storage",
    "StorageError",
    "StorageFull",
    "StoredMessage",
    "Unfit",
    "Watchers",
]


@dataclass(frozen=True, slots=True)
class Storage:
    """The parts of one engine, handed around together."""

    spool: Spool
    queue: Queue
    mailboxes: Mailboxes
    directory: Directory
    networks: KnownNetworks
    journal: Journal
