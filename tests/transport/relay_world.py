"""A relay with a queue and a spool that live in the test."""

import asyncio
from collections import deque
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Any, cast

from waypost.config.settings import Outbound
from waypost.message.address import Address
from waypost.message.envelope import Envelope, Recipient
from waypost.message.trace import TraceId
from waypost.queue.carrier import AttemptResult, CarryResult, DestinationFailure, Fate
from waypost.storage import EntryState, NotFound, QueueEntry, StorageError
from waypost.transport.next_hops import NextHops, NoNextHop
from waypost.transport.relay import Relay
from waypost.transport.router import Router
from waypost.transport.tls_client import TlsClient
from waypost.transport.wire import Timeouts

NOW = 1_795_500_000_000_000
MESSAGE = b"Subject: tea\r\n\r\nAt five.\r\n.dot\r\n"
SHORT = Timeouts(connect=5.0, command=0.15, data=0.15, handshake=0.5, farewell=0.3)
"""Time-outs for servers that stall."""


class Spool:
    """Messages in memory; `damaged` ones fail at their last octets."""

    def __init__(self) -> None:
        self.messages: dict[TraceId, bytes] = {}
        self.damaged: set[TraceId] = set()
        self.read = 0

    async def open(self, trace: TraceId, place: object = None) -> "StoredMessage":
        if trace not in self.messages:
            raise NotFound("no such message")
        return StoredMessage(self, trace)


class StoredMessage:
    def __init__(self, spool: Spool, trace: TraceId) -> None:
        self._spool = spool
        self._trace = trace
        self._data = spool.messages[trace]

    @property
    def size(self) -> int:
        return len(self._data)

    async def chunks(self, chunk_size: int = 65536) -> AsyncIterator[bytes]:
        for begin in range(0, len(self._data), chunk_size):
            last = begin + chunk_size >= len(self._data)
            if last and self._trace in self._spool.damaged:
                raise StorageError("damaged on disk")
            self._spool.read += 1
            await asyncio.sleep(0)
            yield self._data[begin : begin + chunk_size]


@dataclass
class Source:
    """Due entries. It checks that each is reported or given back, and only once."""

    due: deque[QueueEntry] = field(default_factory=deque)
    results: list[AttemptResult] = field(default_factory=list)
    given_back: list[QueueEntry] = field(default_factory=list)
    in_flight: set[int] = field(default_factory=set)
    takers: int = 0
    reporting: asyncio.Event = field(default_factory=asyncio.Event)
    durable: asyncio.Event = field(default_factory=asyncio.Event)

    def __post_init__(self) -> None:
        self.durable.set()

    async def take(self, wait: float) -> QueueEntry | None:
        self.takers += 1
        await asyncio.sleep(0)
        if not self.due:
            return None
        entry = self.due.popleft()
        self.in_flight.add(entry.id)
        return entry

    def report(self, result: AttemptResult) -> asyncio.Future[bool]:
        self.in_flight.remove(result.entry.id)
        self.results.append(result)
        self.reporting.set()
        return asyncio.shield(asyncio.create_task(self.durable.wait()))

    def give_back(self, entry: QueueEntry) -> None:
        self.in_flight.remove(entry.id)
        self.given_back.append(entry)
        self.due.appendleft(entry)


class World:
    """A relay and what is around it. `ways` are the ways of destinations."""

    def __init__(self, *, tls: TlsClient | None = None, **options: Any) -> None:
        self.spool = Spool()
        self.ways: dict[str, NextHops | NoNextHop] = {}
        self.asked: list[str] = []
        settings = {key: options.pop(key) for key in list(options) if key in Outbound.__dataclass_fields__}
        self._slots = settings.get("max_connections", Outbound().max_connections)
        options.setdefault("timeouts", Timeouts(farewell=2.0))
        options.setdefault("linger", 0.0)
        self.now = NOW
        self.relay = Relay(
            router=cast(Router, self),
            spool=cast(Any, self.spool),
            outbound=Outbound(**settings),
            hostname="client.test",
            now=lambda: self.now,
            tls=tls or TlsClient(),
            **options,
        )
        self._count = 0

    async def way(self, destination: str) -> NextHops:
        """What a router does."""
        self.asked.append(destination)
        found = self.ways[destination]
        if isinstance(found, NoNextHop):
            raise found
        return found

    def entry(
        self,
        *recipients: str,
        content: bytes = MESSAGE,
        envelope: Envelope | None = None,
        destination: str = "server.test",
    ) -> QueueEntry:
        """Put a message into the spool and return its entry."""
        self._count += 1
        trace = TraceId(self._count)
        self.spool.messages[trace] = content
        return QueueEntry(
            id=self._count,
            trace=trace,
            destination=destination,
            recipients=tuple(Recipient(Address.parse(one)) for one in recipients or ("bob@server.test",)),
            state=EntryState.READY,
            priority=0,
            queued_at=NOW,
            next_attempt=NOW,
            last_attempt=None,
            attempts=0,
            waited=0,
            delay_notified=False,
            last_error=None,
            envelope=envelope or Envelope(Address.parse("alice@client.test")),
            size=len(content),
            account=None,
        )

    async def carry(
        self, *entries: QueueEntry, way: NextHops | NoNextHop | None = None, destination: str = "server.test"
    ) -> "Carried":
        """Let the relay carry entries; every one must be accounted for afterwards."""
        if way is not None:
            self.ways[destination] = way
        source = Source(deque(entries))
        parting = await self.relay.carry(destination, source)
        if parting.failure is not None:
            source.in_flight.remove(parting.failure.attempt.entry.id)
        assert not source.in_flight, "every entry taken was reported, given back, or stands in the failure"
        return Carried(source, parting)

    async def close(self) -> None:
        """Close the relay: no connection is left, and every slot is free again."""
        await self.relay.close()
        assert self.relay.connections == 0
        assert self.relay._pool.free == self._slots, "every slot was given back"


@dataclass
class Carried:
    """What came of a carry."""

    source: Source
    parting: CarryResult

    @property
    def results(self) -> list[AttemptResult]:
        """The reports, in their order, and the attempt that met a failure of the destination."""
        return [*self.source.results, *((self.failure.attempt,) if self.failure else ())]

    @property
    def failure(self) -> DestinationFailure | None:
        """The failure of the destination as a whole."""
        return self.parting.failure

    @property
    def only(self) -> AttemptResult:
        """The only report."""
        [result] = self.results
        return result

    @property
    def fates(self) -> list[Fate]:
        """All fates."""
        return [one.fate for result in self.results for one in result.results]

    @property
    def words(self) -> list[str]:
        """What was said of each recipient: replies, or problems in parentheses."""
        return [
            str(one.reply) if one.reply else f"({one.problem})" for result in self.results for one in result.results
        ]
