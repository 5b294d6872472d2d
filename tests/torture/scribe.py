"""The scribe: two workers' storages under everything that a mail server does to them, every deed noted in a ledger.

Messages come in, small and large, for the queue, for mailboxes and for both; entries are finished, deferred, returned
with a report, delivered to mailboxes; mailboxes are read and emptied; housekeeping and checkpoints run all the time.
"""

import asyncio
import random
import time
from collections.abc import Awaitable
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from tests.storage.letters import CREDENTIALS, Letters
from tests.torture.ledger import Deed, Fact, Ledger, Place, Seen
from tests.torture.recorder import Recorder

from waypost.journal import AttemptFailed, Delivered, Details, Event, Relayed, Returned
from waypost.message.trace import TraceId
from waypost.storage import MailboxDelivery, NewMessage, Outcome, QueueEntry
from waypost.storage.queue import Deferral
from waypost.storage.sqlite import SqliteStorage, open_storage

T = TypeVar("T")

DATA = "srv/data"  # the data directory, below a folder that has to be made, too
THRESHOLD = 64 << 10  # octets; a larger message has a file of its own
SEGMENT = 200_000
RESERVE = 300_000  # of which half is the size at which the database's log starts anew: a checkpoint every few commits
PEOPLE = ("alice@wonderland.test", "bob@builder.test")
LEASE = 60_000_000
_SIZES = (10, 500, 3_000, 3_000, 3_000, 10_000, 10_000, 20_000, 90_000, 200_000)
_BOX_HEAD = b"Return-Path: <>\r\n"


def now() -> int:
    """Return the time, in microseconds."""
    return time.time_ns() // 1000


async def open_as(data: Path, worker: int) -> SqliteStorage:
    """Open the storage as a worker of the torture does."""
    return await open_storage(
        data,
        now=now,
        worker=worker,
        publish=lambda notice: None,
        memory_per_message=THRESHOLD,
        segment_size=SEGMENT,
        reserve=RESERVE,
    )


@dataclass
class Scribe:
    """Writes to a storage under the recorder's root, and into the ledger."""

    recorder: Recorder
    ledger: Ledger
    chance: random.Random

    @property
    def data(self) -> Path:
        """The data directory."""
        return self.recorder.root / DATA

    async def live(self, deeds: int) -> None:
        """Open the storage as two workers, do about so many deeds, and close it."""
        opened = [await open_as(self.data, number) for number in range(2)]
        try:
            await self._people(opened[0])
            end = self.ledger.deeds + deeds
            hands = [Hand(self, one, number, random.Random(self.chance.random())) for number, one in enumerate(opened)]
            works = [work for hand in hands for work in (hand.post(end), hand.post(end), hand.settle(end))]
            works += [hand.read(end) for hand in hands]
            house = asyncio.create_task(self._keep_house(opened[0]))
            await asyncio.gather(*works)
            house.cancel()
            await asyncio.wait([house])
        finally:
            for one in opened:
                await one.close()

    async def _people(self, opened: SqliteStorage) -> None:
        directory = opened.storage.directory
        for address in PEOPLE:
            if await directory.account(address) is None:
                deed = self.begin(f"make {address}")
                account = await self.acknowledged(deed, directory.add_account(address, CREDENTIALS, quota=0, now=now()))
                box = await opened.storage.mailboxes.get(account.id)
                self.ledger.boxes[box.id] = (deed, address, box.uidvalidity)

    async def _keep_house(self, opened: SqliteStorage) -> None:
        while True:
            await opened.maintain(smallest=0)
            await asyncio.sleep(0.002)

    def moment(self) -> int:
        """Return how many steps the disk has taken."""
        return len(self.recorder.steps)

    def begin(self, name: str) -> Deed:
        """A deed begins."""
        return self.ledger.begin(name, self.moment())

    async def acknowledged(self, deed: Deed, doing: Awaitable[T]) -> T:
        """Do a deed; from its end on it must be remembered."""
        result = await doing
        deed.acknowledged = self.moment()
        return result

    def boxes(self) -> list[int]:
        """Return the mailboxes."""
        return sorted(self.ledger.boxes)


class Hand:
    """What one worker does: it posts, settles what waits for its own destinations, and reads one mailbox."""

    def __init__(self, scribe: Scribe, opened: SqliteStorage, number: int, chance: random.Random) -> None:
        self._scribe = scribe
        self._ledger = scribe.ledger
        self._storage = opened.storage
        self._number = number
        self._chance = chance
        self._letters = Letters(opened.storage, now, number)
        self._destinations = [f"{name}{number}.test" for name in ("north", "south", "east")]

    async def post(self, end: int) -> None:
        """Accept messages."""
        while self._ledger.deeds < end:
            to = self._chance.sample(self._destinations, self._chance.choice((0, 1, 1, 2, 3)))
            boxes = self._chance.sample(self._scribe.boxes(), self._chance.choice((0, 1, 1, 2) if to else (1, 2)))
            deed = self._scribe.begin("accept")
            message = await self._letter(deed, [f"someone@{name}" for name in to], boxes)
            try:
                await self._scribe.acknowledged(deed, self._storage.spool.accept(message))
            finally:
                message.body.discard()

    async def _letter(self, deed: Deed, to: list[str], boxes: list[int]) -> NewMessage:
        octets = self._chance.randbytes(self._chance.choice(_SIZES))
        head = b"Received: number %d\r\n" % self._ledger.deeds
        message = await self._letters.letter(octets, to=to, mailboxes=boxes, head=head)
        self._note(deed, message, head + octets)
        return message

    def _note(self, deed: Deed, message: NewMessage, octets: bytes) -> None:
        for entry in message.entries:
            self._ledger.facts[Place(message.trace, entry.destination)] = Fact(octets, deed)
        for delivery in message.deliveries:
            self._ledger.facts[Place(message.trace, delivery.mailbox)] = Fact(delivery.head + octets, deed)
        for event in message.events:
            self._ledger.events.append((deed, event.trace, event.station))

    async def settle(self, end: int) -> None:
        """Finish what waits, in groups."""
        queue = self._storage.queue
        await queue.release_all(self._number)
        while self._ledger.deeds < end:
            claimed = await queue.claim_destinations(self._number, now=now(), lease=LEASE, limit=3)
            for lease in claimed:
                if lease.destination not in self._destinations:
                    continue
                due = await queue.due(lease, now=now(), limit=self._chance.choice((1, 3, 10)))
                known = [entry for entry in due if Place(entry.trace, lease.destination) in self._ledger.facts]
                if known:
                    await self._settle(known)
            await queue.release(claimed)
            await asyncio.sleep(0)

    async def _settle(self, entries: list[QueueEntry]) -> None:
        outcomes: list[Outcome] = []
        deeds: list[Deed] = []
        reports: list[NewMessage] = []
        for entry in entries:
            deed = self._scribe.begin("settle")
            outcome = await self._outcome(entry, deed)
            reports += outcome.reports
            outcomes.append(outcome)
            deeds.append(deed)
        try:
            await self._storage.queue.settle(outcomes)
        finally:
            for report in reports:
                report.body.discard()
        for deed in deeds:
            deed.acknowledged = self._scribe.moment()

    async def _outcome(self, entry: QueueEntry, deed: Deed) -> Outcome:
        place = Place(entry.trace, entry.destination)
        fact = self._ledger.facts[place]
        how = self._chance.choice(("relayed", "relayed", "relayed", "deferred", "deferred", "returned", "delivered"))
        if how == "deferred":
            fact.tried.append(deed)
            deferral = Deferral(entry.recipients, now(), 0, entry.attempts + 1, now(), "451 4.3.0 Later", False)
            return Outcome(
                entry.id,
                entry.trace,
                entry.lease,
                deferral=deferral,
                events=self._events(deed, entry.trace, AttemptFailed(recipients=())),
            )
        fact.gone = deed
        if how == "relayed":
            return Outcome(entry.id, entry.trace, entry.lease, events=self._relayed(deed, entry.trace))
        box = self._chance.choice(self._scribe.boxes())
        if how == "returned":
            report = await self._letter(deed, [], [box])
            events = self._events(deed, entry.trace, Returned(recipients=()))
            return Outcome(entry.id, entry.trace, entry.lease, events=events, reports=(report,))
        delivery = Place(entry.trace, box)
        if delivery in self._ledger.facts:  # one copy of a message for each mailbox keeps the ledger simple
            return Outcome(entry.id, entry.trace, entry.lease, events=self._relayed(deed, entry.trace))
        self._ledger.facts[delivery] = Fact(_BOX_HEAD + fact.octets, deed)
        events = self._events(deed, entry.trace, Delivered(recipients=()))
        return Outcome(entry.id, entry.trace, entry.lease, events=events, deliveries=(MailboxDelivery(box, _BOX_HEAD),))

    def _relayed(self, deed: Deed, trace: TraceId) -> tuple[Event, ...]:
        return self._events(deed, trace, Relayed(recipients=()))

    def _events(self, deed: Deed, trace: TraceId, details: Details) -> tuple[Event, ...]:
        self._ledger.events.append((deed, trace, details.station))
        return (Event(trace, now(), details),)

    async def read(self, end: int) -> None:
        """Look into a mailbox, note the UIDs, and remove some of what is there."""
        boxes = self._scribe.boxes()
        box = boxes[self._number % len(boxes)]
        while self._ledger.deeds < end:
            messages = await self._storage.mailboxes.messages(box)
            moment = self._scribe.moment()
            self._ledger.seen += [Seen(moment, box, message.uid, message.trace) for message in messages]
            removed = [message for message in messages if self._chance.random() < 0.2]
            if removed:
                deed = self._scribe.begin("expunge")
                for message in removed:
                    self._ledger.facts[Place(message.trace, box)].gone = deed
                uids = [message.uid for message in removed]
                await self._scribe.acknowledged(deed, self._storage.mailboxes.expunge(box, uids))
            await asyncio.sleep(0.005)
