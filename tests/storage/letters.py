"""What the storage tests write with: a clock that stands still, trace ids, letters, and engines under test."""

import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from msgspec.structs import replace
from tests.storage.engines import ENGINES

from waypost.journal import Event, Submitted
from waypost.message.address import Address
from waypost.message.envelope import BodyType, Envelope, Recipient
from waypost.message.trace import Micros, TraceId, TraceIdMaker
from waypost.storage import (
    Account,
    Credentials,
    Deferral,
    Lease,
    MailboxDelivery,
    NewEntry,
    NewMessage,
    Notice,
    Outcome,
    Queue,
    QueueEntry,
    Spool,
    Storage,
    StorageError,
    StoredMessage,
)

SECOND = 1_000_000
START = 1_800_000_000 * SECOND
CREDENTIALS = Credentials("$argon2id$", b"salt", 4096, b"stored", b"server")
LEASE = 60 * SECOND
HEAD = b"Received: from there by here\r\n"


@dataclass
class Clock:
    """A clock that moves when it is told to."""

    time: Micros = START

    def __call__(self) -> Micros:
        return self.time


@dataclass
class Engine:
    """An engine under test: opens its storage as any worker of one service would."""

    name: str
    data: Path
    clock: Clock = field(default_factory=Clock)
    notices: list[Notice] = field(default_factory=list)
    opened: list[Any] = field(default_factory=list)  # of what the engine's own `open_storage` returns

    async def open(self, worker: int = 0, *, threshold: int = 64 * 1024, **more: Any) -> Any:
        """Open the storage, as a further process would; `more` is what only this engine knows."""
        opened = await ENGINES[self.name](
            self.data,
            now=self.clock,
            worker=worker,
            publish=self.notices.append,
            memory_per_message=threshold,
            **more,
        )
        self.opened.append(opened)
        return opened

    async def end(self, opened: Any) -> None:
        """Close one storage, as its process would that ends."""
        self.opened.remove(opened)
        await opened.close()

    async def close(self) -> None:
        """Close whatever was opened."""
        while self.opened:
            await self.opened.pop().close()


@dataclass
class Letters:
    """Makes messages for one storage."""

    storage: Storage
    clock: Any  # a `Clock`, or any function that returns the time
    maker: int = 0

    def __post_init__(self) -> None:
        self.ids = TraceIdMaker(self.maker, self.clock)

    async def letter(
        self,
        octets: bytes = b"Subject: hello\r\n\r\nHow do you do?\r\n",
        *,
        to: Sequence[str] = (),
        mailboxes: Sequence[int] = (),
        sender: str | None = "alice@wonderland.test",
        head: bytes = HEAD,
        body_type: BodyType = BodyType.SEVEN_BIT,
        **more: Any,
    ) -> NewMessage:
        """Return a message for recipients elsewhere (`bob@builder.test`) and for mailboxes here."""
        trace = self.ids()
        body = self.storage.spool.new_body()
        try:
            for start in range(0, len(octets), 65536):
                await body.write(octets[start : start + 65536])
        except StorageError:
            body.discard()
            raise
        return NewMessage(
            trace=trace,
            received_at=more.pop("received_at", self.clock()),
            envelope=Envelope(Address.parse(sender) if sender else None, body=body_type),
            head=head,
            body=body,
            deliveries=tuple(MailboxDelivery(box, b"Return-Path: <>\r\n") for box in mailboxes),
            entries=self.entries(*to, priority=more.pop("priority", 0), next_attempt=more.pop("next_attempt", None)),
            events=(Event(trace, self.clock(), Submitted(account=sender or "", recipients=())),),
            **more,
        )

    def entries(self, *to: str, priority: int = 0, next_attempt: Micros | None = None) -> tuple[NewEntry, ...]:
        """Return one entry for each domain of the recipients."""
        domains: dict[str, list[Recipient]] = {}
        for address in map(Address.parse, to):
            domains.setdefault(address.domain_key, []).append(Recipient(address))
        when = self.clock() if next_attempt is None else next_attempt
        return tuple(NewEntry(domain, tuple(people), when, priority) for domain, people in domains.items())

    async def post(self, octets: bytes = b"Subject: hello\r\n\r\nHello.\r\n", **how: Any) -> TraceId:
        """Accept a letter."""
        message = await self.letter(octets, **how)
        try:
            await self.storage.spool.accept(message)
        finally:
            message.body.discard()
        return message.trace

    async def account(self, address: str = "bob@builder.test", quota: int = 0) -> Account:
        """Make an account."""
        return await self.storage.directory.add_account(address, CREDENTIALS, quota=quota, now=self.clock())

    async def due(self, destination: str, limit: int = 100) -> list[QueueEntry]:
        """Return what is due for a destination now, as an operator sees it: under no lease."""
        found = await self.storage.queue.due(Lease(destination, 0), now=self.clock(), limit=limit)
        return [replace(entry, lease=None) for entry in found]


async def octets_of(message: StoredMessage) -> bytes:
    """Return all octets of a stored message."""
    return b"".join([chunk async for chunk in message.chunks()])


async def stored(spool: Spool, trace: TraceId) -> bytes:
    """Return all octets of a message of the spool."""
    return await octets_of(await spool.open(trace))


def finished(entry: QueueEntry, **more: Any) -> Outcome:
    """Return the outcome that takes an entry away."""
    return Outcome(entry.id, entry.trace, entry.lease, **more)


def deferral(entry: QueueEntry, next_attempt: Micros, error: str = "451 4.3.0 Later") -> Deferral:
    """Return what one more failed attempt makes of an entry."""
    return Deferral(entry.recipients, next_attempt, entry.waited + 1, entry.attempts + 1, START, error, False)


def files_in(data: Path) -> list[str]:
    """Return the names of all files of message bytes."""
    return sorted(os.listdir(data / "segments"))


async def claim(queue: Queue, owner: int, now: int = START, limit: int = 100, wanted: tuple[str, ...] = ()) -> set[str]:
    """Claim what is due; return the names."""
    return {lease.destination for lease in await leases(queue, owner, now, limit, wanted)}


async def leases(
    queue: Queue, owner: int, now: int = START, limit: int = 100, wanted: tuple[str, ...] = ()
) -> list[Lease]:
    """Claim what is due; return the leases, by name."""
    claimed = await queue.claim_destinations(owner, now=now, lease=LEASE, limit=limit, wanted=wanted)
    return sorted(claimed, key=lambda lease: lease.destination)
