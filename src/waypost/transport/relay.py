"""The relay: moves due entries to the servers of their destinations (RFC 5321 3.6, 4.5.4.1).

It asks the router for the way, the regulator how fast, and lets a round do the work. Idle connections and what
was learnt of each destination outlive a round, in here; both are bounded.
"""

from collections import OrderedDict
from collections.abc import Callable

from waypost.config.settings import SECOND, Outbound
from waypost.message.trace import Micros
from waypost.queue.carrier import Carrier, EntrySource, Parting
from waypost.queue.places import Turns
from waypost.storage import Spool
from waypost.transport.connector import Connector
from waypost.transport.pool import Pool
from waypost.transport.regulator import Decision, Pace, Record, Signal, answered_lately, decide
from waypost.transport.results import no_way
from waypost.transport.round import Regulate, Round, Tools
from waypost.transport.router import Router
from waypost.transport.sender import STREAM_ABOVE, Sender
from waypost.transport.tls_client import TlsClient
from waypost.transport.ways import NoWay, Server
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
        self._records: OrderedDict[str, Record] = OrderedDict()
        tls = tls or TlsClient()
        self._pool = Pool(outbound.max_connections, idle=idle)
        connector = Connector(
            pool=self._pool,
            tls=tls,
            hostname=hostname,
            sources=outbound.source_addresses,
            timeouts=timeouts or _timeouts(outbound),
            most_messages=outbound.max_messages_per_connection,
            now=now,
        )
        sender = Sender(spool=spool, now=now, broken=tls.broken, stream_above=stream_above)
        self._turns = Turns()
        self._tools = Tools(self._pool, connector, sender, now, linger, self._comes_back)

    async def carry(self, destination: str, source: EntrySource) -> Parting:
        """Work until the source is empty, or the destination must be left alone for a while."""
        started = self._now()
        try:
            way = await self._router.way(destination)
        except NoWay as failure:
            return await self._without_way(destination, source, failure, started)
        regulate = self._regulator(destination)
        return await Round(
            destination, way, source, self._tools, regulate, lambda: self.answered_lately(destination)
        ).run()

    def answered_lately(self, destination: str) -> bool:
        """True when the destination has answered lately; the queue keeps places for those."""
        return answered_lately(self._records.get(destination, _NOTHING), self._now(), self._pace)

    async def close(self) -> None:
        """Quit the idle connections."""
        await self._pool.close()

    @property
    def connections(self) -> int:
        """How many connections are open."""
        return self._pool.open

    def _comes_back(self, servers: tuple[Server, ...]) -> Micros:
        return self._turns.comes_back(servers[0].endpoint, self._now())

    async def _without_way(self, destination: str, source: EntrySource, failure: NoWay, started: Micros) -> Parting:
        """The queue counts it for all entries that are due."""
        entry = await source.take(0.0)
        if entry is None:
            return Parting()
        failed = no_way(entry, failure, started=started, ended=self._now())
        if failure.permanent:
            return Parting(failure=failed)
        return Parting(self._regulator(destination)(Signal.UNREACHABLE, 0).not_before, failed)

    def _regulator(self, destination: str) -> Regulate:
        """Return the regulator with what it knows of a destination."""

        def regulate(signal: Signal | None, standing: int) -> Decision:
            known = self._records.get(destination, _NOTHING)
            decision = decide(known, signal, self._now(), self._pace, standing=standing)
            self._records[destination] = decision.record
            self._records.move_to_end(destination)
            if len(self._records) > _MOST_RECORDS:
                self._records.popitem(last=False)
            return decision

        return regulate


_NOTHING = Record()


def _timeouts(outbound: Outbound) -> Timeouts:
    return Timeouts(
        connect=outbound.connect_timeout / SECOND,
        command=outbound.command_timeout / SECOND,
        data=outbound.data_timeout / SECOND,
    )
