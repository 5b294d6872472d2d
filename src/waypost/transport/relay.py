"""The relay: moves due entries to the servers of their destinations (RFC 5321 3.6, 4.5.4.1).

It asks the router for the way, the regulator how fast, and lets a round do the work. Idle connections and what
was learnt of each destination outlive a round, in here; both are bounded.
"""

from collections import OrderedDict
from collections.abc import Callable

from msgspec.structs import replace

from waypost.config.settings import SECOND, Outbound
from waypost.message.trace import Micros
from waypost.queue.carrier import Carrier, CarryResult, EntrySource
from waypost.queue.places import Turns
from waypost.storage import Pacing, Spool
from waypost.transport.connector import Connector
from waypost.transport.egress import EgressSources
from waypost.transport.lanes import Regulate
from waypost.transport.next_hops import NoNextHop, Server
from waypost.transport.pool import Pool
from waypost.transport.receiver import Receiver
from waypost.transport.regulator import STOPPED, Decision, DestinationRecord, Pace, Signal, answered_lately, decide
from waypost.transport.results import no_way
from waypost.transport.round import RelayContext, Round
from waypost.transport.router import Router
from waypost.transport.sender import STREAM_ABOVE, Sender
from waypost.transport.tls_client import TlsClient
from waypost.transport.wire import Timeouts

_MOST_RECORDS = 10_000
_IDLE = 4.0  # seconds; servers have patience for minutes, but others need the slot
_LINGER = 0.2  # seconds


class Relay(Carrier):
    """Carries entries to other hosts. One a worker; `close` it when no `carry` is under way any more.

    `tls`, `timeouts`, `idle`, `linger` and `stream_above` are for tests.
    """

    def __init__(
        self,
        *,
        router: Router,
        spool: Spool,
        outbound: Outbound,
        hostname: str,
        now: Callable[[], Micros],
        tls: TlsClient | None = None,
        timeouts: Timeouts | None = None,
        idle: float = _IDLE,
        linger: float = _LINGER,
        stream_above: int = STREAM_ABOVE,
    ) -> None:
        self._router = router
        self._now = now
        self._pace = Pace(ceiling=outbound.max_connections_per_destination)
        self._sources = EgressSources(outbound.egress, now=now)
        self._records: OrderedDict[tuple[str, str | None], DestinationRecord] = OrderedDict()
        self._receivers: dict[str, Receiver | None] = {}  # of the destinations that are carried now
        tls = tls or TlsClient()
        self._pool = Pool(outbound.max_connections, idle=idle)
        connector = Connector(
            pool=self._pool,
            tls=tls,
            hostname=hostname,
            sources=self._sources,
            timeouts=timeouts or _timeouts(outbound),
            most_messages=outbound.max_messages_per_connection,
            now=now,
        )
        sender = Sender(spool=spool, now=now, broken=tls.broken, stream_above=stream_above)
        self._turns = Turns()
        self._context = RelayContext(
            self._pool, connector, sender, self._sources, now, linger, self._comes_back, self._pace.ceiling
        )

    async def carry(self, destination: str, source: EntrySource) -> CarryResult:
        """Work until the source is empty, or the destination must be left alone for a while."""
        started = self._now()
        try:
            way = await self._router.way(destination)
        except NoNextHop as failure:
            return await self._without_way(destination, source, failure, started)
        self._receivers[destination] = way.receiver
        try:
            round_ = Round(
                destination,
                way,
                source,
                self._context,
                self._regulator(destination),
                lambda: self.answered_lately(destination),
            )
            return replace(await round_.run(), pacing=self.pacing(destination))
        finally:
            self._receivers.pop(destination, None)

    def answered_lately(self, destination: str) -> bool:
        """True when the destination has answered lately, whatever source asked; the queue keeps places for those."""
        return any(
            answered_lately(self._records.get((destination, name), _NOTHING), self._now(), self._pace)
            for name in self._sources.names
        )

    def pacing(self, destination: str) -> tuple[Pacing, ...]:
        """Return how a destination that is carried now is paced from each source, and why; empty for another one."""
        if destination not in self._receivers:
            return ()
        receiver = self._receivers[destination]
        return tuple(
            self._pacing(name, None if receiver is None else receiver.name, record)
            for name in self._sources.names
            if (record := self._records.get((destination, name))) is not None
        )

    def _pacing(self, source: str | None, receiver: str | None, record: DestinationRecord) -> Pacing:
        now = self._now()
        connections = 0 if record.reason in STOPPED else record.limit
        return Pacing(source, receiver, connections, str(record.reason), now, record.not_before)

    async def close(self) -> None:
        """Quit the idle connections."""
        await self._pool.close()

    @property
    def connections(self) -> int:
        """How many connections are open."""
        return self._pool.open

    def _comes_back(self, servers: tuple[Server, ...]) -> Micros:
        return self._turns.comes_back(servers[0].endpoint, self._now())

    async def _without_way(
        self, destination: str, source: EntrySource, failure: NoNextHop, started: Micros
    ) -> CarryResult:
        """The queue counts it for all entries that are due."""
        entry = await source.take(0.0)
        if entry is None:
            return CarryResult()
        failed = no_way(entry, failure, started=started, ended=self._now())
        if failure.permanent:
            return CarryResult(failure=failed)
        decision = self._regulator(destination)(None, Signal.UNREACHABLE, 0)
        return CarryResult(decision.not_before, failed, (self._pacing(None, None, decision.record),))

    def _regulator(self, destination: str) -> Regulate:
        """Return the regulator with what it knows of a destination: it keeps the pace of each source apart."""

        def regulate(source: str | None, signal: Signal | None, standing: int) -> Decision:
            key = (destination, source)
            known = self._records.get(key, _NOTHING)
            decision = decide(known, signal, self._now(), self._pace, standing=standing)
            self._records[key] = decision.record
            self._records.move_to_end(key)
            if len(self._records) > _MOST_RECORDS * self._sources.count:
                self._records.popitem(last=False)
            return decision

        return regulate


_NOTHING = DestinationRecord()


def _timeouts(outbound: Outbound) -> Timeouts:
    return Timeouts(
        connect=outbound.connect_timeout / SECOND,
        command=outbound.command_timeout / SECOND,
        data=outbound.data_timeout / SECOND,
    )
