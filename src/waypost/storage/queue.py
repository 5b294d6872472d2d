"""Queue: a durable index of what is still to be relayed. A worker holds the entries in flight, not the waiting ones.

One entry is one message for one destination. A *destination* is owned by one worker at a time: it alone
attempts that destination's entries, so its limits hold exactly and its connections are reused. Entries
stay `ready` in storage while they are attempted; after a crash they are simply due again.
"""

from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Protocol

import msgspec

from waypost.journal import Event
from waypost.message.address import Address
from waypost.message.envelope import Envelope, Recipient
from waypost.message.trace import Micros, TraceId
from waypost.storage.spool import MailboxDelivery, NewEntry, NewMessage

EntryId = int


class EntryState(StrEnum):
    """READY entries are attempted when due; HELD ones wait for an operator."""

    READY = "ready"
    HELD = "held"


class Lease(msgspec.Struct, frozen=True):
    """A worker's hold on a destination, from one claim on. No two claims have the same `epoch`, and later ones have
    larger ones: whoever was thought dead and writes under an old lease is told from the owner.
    """

    destination: str
    epoch: int


class QueueEntry(msgspec.Struct, frozen=True):
    """One message for one destination, as it waits.

    `waited` is the age that counts for notices and expiry: it grows at each attempt by the time since the
    last one, but never by more than the schedule explains, so that a jump of the clock expires no mail.
    `next_attempt` is when to look at it again (retry, delayed notice or expiry, whichever is first).
    """

    id: EntryId
    trace: TraceId
    destination: str
    recipients: tuple[Recipient, ...]
    state: EntryState
    priority: int
    queued_at: Micros
    next_attempt: Micros
    last_attempt: Micros | None  # None before the first
    attempts: int
    waited: Micros
    delay_notified: bool
    last_error: str | None
    envelope: Envelope  # without recipients
    size: int  # octets of the message
    account: str | None
    source: str | None = None
    """From which of our addresses it was tried last, and will be tried again; None before, and where the system
    chooses."""
    damage: str | None = None
    """What of it can't be read; the rest of this is empty then, and the entry is for a person to decide on."""
    not_before: Micros = 0
    """Before this nobody tries it: its sender holds it back (RFC 4865)."""
    lease: Lease | None = None
    """The lease under which it was handed out; None for who only looks."""
    hint: object = None
    """Opaque: what this read has seen of the message, which saves `Spool.open` a look."""


class Deferral(msgspec.Struct, frozen=True):
    """The entry stays for `remaining` recipients and is due again at `next_attempt`."""

    remaining: tuple[Recipient, ...]
    next_attempt: Micros
    waited: Micros
    attempts: int
    last_attempt: Micros
    last_error: str
    delay_notified: bool
    source: str | None = None


class Outcome(msgspec.Struct, frozen=True):
    """What one attempt changes, written in one commit: the entry, its events, the reports it caused,
    and, for recipients of a hosted domain, the mailboxes and further destinations that the message goes to.

    `deferral` None: the entry is finished and goes, and its message with it when nothing else needs it.
    `lease` is that of the attempt; None is an operator's word, which holds whoever owns the destination. `relayed`: the
    next hop took the message for everybody, and nobody is told: such an entry goes under a lost lease, too, since what
    was sent must not be sent again.
    """

    entry: EntryId
    trace: TraceId
    lease: Lease | None
    relayed: bool = False
    deferral: Deferral | None = None
    events: tuple[Event, ...] = ()
    reports: tuple[NewMessage, ...] = ()
    deliveries: tuple[MailboxDelivery, ...] = ()
    forwards: tuple[NewEntry, ...] = ()

    @property
    def late_events(self) -> list[Event]:
        """The events that are stored even if the outcome comes too late, because the entry or the lease is gone: those
        about what a peer did."""
        return [event for event in self.events if event.details.of_peer]


@dataclass(frozen=True, slots=True)
class Filter:
    """Which entries an operator means; all that are given must match. Times are ages in microseconds."""

    entry: EntryId | None = None
    entries: tuple[EntryId, ...] = ()  # any of these; empty: whichever
    trace: TraceId | None = None
    domain: str | None = None  # the destination
    sender: str | None = None  # the reverse-path, or "<>"; "@example.org" for a whole domain
    older_than: Micros | None = None
    newer_than: Micros | None = None
    error: str | None = None  # a substring of the last error
    state: EntryState | None = None


@dataclass(frozen=True, slots=True)
class DestinationStats:
    """What waits for one destination."""

    destination: str
    entries: int
    held: int
    oldest: Micros
    next_attempt: Micros | None
    last_error: str | None


@dataclass(frozen=True, slots=True)
class QueueStats:
    """The whole queue in figures; `destinations` are the largest ones."""

    entries: int
    held: int
    due: int
    destinations: int
    oldest: Micros | None
    largest: list[DestinationStats] = field(default_factory=list)


class FailedRound(msgspec.Struct, frozen=True):
    """A failure of a destination as a whole, for all ready entries that were due when it ended, at `at`.

    They are tried again after the wait in `waits` for as many rounds as the youngest of them saw, or at `look` if that
    is sooner. `told` gives the events about the entry that was tried, by when it is tried again; None: the lease was
    lost, and the new owner decides that.
    """

    lease: Lease
    at: Micros
    error: str
    longest_wait: Micros
    waits: tuple[Micros, ...]
    look: Micros | None = None
    told: Callable[[Micros | None], Sequence[Event]] = lambda _: ()


class PlannedAttempt(msgspec.Struct, frozen=True):
    """When a ready entry is tried next, and what explains it: its attempts so far, and until when its sender holds it
    back."""

    entry: EntryId
    next_attempt: Micros
    attempts: int
    not_before: Micros


class PlannedPage(msgspec.Struct, frozen=True):
    """A page of planned attempts. `after` is where the next page begins, None at the end."""

    attempts: list[PlannedAttempt]
    after: EntryId | None


class Replanned(msgspec.Struct, frozen=True):
    """A planned attempt that is moved."""

    entry: EntryId
    planned: Micros
    next_attempt: Micros


class Pacing(msgspec.Struct, frozen=True):
    """How a destination was paced from one source, at the time `at`: at most `connections` at once, for a `reason`.

    With 0 nobody tries before `not_before`. `source` None: the system chooses. `receiver` runs the servers.
    """

    source: str | None
    receiver: str | None
    connections: int
    reason: str
    at: Micros
    not_before: Micros = 0


class Overdue(msgspec.Struct, frozen=True):
    """A page of entries whose senders may have to be told; `look`: when the next of the others must be looked at.

    `after` is where the next page begins, None at the end.
    """

    entries: list[QueueEntry]
    look: Micros | None
    after: object


class Queue(Protocol):
    """Store and forward, durably. `owner` is a worker's number."""

    async def claim_destinations(
        self,
        owner: int,
        *,
        now: Micros,
        lease: Micros,
        limit: int,
        wanted: Sequence[str] = (),
        only_wanted: bool = False,
    ) -> list[Lease]:
        """Lease up to `limit` destinations that have due entries and no live owner, `wanted` ones first, or only those.

        The lease ends at now + lease unless `renew`ed.
        """
        ...

    async def renew(self, leases: Sequence[Lease], *, until: Micros) -> list[Lease]:
        """Extend leases, those that have run out, too, if nobody has claimed the destination since; returns those that
        still hold."""
        ...

    async def release(self, leases: Sequence[Lease], *, not_before: Micros = 0, pacing: Sequence[Pacing] = ()) -> None:
        """Give destinations back; nobody claims them before `not_before` (a destination that backs off). Does nothing
        for a lease that was lost. `pacing` is kept as `note_pacing` does.
        """
        ...

    async def note_pacing(self, pacing: Mapping[Lease, Sequence[Pacing]]) -> None:
        """Keep how destinations are paced, for people, while something waits for them; empty ones change nothing, and
        neither does a lease that was lost."""
        ...

    async def pacing(self, destination: str) -> list[Pacing]:
        """Return how a destination was paced when that was noted last; empty when it was not, or can't be read."""
        ...

    async def wake(self, destinations: Sequence[str]) -> None:
        """Let destinations be claimed when their entries are due, whatever `not_before` they were released with."""
        ...

    async def release_all(self, owner: int) -> None:
        """Forget every lease of a worker that died or starts afresh."""
        ...

    async def due(self, lease: Lease, *, now: Micros, limit: int, exclude: Sequence[EntryId] = ()) -> list[QueueEntry]:
        """Return due entries of an owned destination: highest priority first, then longest due."""
        ...

    async def next_due(self, *, now: Micros) -> Micros | None:
        """Return when the next unowned destination is due; None when nothing waits."""
        ...

    async def settle(self, outcomes: Sequence[Outcome]) -> list[Lease]:
        """Write outcomes in one group commit. An entry that is gone already, or a lease that was lost, is no error:
        then what a peer did is told in the journal, and nothing is changed, delivered, forwarded or reported. Returns
        the leases that were lost, as far as they mattered.
        """
        ...

    async def fail(self, failed: FailedRound) -> Micros | None:
        """Count a failed round for all that waited, at once; return when they are tried again, None when the lease
        was lost: then it is not counted, and what a peer did is told.

        Entries are read from then on as if it had been written into each of them.
        """
        ...

    async def overdue(
        self, destination: str, *, now: Micros, notice: Micros, expire: Micros, after: object = None
    ) -> Overdue:
        """Return a page of the due entries of a destination whose age may have reached `notice` (0: never), if nobody
        was told yet, or `expire`, or whose sender's deadline (RFC 2852) has passed.
        """
        ...

    async def set_aside(self, outcome: Outcome, *, problem: str, now: Micros) -> None:
        """Let an entry leave the road whose outcome `settle` refuses each time (`Damaged`): removed when nothing but
        its success was to be written, else held for an operator; the log tells, and the journal where it can.
        """
        ...

    async def get(self, entry: EntryId) -> QueueEntry:
        """Return one entry. Raises `NotFound`."""
        ...

    def entries(self, which: Filter, *, now: Micros) -> AsyncIterator[QueueEntry]:
        """Yield matching entries by id, reading in pages."""
        ...

    async def count(self, which: Filter, *, now: Micros) -> int:
        """Return how many entries match."""
        ...

    async def stats(self, *, now: Micros, largest: int = 20) -> QueueStats:
        """Return the queue in figures."""
        ...

    async def retry(self, entries: Sequence[EntryId], *, now: Micros) -> int:
        """Make entries due now, and their destinations free to claim; return how many there were."""
        ...

    async def hold(self, entries: Sequence[EntryId], *, now: Micros) -> int:
        """Hold entries; return how many changed."""
        ...

    async def unhold(self, entries: Sequence[EntryId], *, now: Micros) -> int:
        """Release held entries, due now or when their sender wants it (RFC 4865); return how many changed."""
        ...

    async def delete(self, entries: Sequence[EntryId], *, now: Micros) -> int:
        """Delete entries without telling anybody; return how many there were."""
        ...

    async def planned(self, *, later_than: Sequence[Micros], after: EntryId = 0) -> PlannedPage:
        """Return a page of the ready entries behind one that are tried later than they should, by id; it may be empty.

        `later_than[n]` is the time for entries with n attempts, the last one for those with more: of a long queue that
        is in order hardly anything is returned.
        """
        ...

    async def replan(self, attempts: Sequence[Replanned]) -> int:
        """Try ready entries at other times, where they are still planned as they were read; return how many changed."""
        ...

    async def end_rests(self, *, later_than: Micros) -> None:
        """Wake the destinations that would rest longer than until a time."""
        ...

    async def shorten_leases(self, *, until: Micros) -> None:
        """Let no lease end later than at a time."""
        ...


def reverse_path_text(path: Address | None) -> str:
    """Return the reverse-path as people and filters write it: `alice@example.org`, or `<>`."""
    return f"{path.local}@{path.domain}" if path else "<>"
