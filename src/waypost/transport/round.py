"""One visit to a destination: lanes that carry its due entries, as many at once as the regulator allows.

A lane is a task with one connection at a time. The first lane goes alone until a server has answered, so that a
destination that is down costs one attempt, whatever waits for it; more follow while there is work. A lane that
fails to connect while others are at work gives its entry back to them. When the last one fails, the failure is
the whole destination's: the round ends with it, and the queue counts it for all entries that are due.

Where mail leaves from several sources (`egress.py`), each has its group of lanes and its own pace. A lane whose next
entry has another source puts its connection down and takes one of that source, or leaves the entry to the lanes that
are there. When all lanes of a source have failed, the others' entries are still looked for: the failure is the whole
destination's when no source got through, and else it is counted for the entries of that source alone.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from msgspec.structs import replace

from waypost.message.trace import Micros, format_trace_id
from waypost.queue.carrier import AttemptResult, CarryResult, DestinationFailure, EntrySource
from waypost.queue.places import submitter
from waypost.storage import QueueEntry
from waypost.transport.connection import OutboundConnection
from waypost.transport.connector import Connector, NobodyAnswers
from waypost.transport.egress import EgressSources
from waypost.transport.lanes import Group, Groups, Regulate
from waypost.transport.next_hops import NextHops, Server
from waypost.transport.pool import Pool, Wish
from waypost.transport.regulator import Signal
from waypost.transport.results import attempt_result, deferred, nobody_answered, of_one_source, pushed_back, stopped
from waypost.transport.sender import Sender, Sent

log = logging.getLogger(__name__)

_MOST_COUNTED = 50  # failures that are on their way to the disk


@dataclass(frozen=True, slots=True)
class RelayContext:
    """What all rounds of a relay share. `linger` is how many seconds a lane waits for one more entry.

    `comes_back` says when a destination is tried again that had no slot for its only connection, of these servers.
    `ceiling` is the most connections of one destination, from all sources together.
    """

    pool: Pool
    connector: Connector
    sender: Sender
    sources: EgressSources
    now: Callable[[], Micros]
    linger: float
    comes_back: Callable[[tuple[Server, ...]], Micros]
    ceiling: int


class Round:
    """Carries what is due for one destination along one way."""

    def __init__(
        self,
        destination: str,
        way: NextHops,
        source: EntrySource,
        context: RelayContext,
        regulate: Regulate,
        proven: Callable[[], bool],
    ) -> None:
        self._destination = destination
        self._way = way
        self._families = way.families
        self._source = source
        self._context = context
        self._regulate = regulate
        self._proven = proven
        key = (frozenset(way.servers) if way.shared else destination, way.lmtp, way.tls, way.username)
        self._groups = Groups(context.sources, way.families, key, regulate, context.ceiling)
        self._lanes = 0
        self._lingers = False  # a lane waits for more to come due
        self._comes_back: Micros = 0  # when there may be a slot
        self._counted: list[Awaitable[object]] = []  # failures that were counted for entries, on their way to the disk
        self._tasks: asyncio.TaskGroup

    async def run(self) -> CarryResult:
        """Work until nothing is due, or the destination is to be left alone."""
        try:
            async with asyncio.TaskGroup() as self._tasks:
                self._open_lane()
        except BaseException:
            for group in self._groups:
                if group.failure is not None:
                    self._source.give_back(group.failure.attempt.entry)
                self._give_back_waiting(group)
            raise
        failure = await self._conclude()
        return CarryResult(max(self._comes_back, self._groups.not_before), failure)

    def _open_lane(self) -> None:
        self._lanes += 1
        self._tasks.create_task(self._lane())

    async def _lane(self) -> None:  # hot: bench/relay
        connection: OutboundConnection | None = None
        group: Group | None = None
        entry: QueueEntry | None = None
        reporting: Awaitable[object] | None = None
        try:
            entry = await self._source.take(0.0)
            while entry is not None:
                wanted = self._groups.of(entry)
                if group is not wanted or (group.stopped and (connection is None or not connection.fit)):
                    if group is not None:
                        self._leave_group(group, connection)
                    connection, group = None, None
                    if not await self._join(wanted, entry):
                        entry = None
                        entry = await self._look_further()
                        continue
                    group = wanted
                if connection is None or not connection.fit:
                    old, connection = connection, None
                    if old is not None:
                        await self._leave(group, old)
                    connection = await self._ready(group, entry)
                    if connection is None:
                        if group.stopped and self._groups.may_look_further:
                            if not self._groups.speaks_for_all(entry):
                                self._source.give_back(entry)
                            entry = None
                            entry = await self._look_further()
                            continue
                        if self._groups.of(entry) is not group and not self._groups.speaks_for_all(entry):
                            continue  # its source is no address of this machine
                        break
                    group.standing += 1
                    group.connected = True
                    self._grow()
                sent = await self._send(connection, entry)
                if sent is None:
                    continue  # the connection ended before its turn: on another one
                if reporting is not None:
                    await reporting
                reporting = self._report(group, sent)
                entry = None
                entry = await self._next(group)
        finally:
            self._lanes -= 1
            if entry is not None and not self._groups.speaks_for_all(entry):
                self._source.give_back(entry)
            if group is not None:
                self._leave_group(group, connection)
            if reporting is not None:
                await reporting

    async def _leave(self, group: Group, connection: OutboundConnection) -> None:
        """Part with a connection that has done its part."""
        group.standing -= 1
        if connection.over:
            connection.abort()
        else:
            await connection.quit()

    # -- sources -------------------------------------------------------------------------------------------

    async def _join(self, group: Group, entry: QueueEntry) -> bool:
        """Count a lane for the source of an entry, or else leave the entry to others. Returns whether it is counted."""
        if group.stopped:
            if not group.covers(entry, self._context.now()):
                await self._start_again(group)
            elif self._groups.get_through:
                await self._count_failure(group, entry)
                return False
        if group.lanes >= group.allowed or (group.lanes and not group.connected):
            if self._groups.may_set_aside:
                self._groups.set_aside(group, entry)
            else:
                self._source.give_back(entry)
            return False
        group.lanes += 1
        return True

    async def _start_again(self, group: Group) -> None:
        """Let a source try again that was stopped in this round, and has rested."""
        failure, group.failure = group.failure, None
        group.heed(replace(self._regulate(group.name, None, 0), connections=1), 0)
        if failure is not None:
            await self._source.report(of_one_source(failure).attempt)

    def _leave_group(self, group: Group, connection: OutboundConnection | None) -> None:
        if connection is not None:
            group.standing -= 1
            self._context.pool.park(group.key, connection)
        group.lanes -= 1
        if not group.lanes and not group.stopped:
            self._give_back_waiting(group)

    def _give_back_waiting(self, group: Group) -> None:
        while group.waiting:
            self._source.give_back(self._groups.take_up(group))

    async def _look_further(self) -> QueueEntry | None:
        return await self._source.take(0.0) if self._groups.may_look_further else None

    async def _count_failure(self, group: Group, entry: QueueEntry) -> None:
        """Count the failure of a source for an entry that would have left from it."""
        failure = group.failure
        if failure is None:
            result = stopped(entry, group.name, self._context.now())
        else:
            result = of_one_source(failure).of(entry)
        self._counted.append(self._source.report(result))
        if len(self._counted) >= _MOST_COUNTED:
            await self._write_counted()

    async def _write_counted(self) -> None:
        counted, self._counted = self._counted, []
        await asyncio.gather(*counted)

    async def _conclude(self) -> DestinationFailure | None:
        """Report the failures of sources, and return that of the whole destination, if there is one."""
        through, whole = self._groups.get_through, self._groups.all_stopped
        for group in self._groups:
            while through and group.stopped and group.waiting:
                await self._count_failure(group, self._groups.take_up(group))
            self._give_back_waiting(group)
        await self._write_counted()
        failures = [group.failure for group in self._groups if group.failure is not None]
        if not (whole and all(failure.permanent for failure in failures)):
            failures = sorted(map(of_one_source, failures), key=lambda failure: failure.attempt.ended)
        last = failures.pop() if whole and failures else None
        for failure in failures:
            await self._source.report(failure.attempt)
        return last

    # -- connections ---------------------------------------------------------------------------------------

    async def _ready(self, group: Group, entry: QueueEntry) -> OutboundConnection | None:
        """Return a connection that is fit for a message: an idle one, or a new one. None if there is none."""
        started = self._context.now()
        while True:
            wish = Wish(submitter(entry), self._proven(), first=self._lanes == 1)
            idle = self._context.pool.take(group.key, wish)
            if idle is not None and idle.server in self._way.servers:
                return idle
            if idle is None:
                break
            idle.leave()
        await self._keep_ceiling()
        kept = group.egress.source is not None and group.name == entry.source
        family = group.egress.source.address.version if kept and group.egress.source is not None else None
        try:
            connection = await self._context.connector.connect(self._way, group.egress, wish=wish, family=family)
        except NobodyAnswers as failure:
            if self._groups.of(entry) is group:
                self._failed_to_connect(group, entry, failure, started)
            return None
        if connection is None and wish.first:
            self._comes_back = max(self._comes_back, self._context.comes_back(self._way.servers))
        return connection

    async def _keep_ceiling(self) -> None:
        """Quit idle connections from other sources that would be too many for the destination beside one more.

        One from each source may stand in any case, else each message would need a connection of its own.
        """
        pool = self._context.pool
        keys = self._groups.keys
        if len(keys) == 1:
            return
        while True:
            idle = [key for key in keys if pool.idle(key)]
            if not idle or sum(map(pool.idle, idle)) + self._lanes <= max(self._context.ceiling, len(keys)):
                return
            await pool.quit_idle(idle[0])

    def _failed_to_connect(self, group: Group, entry: QueueEntry, failure: NobodyAnswers, started: Micros) -> None:
        fields = {"destination": self._destination, "source": group.name, "problem": str(failure)}
        log.info("no server took a connection", extra={"fields": fields})
        if group.lanes > 1:
            self._heed(group, Signal.REFUSED)
            return
        self._heed(group, Signal.UNREACHABLE)
        if group.failure is None:
            failed = nobody_answered(entry, failure, started=started, ended=self._context.now())
            group.failure = replace(failed, attempt=self._with_source(failed.attempt))

    async def _send(self, connection: OutboundConnection, entry: QueueEntry) -> Sent | None:
        """Send an entry. A fault of ours holds up this entry only."""
        started = self._context.now()
        try:
            return await self._context.sender.send(connection, entry)
        except Exception:
            fields = {"trace": format_trace_id(entry.trace), "destination": self._destination}
            log.exception("an attempt failed by a fault of ours", extra={"fields": fields})
            connection.abort()
            results = deferred(entry, "4.3.0", "something went wrong on our side")
            ended = self._context.now()
            return Sent(attempt_result(entry, connection, results, started=started, ended=ended), None)

    def _report(self, group: Group, sent: Sent) -> Awaitable[object] | None:
        """Heed a result, and report it while the next message goes out already."""
        if sent.signal is not None:
            self._heed(group, sent.signal)
        result = self._with_source(sent.result)
        if sent.signal is Signal.DROPPED and group.stopped and group.failure is None:
            group.failure = pushed_back(result)
            if group.failure is not None:  # the destination wants to be left alone
                return None
        return self._source.report(result)

    def _with_source(self, result: AttemptResult) -> AttemptResult:  # hot: bench/relay
        """Return a result with the source that its message keeps, and why that is another one than before."""
        sources, entry = self._context.sources, result.entry
        if entry.source is None and sources.none:
            return result
        keeps = sources.keeps(entry, result.source)
        moved = sources.moved(entry, result.source, self._families)
        return result if keeps is moved is None else replace(result, keeps=keeps, moved=moved)

    def _heed(self, group: Group, signal: Signal) -> None:
        decision = self._regulate(group.name, signal, group.standing)
        group.heed(decision, 0 if decision.connections else self._context.now())

    # -- how many lanes ------------------------------------------------------------------------------------

    def _grow(self) -> None:
        if self._lanes < self._groups.allowed and self._groups.may_set_aside:
            self._open_lane()

    async def _next(self, group: Group) -> QueueEntry | None:  # hot: bench/relay
        """The next entry of this lane; with work waiting, one more lane may be opened.

        When nothing is due, one lane lingers for what may come, and the others end.
        """
        if group.stopped:
            return await self._look_further()
        if group.lanes > group.allowed:
            return None
        if group.waiting:
            return self._groups.take_up(group)
        if self._lingers or self._lanes > self._groups.allowed:
            return None
        self._lingers = True
        try:
            entry = await self._source.take(self._context.linger)
        finally:
            self._lingers = False
        if entry is not None:
            self._grow()
        return entry
