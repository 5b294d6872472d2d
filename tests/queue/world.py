"""What the tests of the queue stand on: a clock that is set by hand, a bus, storage that can fail, and carriers that
do what they are told. Nothing sleeps; whatever a test waits for is an event.
"""

import asyncio
import random
from collections import defaultdict, deque
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

from msgspec.structs import replace

from waypost.message.address import Address
from waypost.message.envelope import Envelope, Recipient
from waypost.message.reply import Reply, parse_reply
from waypost.message.trace import Micros, TraceId, TraceIdMaker
from waypost.queue.carrier import (
    AttemptResult,
    Carrier,
    CarryResult,
    DestinationFailure,
    EntrySource,
    Fate,
    RecipientResult,
)
from waypost.queue.dispatcher import Dispatcher
from waypost.queue.reporter import Reporter
from waypost.queue.schedule import Schedule
from waypost.storage import (
    EntryId,
    Expense,
    Filter,
    NewEntry,
    NewMessage,
    Notice,
    Queue,
    QueueEntry,
    Storage,
    StorageError,
)
from waypost.storage.sqlite import SqliteStorage, open_storage

SECOND = 1_000_000
MINUTE = 60 * SECOND
HOUR = 60 * MINUTE
DAY = 24 * HOUR
START: Micros = 1_795_539_446 * SECOND  # Tue, 24 Nov 2026 16:57:26 +0000

SCHEDULE = Schedule(
    retry=(1 * MINUTE, 5 * MINUTE, 15 * MINUTE, 30 * MINUTE, 1 * HOUR, 2 * HOUR),
    jitter=0.0,
    delayed_notice=4 * HOUR,
    expire=5 * DAY,
)
OK = Reply(250, "2.0.0", ("Ok",))
ALICE = Address.parse("alice@wonderland.test")
CONTENT = b"Message-ID: <tea@wonderland.test>\r\nSubject: Tea at five?\r\nFrom: alice@wonderland.test\r\n\r\nCome.\r\n"


class FakeClock:
    """A wall clock, a monotonic clock and a sleep that move only when the test says so."""

    def __init__(self) -> None:
        self.wall = START
        self.seconds = 1000.0
        self._sleepers: dict[asyncio.Future[None], tuple[float, float]] = {}
        self._waiting: list[tuple[float, int, asyncio.Future[None]]] = []

    def now(self) -> Micros:
        return self.wall

    def monotonic(self) -> float:
        return self.seconds

    async def sleep(self, seconds: float) -> None:
        if seconds <= 0.01:  # so short that it passes by itself
            await asyncio.sleep(0)
            return
        woken: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._sleepers[woken] = (self.seconds + seconds, seconds)
        for wanted, people, waiting in self._waiting:
            if self._asleep(wanted) >= people and not waiting.done():
                waiting.set_result(None)
        try:
            await woken
        finally:
            self._sleepers.pop(woken, None)

    def _asleep(self, seconds: float) -> int:
        return sum(asked == seconds for _, asked in self._sleepers.values())

    async def somebody_sleeps(self, seconds: float, people: int = 1) -> None:
        """Return when somebody, or so many, sleep for exactly so long."""
        if self._asleep(seconds) < people:
            waiting: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            self._waiting.append((seconds, people, waiting))
            await waiting

    def advance(self, seconds: float) -> None:
        """Let time pass."""
        self.seconds += seconds
        self.wall += int(seconds * SECOND)
        for woken, (until, _) in list(self._sleepers.items()):
            if until <= self.seconds:
                del self._sleepers[woken]
                if not woken.done():
                    woken.set_result(None)

    def set_by(self, seconds: float) -> None:
        """Set the wall clock, as an administrator does."""
        self.wall += int(seconds * SECOND)


class LocalBus:
    """A bus in one process."""

    def __init__(self) -> None:
        self.handlers: dict[str, list[Callable[[Notice], None]]] = defaultdict(list)
        self.deaf = False

    def publish(self, notice: Notice) -> None:
        for handler in () if self.deaf else self.handlers[notice.topic]:
            handler(notice)

    def subscribe(self, topic: str, handler: Callable[[Notice], None]) -> None:
        self.handlers[topic].append(handler)


class WatchedQueue:
    """The queue behind a window: tests await its calls, and let them fail."""

    def __init__(self, queue: Queue) -> None:
        self._queue = queue
        self.faults: dict[str, deque[StorageError]] = defaultdict(deque)
        self.calls: dict[str, asyncio.Queue[Any]] = defaultdict(asyncio.Queue)
        self.counts: dict[str, int] = defaultdict(int)

    def __getattr__(self, name: str) -> Any:
        async def call(*args: Any, **named: Any) -> Any:
            self.counts[name] += 1
            if self.faults[name]:
                raise self.faults[name].popleft()
            result = await getattr(self._queue, name)(*args, **named)
            self.calls[name].put_nowait(result)
            return result

        return call

    async def done(self, name: str) -> Any:
        """Return the result of the next finished call."""
        return await self.calls[name].get()


@dataclass
class ScriptedCarrier:
    """A carrier that gives every recipient the same fate, and tells what it did."""

    clock: FakeClock
    fate: Fate = Fate.RELAYED
    status: str = "2.0.0"
    reply: Reply | None = OK
    problem: str | None = None
    wait: float = 0.0
    parting: CarryResult = field(default_factory=CarryResult)
    down: bool = False
    more: dict[str, Any] = field(default_factory=dict)
    results: tuple[RecipientResult, ...] | None = None
    attempts: "asyncio.Queue[AttemptResult]" = field(default_factory=asyncio.Queue)
    carried: "asyncio.Queue[str]" = field(default_factory=asyncio.Queue)
    gate: asyncio.Event | None = None

    async def carry(self, destination: str, source: EntrySource) -> CarryResult:
        self.carried.put_nowait(destination)
        while (entry := await source.take(self.wait)) is not None:
            if self.gate is not None:
                await self.gate.wait()
            result = self.result(entry)
            if self.down:
                permanent = self.fate is Fate.FAILED
                failure = DestinationFailure(result, self.status, self.reply, self.problem, permanent)
                self.attempts.put_nowait(result)
                return replace(self.parting, failure=failure)
            await source.report(result)
            self.attempts.put_nowait(result)
        return self.parting

    def result(self, entry: QueueEntry) -> AttemptResult:
        results = self.results or tuple(
            RecipientResult(recipient, self.fate, self.status, self.reply, self.problem)
            for recipient in entry.recipients
        )
        now = self.clock.now()
        known = {"host": "mx.builder.test", "address": "127.0.0.12:25", "tls": "TLSv1.3 verified"}
        return AttemptResult(entry, started=now, ended=now, results=results, **(known | self.more))

    def defer(self, words: str = "451 4.3.0 Not now") -> None:
        self.fate, self.status, self.reply = Fate.DEFERRED, "4.3.0", parse_reply(words)

    def fail(self, words: str = "550 5.1.1 No such user") -> None:
        self.fate, self.status, self.reply = Fate.FAILED, "5.1.1", parse_reply(words)


@dataclass
class World:
    """Storage, clock and bus, and what makes messages and dispatchers of them."""

    clock: FakeClock
    bus: LocalBus
    opened: SqliteStorage
    queue: WatchedQueue
    ids: TraceIdMaker
    running: "list[tuple[Dispatcher, asyncio.Task[None]]]" = field(default_factory=list)

    @property
    def storage(self) -> Storage:
        return self.opened.storage

    def reporter(self) -> Reporter:
        return Reporter(
            spool=self.storage.spool,
            ids=self.ids,
            hostname="mx.wonderland.test",
            destination_of=lambda address: address.domain_key,
            now=self.clock.now,
            return_full_below=64 * 1024,
        )

    def dispatcher(self, carrier: Carrier, *, owner: int = 1, schedule: Schedule = SCHEDULE, **more: Any) -> Dispatcher:
        made = Dispatcher(
            queue=cast(Queue, self.queue),
            carrier_for=lambda destination: carrier,
            reporter=self.reporter(),
            schedule=schedule,
            owner=owner,
            bus=self.bus,
            now=self.clock.now,
            random=random.Random(1),
            monotonic=self.clock.monotonic,
            sleep=self.clock.sleep,
            **more,
        )
        self.running.append((made, asyncio.create_task(made.run())))
        return made

    async def submit(
        self,
        *recipients: str | Recipient,
        envelope: Envelope | None = None,
        content: bytes = CONTENT,
        next_attempt: Micros | None = None,
        priority: int = 0,
        destination: str | None = None,
        account: str | None = None,
    ) -> EntryId:
        """Accept a message with one entry; return the entry's id."""
        await self.post(
            *recipients,
            envelope=envelope,
            content=content,
            next_attempt=next_attempt,
            priority=priority,
            destination=destination,
            account=account,
        )
        return int(self.opened._reading.value("SELECT max(id) FROM entry"))

    async def post(
        self,
        *recipients: str | Recipient,
        envelope: Envelope | None = None,
        content: bytes = CONTENT,
        next_attempt: Micros | None = None,
        priority: int = 0,
        destination: str | None = None,
        account: str | None = None,
        expense: Expense | None = None,
    ) -> TraceId:
        """Accept a message with one entry; return its trace id."""
        to = tuple(one if isinstance(one, Recipient) else Recipient(Address.parse(one)) for one in recipients)
        body = self.storage.spool.new_body()
        await body.write(content)
        due = self.clock.now() if next_attempt is None else next_attempt
        entry = NewEntry(destination or to[0].address.domain_key, to, due, priority)
        trace = self.ids()
        await self.storage.spool.accept(
            NewMessage(
                trace,
                self.clock.now(),
                envelope or Envelope(ALICE),
                b"Received: by us\r\n",
                body,
                account=account,
                entries=(entry,),
                expense=expense,
            )
        )
        body.discard()
        return trace

    async def waiting(self) -> list[QueueEntry]:
        """Return all entries, by id."""
        return [entry async for entry in self.storage.queue.entries(Filter(), now=self.clock.now())]

    async def stations(self, trace: TraceId) -> list[str]:
        return [event.station.value for event in await self.storage.journal.of(trace)]

    async def close(self) -> None:
        for dispatcher, task in self.running:
            if not task.done():
                self.queue.faults.clear()
                await dispatcher.stop(0)
                await task
        await self.opened.close()


async def make_world(folder: Path) -> World:
    clock, bus = FakeClock(), LocalBus()
    opened = await open_storage(
        folder, now=clock.now, worker=1, publish=bus.publish, memory_per_message=1 << 20, segment_size=1 << 20
    )
    return World(clock, bus, opened, WatchedQueue(opened.storage.queue), TraceIdMaker(1, clock.now))
