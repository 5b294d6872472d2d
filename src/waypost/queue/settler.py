"""Writes the results of attempts to storage; trouble of the disk delays a known result, but never loses it.

A cancelled carrier loses no result either: each is settled in its own task, except plain successes, which are nearly
all results. Those are written together: successes that arrive while some are written wait for the next write.
"""

import asyncio
import logging
import random
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any

import msgspec
from msgspec.structs import replace

from waypost.journal import fields, phrase
from waypost.message.trace import Micros, format_trace_id, iso_time
from waypost.queue.carrier import AttemptResult, DestinationFailure
from waypost.queue.outcomes import (
    bare_outcome,
    discard,
    failed_round,
    outcome_of,
    plain_outcome,
    put_off,
    relayed_events,
)
from waypost.queue.reporter import Reporter
from waypost.queue.schedule import Schedule
from waypost.queue.waiting import Sleep, all_or_time, retry_while_unavailable
from waypost.storage import Damaged, Lease, NotFound, Outcome, Queue, StorageError

log = logging.getLogger(__name__)

_REFUSALS = (NotFound, Damaged)
"""Errors that storage would raise again: waiting does not help."""

_MOST_AT_ONCE = 200  # results that are written together


Done = Callable[[bool], None]
"""Called at the end in any case: with False when nothing was written, so that the entry is unchanged."""


class _Plain(msgspec.Struct, frozen=True):
    """A success on its way to storage. `settled` is the future of the caller, which may cancel it."""

    result: AttemptResult
    outcome: Outcome
    done: Done
    settled: asyncio.Future[None]

    def end(self, task: "asyncio.Task[None] | None" = None) -> None:
        """Tell the caller."""
        if not self.settled.done():
            self.settled.set_result(None)


class Settler:
    """Settles results in group commits: many at once share one. `lost` is told of leases that turn out to be lost."""

    def __init__(
        self,
        *,
        queue: Queue,
        reporter: Reporter,
        schedule: Schedule,
        now: Callable[[], Micros],
        random: random.Random,
        sleep: Sleep,
        lost: Callable[[Lease], None] = lambda lease: None,
    ) -> None:
        self._queue = queue
        self._lost = lost
        self._reporter = reporter
        self.schedule = schedule
        self._now = now
        self._random = random
        self._sleep = sleep
        self._open: set[asyncio.Task[None]] = set()
        self._plain: list[_Plain] = []
        self._writing = False

    def start(self, result: AttemptResult, done: Done) -> "asyncio.Future[None]":  # hot: bench/relay
        """Begin to settle a result; the returned future is done when it is settled. Cancelling it stops nothing."""
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
        """Write waiting successes until no more wait."""
        group: list[_Plain] = []
        try:
            while self._plain:
                group, self._plain = self._plain[:_MOST_AT_ONCE], self._plain[_MOST_AT_ONCE:]
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
            await retry_while_unavailable(
                "attempts' outcomes", lambda: self._queue.settle(outcomes), self._sleep, but=_REFUSALS
            )
        except Damaged as error:
            await self._write_halves(group, error)
            return
        except Exception:  # noqa: BLE001  whose fault it is shows when each is tried alone, and is told there
            for plain in group:
                self._task(self._settle(plain.result, plain.done)).add_done_callback(plain.end)
            return
        for plain in group:
            plain.done(True)
            plain.end()
            _tell(plain.outcome)

    async def _write_halves(self, group: list[_Plain], error: Damaged) -> None:
        """Storage refuses a part of a group: write each half separately, until the damaged result is alone."""
        if len(group) > 1:
            middle = len(group) // 2
            await self._write_together(group[:middle])
            await self._write_together(group[middle:])
            return
        (plain,) = group
        await self._set_aside(plain.outcome, error)
        plain.done(True)
        plain.end()

    async def _set_aside(self, outcome: Outcome, error: StorageError) -> None:
        """Take an entry out of the queue whose outcome storage refuses: mail that was sent must not be sent again."""
        await retry_while_unavailable(
            "an entry set aside",
            lambda: self._queue.set_aside(outcome, problem=str(error), now=self._now()),
            self._sleep,
        )

    async def fail(self, failure: DestinationFailure, lease: Lease, *, look: Micros | None, told: bool) -> None:
        """Count the failure of a destination for all waiting entries: one row, one event. Raises `StorageError`."""
        failed = failed_round(failure, lease, self.schedule, self._random.random(), look=look, told=told)
        again_at = await self._queue.fail(failed)
        if again_at is None:
            self._lost(lease)
            return
        about = {
            "destination": lease.destination,
            "host": failure.attempt.host,
            "problem": failed.error,
            "next_attempt": iso_time(again_at),
        }
        log.info("destination failed", extra={"fields": about})

    async def finish(self, seconds: float) -> None:
        """Wait for the results that are being settled, at most `seconds`; log those that are not written by then."""
        if self._open:
            await all_or_time(self._open, seconds, self._sleep)

    async def _settle(self, result: AttemptResult, done: Done) -> None:
        luck = self._random.random()
        written = False
        try:
            await self._insist(lambda: self._write(result, luck))
            written = True
        except _REFUSALS as error:
            # A mailbox was removed while its message was delivered, or a row is damaged.
            log.warning("an attempt came to nothing", extra={"fields": {**_named(result), "error": str(error)}})
            await self._put_off(result, luck, error)
            written = True
        except asyncio.CancelledError:
            log.error("an attempt's outcome could not be stored", extra={"fields": _named(result)})
            raise
        finally:
            done(written)

    async def _insist(self, write: Callable[[], Awaitable[None]]) -> None:
        await retry_while_unavailable("an attempt's outcome", write, self._sleep, but=_REFUSALS)

    async def _put_off(self, result: AttemptResult, luck: float, error: StorageError) -> None:
        """Write as much of a refused result as storage accepts; the other recipients are tried again by the schedule.

        If storage refuses that, too, the entry is set aside.
        """
        later = put_off(result, "something went wrong on our side")
        bare = bare_outcome(later, self.schedule)
        if bare.deferral is not None:
            for write in (lambda: self._write(later, luck), lambda: self._settle_one(bare)):
                try:
                    await self._insist(write)
                except _REFUSALS as again:
                    error = again
                else:
                    return
        await self._set_aside(replace(bare, events=tuple(relayed_events(later, self._now()))), error)

    async def _write(self, result: AttemptResult, luck: float) -> None:
        try:
            outcome = await outcome_of(
                result, schedule=self.schedule, reporter=self._reporter, luck=luck, now=self._now()
            )
            await self._settle_one(outcome)
        except StorageError:
            raise
        except MemoryError as error:
            raise StorageError("there is not enough memory") from error
        except Exception:
            # Without this the message would be sent again and again. The bug is ours, not the recipients' fault.
            log.exception("an attempt's outcome could not be told", extra={"fields": _named(result)})
            await self._settle_one(bare_outcome(result, self.schedule))

    async def _settle_one(self, outcome: Outcome) -> None:
        try:
            lost = await self._queue.settle([outcome])
        finally:
            discard(outcome.reports)
        for lease in lost:
            self._lost(lease)
        _tell(outcome)


def _tell(outcome: Outcome) -> None:
    """Log what was written."""
    if not log.isEnabledFor(logging.INFO):
        return
    for event in (*outcome.events, *(report.events[0] for report in outcome.reports)):
        log.info(phrase(event.details), extra={"fields": {"trace": format_trace_id(event.trace), **fields(event)}})


def _named(result: AttemptResult) -> dict[str, object]:
    entry = result.entry
    return {"trace": format_trace_id(entry.trace), "entry": entry.id, "destination": entry.destination}
