"""Reads the due entries of one destination for its carrier, a page at a time: memory grows only with mail in flight."""

import asyncio
import logging
from collections import deque
from collections.abc import Callable

import msgspec
from msgspec.structs import replace

from waypost.message.trace import Micros
from waypost.queue.carrier import AttemptResult, DestinationFailure, Fate, RecipientResult
from waypost.queue.outcomes import TIME_IS_UP
from waypost.queue.places import Holder, submitter
from waypost.queue.schedule import Again, after_failure, too_late
from waypost.queue.settler import Settler
from waypost.queue.waiting import Sleep, event_or_time
from waypost.storage import EntryId, Lease, Queue, QueueEntry, StorageError

log = logging.getLogger(__name__)

_PAGE = 20
_FRESH = 0.5  # seconds that a page is used: then it is read again, to see entries held, deleted or added meanwhile
_PACE = 0.01  # seconds between two pages for a caller that waits anyway: entries that arrive meanwhile share a read
_SPREAD_PAGE = 100


class DestinationSource:
    """Implements `EntrySource` over the queue, for as long as a worker owns the destination."""

    def __init__(
        self,
        lease: Lease,
        *,
        queue: Queue,
        settler: Settler,
        now: Callable[[], Micros],
        monotonic: Callable[[], float],
        sleep: Sleep,
    ) -> None:
        self.lease = lease
        self._queue = queue
        self._settler = settler
        self._now = now
        self._monotonic = monotonic
        self._sleep = sleep
        self._page: deque[QueueEntry] = deque()
        self._page_read = 0.0
        self._dry = False  # nothing was due after the page, and no notice of new entries came since
        self._in_flight: set[EntryId] = set()
        self._reading = asyncio.Lock()
        self._noticed = asyncio.Event()
        self._closed = False
        self.reported = 0
        """How many attempts were reported: a carrier that reports nothing is not called again at once."""
        self.unreadable = False
        """True when storage could not be read."""
        self.lost = False
        """True when the lease ran out, and another worker may own the destination."""

    async def take(self, wait: float) -> QueueEntry | None:
        """Return the next due entry, waiting up to `wait` seconds for one; None when no entry is due by then."""
        deadline = self._monotonic() + wait
        while True:
            noticed = self._noticed  # read before the queue, so that no later notice is missed
            entry = await self._next()
            left = deadline - self._monotonic()
            if entry is not None or self._closed or self.unreadable or left <= 0:
                return entry
            if await event_or_time(noticed, left, self._sleep) and not self._closed:
                await self._keep_pace()

    async def submitters(self) -> list[Holder]:
        """Return the submitters of the entries that are due next, each once, in the order of the entries."""
        async with self._reading:
            if not self._closed and self._is_stale():
                await self._read_page()
        return list(dict.fromkeys(map(submitter, self._page)))

    def put_down(self) -> None:
        """Forget the page: its entries will not be taken soon."""
        self._page.clear()
        self._dry = False

    async def _keep_pace(self) -> None:
        rest = self._page_read + _PACE - self._monotonic()
        if rest > 0:
            await self._sleep(rest)

    def report(self, result: AttemptResult) -> "asyncio.Future[None]":  # hot: bench/relay
        """Begin to settle an attempt; the returned future is done when its outcome is durable."""
        self.reported += 1
        return self._settle(result)

    def give_back(self, entry: QueueEntry) -> None:
        """Give an entry back untried; it stays due, and is the next again."""
        self._in_flight.discard(entry.id)
        self._page.clear()
        self._dry = False

    def notice(self) -> None:
        """The destination's entries have changed: wake all waiting `take`s."""
        self._dry = False
        noticed, self._noticed = self._noticed, asyncio.Event()
        noticed.set()

    def close(self) -> None:
        """Give out no more entries. Attempts in flight may still be reported."""
        self._closed = True
        self._page.clear()
        self.notice()

    async def spread(self, failure: DestinationFailure) -> None:
        """Count a failure of the destination as a whole for every entry that was due then.

        So each entry waits by its own schedule, is reported, and expires, though only one of them was really tried. A
        temporary failure is one row and one event (decision 0007); only reports to senders are written for each entry.
        Raises `StorageError`.
        """
        self.reported += 1
        attempt = failure.attempt
        if not failure.permanent:
            told = await self._look_after(failure)
            await self._settler.fail(failure, self.lease, look=told.look, told=told.tried)
            self._in_flight.discard(attempt.entry.id)
            return
        await self._settle(attempt)
        while not self._closed:
            entries = await self._queue.due(
                self.lease, now=attempt.ended, limit=_SPREAD_PAGE, exclude=list(self._in_flight)
            )
            if not entries:
                return
            await asyncio.gather(*(self._settle(failure.of(entry)) for entry in entries))

    async def _look_after(self, failure: DestinationFailure) -> "_Looked":
        """Settle, one by one, the entries that this failure makes too old, or old enough for a notice of delay."""
        schedule, now, tried_one = self._settler.schedule, failure.attempt.ended, failure.attempt.entry.id
        looks: list[Micros] = []
        tried = False
        after: object = None
        while True:
            page = await self._queue.overdue(
                self.lease.destination, now=now, notice=schedule.delayed_notice, expire=schedule.expire, after=after
            )
            settling = []
            for found in page.entries:
                entry = replace(found, lease=self.lease)
                later = after_failure(entry, now, schedule, 0.0)
                if isinstance(later, Again) and not later.notice:
                    looks.append(later.next_attempt)
                elif entry.id == tried_one or entry.id not in self._in_flight:
                    tried = tried or entry.id == tried_one
                    settling.append(self._settle(failure.of(entry)))
            await asyncio.gather(*settling)
            if page.look is not None:
                looks.append(page.look)
            after = page.after
            if after is None:
                return _Looked(min(looks, default=None), tried)
            await asyncio.sleep(0)  # let other tasks run

    def _settle(self, result: AttemptResult) -> "asyncio.Future[None]":
        entry = result.entry.id
        self._in_flight.add(entry)
        return self._settler.start(result, lambda written: self._settled(entry, written))

    def _settled(self, entry: EntryId, written: bool) -> None:
        self._in_flight.discard(entry)
        if not written:  # it is due again
            self._dry = False

    async def _next(self) -> QueueEntry | None:  # hot: bench/relay
        """Take the next entry of the page, or of a new one; entries past their sender's deadline are returned."""
        while not self._closed:
            if self._reading.locked() or self._is_stale():
                async with self._reading:
                    if self._is_stale():  # no other task has read it meanwhile
                        await self._read_page()
            if not self._page:
                return None
            entry = self._page.popleft()
            self._in_flight.add(entry.id)
            now = self._now()
            if not too_late(entry, now):
                return entry
            await self._settle(_deadline_passed(entry, now))
        return None

    def _is_stale(self) -> bool:
        return self._monotonic() - self._page_read > _FRESH or not (self._page or self._dry)

    async def _read_page(self) -> None:
        self._page.clear()
        self._page_read = self._monotonic()
        self._dry = True  # unless a notice comes while it is read
        try:
            entries = await self._queue.due(self.lease, now=self._now(), limit=_PAGE, exclude=list(self._in_flight))
        except StorageError as error:
            self.unreadable = True
            self._dry = False
            fields = {"destination": self.lease.destination, "error": str(error)}
            log.warning("the queue can't be read", extra={"fields": fields})
            return
        self.unreadable = False
        self._dry = self._dry and len(entries) < _PAGE
        self._page.extend(entry for entry in entries if entry.id not in self._in_flight)


class _Looked(msgspec.Struct, frozen=True):
    """When the next entry must be looked at, and whether the entry that was tried is settled."""

    look: Micros | None
    tried: bool


def _deadline_passed(entry: QueueEntry, now: Micros) -> AttemptResult:
    """Return the result of an entry whose deadline passed before it was tried (RFC 2852, mode R)."""
    problem = "the time by which it had to be delivered is over"
    results = (RecipientResult(one, Fate.FAILED, TIME_IS_UP, problem=problem) for one in entry.recipients)
    return AttemptResult(entry, started=now, ended=now, results=tuple(results))
