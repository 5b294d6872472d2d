"""One visit to a destination: lanes that carry its due entries, as many at once as the regulator allows.

A lane is a task with one connection at a time. The first lane goes alone until a server has answered, so that a
destination that is down costs one attempt, whatever waits for it; more follow while there is work. A lane that
fails to connect while others are at work gives its entry back to them. When the last one fails, the failure is
the whole destination's: the round ends with it, and the queue counts it for all entries that are due.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from waypost.message.trace import Micros, format_trace_id
from waypost.queue.carrier import DestinationFailure, EntrySource, Parting
from waypost.queue.places import submitter
from waypost.storage import QueueEntry
from waypost.transport.connection import Connection
from waypost.transport.connector import Connector, NobodyAnswers
from waypost.transport.pool import Pool, Wish
from waypost.transport.regulator import Decision, Signal
from waypost.transport.results import attempt_result, deferred, nobody_answered, pushed_back
from waypost.transport.sender import Sender, Sent
from waypost.transport.ways import Server, Way

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Tools:
    """What all rounds of a relay share. `linger` is how many seconds a lane waits for one more entry.

    `comes_back` says when a destination is tried again that had no slot for its only connection, of these servers.
    """

    pool: Pool
    connector: Connector
    sender: Sender
    now: Callable[[], Micros]
    linger: float
    comes_back: Callable[[tuple[Server, ...]], Micros]


Regulate = Callable[[Signal | None, int], Decision]
"""The regulator for one destination: a signal (None: to begin with) and the number of connections that stand."""


class Round:
    """Carries what is due for one destination along one way."""

    def __init__(
        self,
        destination: str,
        way: Way,
        source: EntrySource,
        tools: Tools,
        regulate: Regulate,
        proven: Callable[[], bool],
    ) -> None:
        self._destination = destination
        self._way = way
        self._source = source
        self._tools = tools
        self._regulate = regulate
        self._proven = proven
        self._key = (frozenset(way.servers) if way.shared else destination, way.lmtp, way.tls, way.username)
        self._allowed = 1
        self._not_before: Micros = 0
        self._lanes = 0
        self._standing = 0  # lanes with a connection
        self._lingers = False  # a lane waits for more to come due
        self._tasks: asyncio.TaskGroup
        self._failure: DestinationFailure | None = None

    async def run(self) -> Parting:
        """Work until nothing is due, or the destination is to be left alone."""
        self._allowed = max(1, self._regulate(None, 0).connections)
        try:
            async with asyncio.TaskGroup() as self._tasks:
                self._open_lane()
        except BaseException:
            if self._failure is not None:
                self._source.give_back(self._failure.attempt.entry)
            raise
        if self._failure is not None and self._allowed:
            # Somebody has got through since: it was about one message.
            await self._source.report(self._failure.attempt)
            return Parting(self._not_before)
        return Parting(self._not_before, self._failure)

    def _open_lane(self) -> None:
        self._lanes += 1
        self._tasks.create_task(self._lane())

    async def _lane(self) -> None:  # hot: bench/relay
        connection: Connection | None = None
        entry: QueueEntry | None = None
        reporting: Awaitable[object] | None = None
        try:
            entry = await self._source.take(0.0)
            while entry is not None:
                if connection is None or not connection.fit:
                    old, connection = connection, None
                    if old is not None:
                        await self._leave(old)
                    connection = await self._ready(entry)
                    if connection is None:
                        break
                    self._standing += 1
                    self._grow()
                sent = await self._send(connection, entry)
                if sent is None:
                    continue  # the connection ended before its turn: on another one
                if reporting is not None:
                    await reporting
                reporting = self._report(sent)
                entry = None
                entry = await self._next()
        finally:
            self._lanes -= 1
            if entry is not None and not self._speaks_for_all(entry):
                self._source.give_back(entry)
            if connection is not None:
                self._standing -= 1
                self._tools.pool.park(self._key, connection)
            if reporting is not None:
                await reporting

    async def _leave(self, connection: Connection) -> None:
        """Part with a connection that has done its part."""
        self._standing -= 1
        if connection.over:
            connection.abort()
        else:
            await connection.quit()

    async def _ready(self, entry: QueueEntry) -> Connection | None:
        """Return a connection that is fit for a message: an idle one, or a new one. None when there is none."""
        started = self._tools.now()
        while True:
            wish = Wish(submitter(entry), self._proven(), first=self._lanes == 1)
            idle = self._tools.pool.take(self._key, wish)
            if idle is not None and idle.server in self._way.servers:
                return idle
            if idle is None:
                break
            idle.leave()
        try:
            connection = await self._tools.connector.connect(self._way, wish=wish)
        except NobodyAnswers as failure:
            self._failed_to_connect(entry, failure, started)
            return None
        if connection is None and wish.first:
            self._not_before = max(self._not_before, self._tools.comes_back(self._way.servers))
        return connection

    def _failed_to_connect(self, entry: QueueEntry, failure: NobodyAnswers, started: Micros) -> None:
        fields = {"destination": self._destination, "problem": str(failure)}
        log.info("no server took a connection", extra={"fields": fields})
        if self._lanes > 1:
            self._heed(Signal.REFUSED)
            return
        self._heed(Signal.UNREACHABLE)
        if self._failure is None:
            self._failure = nobody_answered(entry, failure, started=started, ended=self._tools.now())

    def _speaks_for_all(self, entry: QueueEntry) -> bool:
        return self._failure is not None and self._failure.attempt.entry is entry

    async def _send(self, connection: Connection, entry: QueueEntry) -> Sent | None:
        """Send an entry. A fault of ours holds up this entry only."""
        started = self._tools.now()
        try:
            return await self._tools.sender.send(connection, entry)
        except Exception:
            fields = {"trace": format_trace_id(entry.trace), "destination": self._destination}
            log.exception("an attempt failed by a fault of ours", extra={"fields": fields})
            connection.abort()
            results = deferred(entry, "4.3.0", "something went wrong on our side")
            ended = self._tools.now()
            return Sent(attempt_result(entry, connection, results, started=started, ended=ended), None)

    def _report(self, sent: Sent) -> Awaitable[object] | None:
        """Heed a result, and report it while the next message goes out already."""
        if sent.signal is not None:
            self._heed(sent.signal)
        if sent.signal is Signal.DROPPED and not self._allowed and self._failure is None:
            self._failure = pushed_back(sent.result)
            if self._failure is not None:  # the destination wants to be left alone
                return None
        return self._source.report(sent.result)

    def _heed(self, signal: Signal) -> None:
        decision = self._regulate(signal, self._standing)
        self._allowed = decision.connections
        self._not_before = decision.not_before

    def _grow(self) -> None:
        if self._lanes < self._allowed:
            self._open_lane()

    async def _next(self) -> QueueEntry | None:  # hot: bench/relay
        """The next entry of this lane; with work waiting, one more lane may be opened.

        When nothing is due, one lane lingers for what may come, and the others end.
        """
        if self._has_enough():
            return None
        self._lingers = True
        try:
            entry = await self._source.take(self._tools.linger)
        finally:
            self._lingers = False
        if entry is not None:
            self._grow()
        return entry

    def _has_enough(self) -> bool:
        """True when there are more lanes than allowed, or than there is work for."""
        return self._lingers or self._lanes > self._allowed
