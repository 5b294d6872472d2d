"""Writes what attempts came to, whatever the disk says meanwhile: a result that is known is never lost.

Each result is settled in a task of its own, so that a carrier which is cancelled leaves no result behind.
"""

import asyncio
import logging
import random
from collections.abc import Callable

from waypost.message.trace import Micros, format_trace_id
from waypost.queue.carrier import AttemptResult
from waypost.queue.outcomes import bare_outcome, discard, outcome_of
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

    def start(self, result: AttemptResult, done: Callable[[], None]) -> "asyncio.Task[None]":
        """Settle a result; `done` is called at the end, whatever happened. The task may be awaited with a shield."""
        task = asyncio.get_running_loop().create_task(self._settle(result, done))
        self._open.add(task)
        task.add_done_callback(self._open.discard)
        return task

    async def finish(self, seconds: float) -> None:
        """Wait for what is being settled; what the disk does not take within some seconds is left, and logged."""
        if self._open:
            await all_or_time(self._open, seconds, self._sleep)

    async def _settle(self, result: AttemptResult, done: Callable[[], None]) -> None:
        luck = self._random.random()
        try:
            await insist("an attempt's outcome", lambda: self._write(result, luck), self._sleep)
        except NotFound as error:
            # A mailbox or account went while its message was delivered: the entry stays due, and is resolved afresh.
            log.warning("an attempt came to nothing", extra={"fields": {**_named(result), "error": str(error)}})
        except asyncio.CancelledError:
            log.error("an attempt's outcome could not be stored", extra={"fields": _named(result)})
            raise
        finally:
            done()

    async def _write(self, result: AttemptResult, luck: float) -> None:
        try:
            outcome = await outcome_of(
                result, schedule=self._schedule, reporter=self._reporter, luck=luck, now=self._now()
            )
            await self._settle_one(outcome)
        except StorageError:
            raise
        except Exception:
            # Without this the message would be sent again and again: the fault is ours, not its recipients'.
            log.exception("an attempt's outcome could not be told", extra={"fields": _named(result)})
            await self._settle_one(bare_outcome(result, self._schedule))

    async def _settle_one(self, outcome: Outcome) -> None:
        try:
            await self._queue.settle([outcome])
        finally:
            discard(outcome.reports)
        if log.isEnabledFor(logging.INFO):
            for event in (*outcome.events, *(report.events[0] for report in outcome.reports)):
                fields = {"trace": format_trace_id(event.trace), **event.details}
                log.info(_PHRASES[event.station], extra={"fields": fields})


def _named(result: AttemptResult) -> dict[str, object]:
    entry = result.entry
    return {"trace": format_trace_id(entry.trace), "entry": entry.id, "destination": entry.destination}
