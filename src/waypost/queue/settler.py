"""Writes what attempts came to, whatever the disk says meanwhile: a result that is known is never lost.

A carrier which is cancelled leaves no result behind: each is settled in a task of its own, but for plain successes,
which are nearly all there is. Those go to storage together: what comes while some are written waits for the next time.
"""

import asyncio
import logging
import random
from collections.abc import Callable, Coroutine
from typing import Any

import msgspec

from waypost.message.trace import Micros, format_trace_id, iso_time
from waypost.queue.carrier import AttemptResult
from waypost.queue.outcomes import bare_outcome, discard, outcome_of, plain_outcome
from waypost.queue.reporter import Reporter
from waypost.queue.schedule import Schedule
from waypost.queue.waiting import Sleep, all_or_time, insist
from waypost.storage import NotFound, Outcome, Queue, Station, StorageError

log = logging.getLogger(__name__)

_PHRASES = {
    Station.ATTEMPT: "delivery failed",
    Station.RELAYED: "message relayed",
    Station.DELIVERED: "message delivered",
    Station.QUEUED: "message queued",
    Station.DELAYED: "sender told of a delay",
    Station.RETURNED: "message returned",
    Station.GENERATED: "report made",
}


Done = Callable[[bool], None]
"""Told at the end, whatever happened: False when nothing was written, so that the entry is as it was."""


class _Plain(msgspec.Struct, frozen=True):
    """A success on its way to storage. `settled` belongs to who waits; nobody is missed when it is cancelled."""

    result: AttemptResult
    outcome: Outcome
    done: Done
    settled: asyncio.Future[None]

    def end(self, task: "asyncio.Task[None] | None" = None) -> None:
        """Tell who waits."""
        if not self.settled.done():
            self.settled.set_result(None)


class Settler:
    """Settles results in group commits: many at once share one."""

    def __init__(
        self,
        *,
        queue: Queue,
        reporter: Reporter,
        schedule: Schedule,
        now: Callable[[], Micros],
        random: random.Random,
        sleep: Sleep,
    ) -> None:
        self._queue = queue
        self._reporter = reporter
        self._schedule = schedule
        self._now = now
        self._random = random
        self._sleep = sleep
        self._open: set[asyncio.Task[None]] = set()
        self._plain: list[_Plain] = []
        self._writing = False

    def start(self, result: AttemptResult, done: Done) -> "asyncio.Future[None]":  # hot: bench/relay
        """Settle a result. What is returned tells when that is done; being cancelled does not stop it."""
        outcome = plain_outcome(result, self._now())
        if outcome is None:
            return asyncio.shield(self._task(self._settle(result, done)))
        plain = _Plain(result, outcome, done, asyncio.get_running_loop().create_future())
        self._plain.append(plain)
        if not self._writing:
            self._writing = True
            self._task(self._write_plain())
        return plain.settled

    def _task(self, work: Coroutine[Any, Any, None]) -> "asyncio.Task[None]":
        task = asyncio.get_running_loop().create_task(work)
        self._open.add(task)
        task.add_done_callback(self._open.discard)
        return task

    async def _write_plain(self) -> None:  # hot: bench/relay
        """Write what waits, until nothing does."""
        group: list[_Plain] = []
        try:
            while self._plain:
                group, self._plain = self._plain, []
                await self._write_together(group)
                group = []
        except asyncio.CancelledError:
            for plain in (*group, *self._plain):
                log.error("an attempt's outcome could not be stored", extra={"fields": _named(plain.result)})
                plain.done(False)
                plain.settled.cancel()
            raise
        finally:
            self._writing = False

    async def _write_together(self, group: list[_Plain]) -> None:
        outcomes = [plain.outcome for plain in group]
        try:
            await insist("attempts' outcomes", lambda: self._queue.settle(outcomes), self._sleep)
        except Exception:  # noqa: BLE001  whose fault it is shows when each is tried alone, and is told there
            for plain in group:
                self._task(self._settle(plain.result, plain.done)).add_done_callback(plain.end)
            return
        for plain in group:
            plain.done(True)
            plain.end()
            _tell(plain.outcome)

    async def finish(self, seconds: float) -> None:
        """Wait for what is being settled; what the disk does not take within some seconds is left, and logged."""
        if self._open:
            await all_or_time(self._open, seconds, self._sleep)

    async def _settle(self, result: AttemptResult, done: Done) -> None:
        luck = self._random.random()
        written = False
        try:
            await insist("an attempt's outcome", lambda: self._write(result, luck), self._sleep)
            written = True
        except NotFound as error:
            # A mailbox or account went while its message was delivered: the entry stays due, and is resolved afresh.
            log.warning("an attempt came to nothing", extra={"fields": {**_named(result), "error": str(error)}})
        except asyncio.CancelledError:
            log.error("an attempt's outcome could not be stored", extra={"fields": _named(result)})
            raise
        finally:
            done(written)

    async def _write(self, result: AttemptResult, luck: float) -> None:
        try:
            outcome = await outcome_of(
                result, schedule=self._schedule, reporter=self._reporter, luck=luck, now=self._now()
            )
            await self._settle_one(outcome)
        except StorageError:
            raise
        except MemoryError as error:
            raise StorageError("there is not enough memory") from error
        except Exception:
            # Without this the message would be sent again and again: the fault is ours, not its recipients'.
            log.exception("an attempt's outcome could not be told", extra={"fields": _named(result)})
            await self._settle_one(bare_outcome(result, self._schedule))

    async def _settle_one(self, outcome: Outcome) -> None:
        try:
            await self._queue.settle([outcome])
        finally:
            discard(outcome.reports)
        _tell(outcome)


def _tell(outcome: Outcome) -> None:
    """Log what was written."""
    if not log.isEnabledFor(logging.INFO):
        return
    for event in (*outcome.events, *(report.events[0] for report in outcome.reports)):
        fields = {"trace": format_trace_id(event.trace), **event.details}
        if fields.get("next_attempt"):
            fields["next_attempt"] = iso_time(fields["next_attempt"])
        log.info(_PHRASES[event.station], extra={"fields": fields})


def _named(result: AttemptResult) -> dict[str, object]:
    entry = result.entry
    return {"trace": format_trace_id(entry.trace), "entry": entry.id, "destination": entry.destination}
