"""The dispatcher of a worker: owns destinations that have due entries, and lets a carrier work on each.

Wakes by notices of the bus, by a timer for the next due destination, and by a slow sweep for notices that were lost.
It decides when; carriers decide how. No trouble of the disk ends it, and nothing is lost meanwhile.
"""

import asyncio
import logging
import random
import time
from collections.abc import Callable, Collection, Iterable, Sequence

from msgspec.structs import replace

from waypost.message.trace import Micros
from waypost.queue.admission import DestinationAdmission
from waypost.queue.carrier import Carrier, CarryResult
from waypost.queue.clock_repair import pull_back
from waypost.queue.clocks import ClockWatch
from waypost.queue.reporter import Reporter
from waypost.queue.schedule import Schedule
from waypost.queue.settler import Settler
from waypost.queue.source import DestinationSource
from waypost.queue.waiting import Backoff, Sleep, all_or_time, event_or_time, retry_while_unavailable
from waypost.storage import Bus, Lease, Notice, Pacing, Queue, StorageError

log = logging.getLogger(__name__)

_SECOND = 1_000_000
_LEASE = 60  # seconds
_RENEW_EVERY = 20.0
_SWEEP_EVERY = 30.0
_SHORTEST_NAP = 0.05  # seconds, so that an entry that is due now does not cause a busy loop
_AFTER_NOTHING = 1.0  # seconds that a destination rests if its carrier tried nothing
_AFTER_TROUBLE = 10.0  # seconds that it rests if its entries could not be read
_AFTER_BUG = 60.0  # seconds that it rests if its carrier failed by a bug of ours
_MOST_WANTED = 1000
_BEGIN_AT_ONCE = 10  # destinations whose rounds begin in one turn of the event loop: hundreds may be due together
_IN_VAIN = 0.25  # seconds for which notices of a destination that could not be claimed are ignored
_LAST_WORDS = 5.0  # seconds for outcomes that are being written when the grace is over


class Dispatcher:
    """Owns and works destinations until it is stopped. `owner` is the worker's number; make one a worker.

    `carrier_for` gives the carrier of a destination; `most_destinations` are worked at once, in shares of those who
    sent the mail, and those of `apart` besides, which need no place. `answered` says which ones answered lately,
    `pacing` how one is paced that is carried now.
    `monotonic` and `sleep` are for tests.
    """

    def __init__(
        self,
        *,
        queue: Queue,
        carrier_for: Callable[[str], Carrier],
        reporter: Reporter,
        schedule: Schedule,
        owner: int,
        bus: Bus,
        now: Callable[[], Micros],
        random: random.Random,
        most_destinations: int = 500,
        apart: Collection[str] = (),
        answered: Callable[[str], bool] = lambda _: False,
        pacing: Callable[[str], Sequence[Pacing]] = lambda _: (),
        monotonic: Callable[[], float] = time.monotonic,
        sleep: Sleep = asyncio.sleep,
    ) -> None:
        self._queue = queue
        self._carrier_for = carrier_for
        self._schedule = schedule
        self._owner = owner
        self._pacing = pacing
        self._noted: dict[str, list[tuple[str | None, int, str]]] = {}
        self._bus = bus
        self._now = now
        self._admission = DestinationAdmission(
            most_destinations, apart=apart, answered=answered, now=now, monotonic=monotonic
        )
        self._monotonic = monotonic
        self._sleep = sleep
        self._settler = Settler(
            queue=queue,
            reporter=reporter,
            schedule=schedule,
            now=now,
            random=random,
            sleep=sleep,
            lost=self._lost,
        )
        self._watch = ClockWatch(now, monotonic)
        self._claims_from = float("-inf")
        self._leased_until: Micros = 0  # when the first of our leases ends
        self._wanted: dict[str, None] = {}
        self._in_vain: dict[str, float] = {}  # until when, by the monotonic clock
        self._later: asyncio.Task[None] | None = None  # wakes the dispatcher when such a time is over
        self._sources: dict[str, DestinationSource] = {}
        self._carries: set[asyncio.Task[None]] = set()
        self._pulling: set[asyncio.Task[int]] = set()
        self._woken = asyncio.Event()
        self._stopping = asyncio.Event()
        self._ended = asyncio.Event()
        self._running = False
        self._grace = 0.0

    async def run(self) -> None:
        """Work until `stop`. An error that it raises is a bug of ours."""
        self._running = True
        self._bus.subscribe("destination", self._noticed)
        claiming = asyncio.create_task(self._claim_for_ever())
        renewing = asyncio.create_task(self._renew_for_ever())
        stopping = asyncio.create_task(self._stopping.wait())
        try:
            await asyncio.wait((claiming, renewing, stopping), return_when=asyncio.FIRST_COMPLETED)
            for loop in (claiming, renewing):
                if loop.done():
                    loop.result()
            claiming.cancel()
            await self._wind_up()
            renewing.cancel()
            await self._give_leases_back()
        finally:
            for task in (claiming, renewing, stopping, *self._carries, *self._pulling, *self._laters()):
                task.cancel()
            self._ended.set()

    def _laters(self) -> "tuple[asyncio.Task[None], ...]":
        return () if self._later is None else (self._later,)

    async def stop(self, grace: float) -> None:
        """Take no more entries; carriers may go on for `grace` seconds. Returns when `run` is about to return."""
        self._grace = grace
        self._stopping.set()
        if self._running:
            await self._ended.wait()

    def _noticed(self, notice: Notice) -> None:  # hot: bench/relay
        source = self._sources.get(notice.name)
        if source is not None:
            source.notice()
            self._admission.noticed(notice.name)
            return
        if len(self._wanted) < _MOST_WANTED:  # destinations past this limit are found by their due time
            self._wanted[notice.name] = None
        rest = self._in_vain.get(notice.name, 0.0) - self._monotonic()
        if rest <= 0:
            self._woken.set()
        elif self._later is None:
            self._later = asyncio.create_task(self._wake_later(rest))

    async def _wake_later(self, seconds: float) -> None:
        """Delay the next claim of a destination that could not be claimed: a notice for each message must not cause a
        claim for each message."""
        await self._sleep(seconds)
        self._later = None
        self._woken.set()

    async def _claim_for_ever(self) -> None:
        await retry_while_unavailable("leases", lambda: self._queue.release_all(self._owner), self._sleep)
        if self._owner == 0:
            # The clock may have been set back while the service did not run; one worker checks this for all.
            self._pull_back()
        patience = Backoff("claims", self._sleep)
        while True:
            self._woken.clear()
            try:
                nap = await self._claim()
            except StorageError as error:
                await patience.after(error)
                continue
            patience = Backoff("claims", self._sleep)
            await event_or_time(self._woken, nap, self._sleep)

    async def _claim(self) -> float:
        """Claim due destinations, as far as there are places; return the seconds until there is more to do."""
        await self._mind_the_clock()
        if self._sources and self._now() > self._leased_until:  # otherwise our own leases would seem to be free
            await self._renew()
        rest = self._claims_from - self._monotonic()
        if rest > 0:
            return rest
        limit = self._admission.limit(self._sources, len(self._wanted))
        apart = self._admission.missing(self._sources)
        wanted: list[str] = []
        if limit > 0:
            wanted, self._wanted = list(self._wanted), {}
        elif not apart:
            return self._nap()  # a place that becomes free wakes the dispatcher
        now = self._now()
        if resting := self._admission.resting(wanted):
            await self._queue.wake(resting)
        leases = await self._queue.claim_destinations(
            self._owner,
            now=now,
            lease=_LEASE * _SECOND,
            limit=limit + len(apart),
            wanted=[*apart, *wanted],
            only_wanted=limit <= 0,
        )
        fresh = frozenset(wanted)
        names = [lease.destination for lease in leases]
        ending = [lease for lease in leases if lease.destination in self._sources]
        for number, lease in enumerate((one for one in leases if one not in ending), 1):
            self._begin(lease, now, fresh=lease.destination in fresh)
            if not number % _BEGIN_AT_ONCE:
                await asyncio.sleep(0)  # let other tasks run
        if ending:  # mail in flight under the lost lease ends first
            for lease in ending:
                if (source := self._sources.get(lease.destination)) is not None:
                    self._lost(source.lease)
            await self._queue.release(ending, not_before=now + int(_AFTER_NOTHING * _SECOND))
        missed = [name for name in wanted if name not in self._sources]
        if limit <= 0:
            return self._nap()
        if len(names) >= limit:
            self._wanted = {**dict.fromkeys(missed[:_MOST_WANTED]), **self._wanted}  # there was no room for all
            return 0.0 if self._admission.pause is None or not fresh.isdisjoint(names) else self._nap()
        self._remember_vain(missed)
        due = await self._queue.next_due(now=now)
        return _SWEEP_EVERY if due is None else min(_SWEEP_EVERY, max(_SHORTEST_NAP, (due - now) / _SECOND))

    def _nap(self) -> float:
        pause = self._admission.pause
        return _SWEEP_EVERY if pause is None else max(_SHORTEST_NAP, pause)

    def _remember_vain(self, names: Iterable[str]) -> None:
        now = self._monotonic()
        self._in_vain = {name: until for name, until in self._in_vain.items() if until > now}
        self._in_vain.update((name, now + _IN_VAIN) for name in names)

    def _begin(self, lease: Lease, now: Micros, *, fresh: bool) -> None:
        if not self._sources:
            self._leased_until = now + _LEASE * _SECOND
        name = lease.destination
        source = DestinationSource(
            lease,
            queue=self._queue,
            settler=self._settler,
            now=self._now,
            monotonic=self._monotonic,
            sleep=self._sleep,
        )
        self._sources[name] = source
        task = asyncio.create_task(self._carry(name, source, fresh=fresh))
        self._carries.add(task)
        task.add_done_callback(self._carries.discard)

    async def _carry(self, name: str, source: DestinationSource, *, fresh: bool) -> None:
        try:
            parting = await self._let_carry(name, source, fresh=fresh)
            source.close()
            if not source.lost:
                await retry_while_unavailable(
                    "a release",
                    lambda: self._queue.release([source.lease], not_before=parting.not_before, pacing=parting.pacing),
                    self._sleep,
                )
        finally:
            del self._sources[name]
            self._noted.pop(name, None)
            self._woken.set()

    async def _let_carry(self, name: str, source: DestinationSource, *, fresh: bool) -> CarryResult:
        """Run the carrier in a place; return how the destination is left."""
        rest = 0.0
        parting = CarryResult()
        try:
            place = await self._admission.enter(name, source, fresh=fresh)
            if place is None:
                return CarryResult(self._admission.turned_away(name, source))
            try:
                if not source.unreadable:
                    parting = await self._carrier_for(name).carry(name, source)
                    if parting.failure is not None:
                        await source.spread(parting.failure)
            finally:
                self._admission.leave(place)
        except StorageError as error:
            fields = {"destination": name, "error": str(error)}
            log.warning("storage is in trouble", extra={"fields": fields})
            rest = _AFTER_TROUBLE
        except Exception:
            log.exception("a carrier failed", extra={"fields": {"destination": name}})
            rest = _AFTER_BUG
        if source.unreadable:
            rest = max(rest, _AFTER_TROUBLE)
        elif source.reported == 0:
            rest = max(rest, _AFTER_NOTHING)
        if rest:
            return replace(parting, not_before=max(parting.not_before, self._now() + int(rest * _SECOND)))
        return parting

    async def _renew_for_ever(self) -> None:
        while True:
            await self._sleep(_RENEW_EVERY)
            try:
                await self._renew()
            except StorageError as error:
                log.warning("leases can't be renewed", extra={"fields": {"error": str(error)}})

    async def _renew(self) -> None:
        sources = dict(self._sources)
        if not sources:
            return
        until = self._now() + _LEASE * _SECOND
        kept = await self._queue.renew([source.lease for source in sources.values() if not source.lost], until=until)
        self._leased_until = until
        for name in sources.keys() - {lease.destination for lease in kept}:
            self._lost(sources[name].lease)
        await self._note_pacing(kept)

    async def _note_pacing(self, leases: Iterable[Lease]) -> None:
        """Store, for people to see, how long-running destinations are paced, where that has changed."""
        changed: dict[Lease, Sequence[Pacing]] = {}
        for lease in leases:
            pacing = self._pacing(lease.destination)
            terms = [(each.source, each.connections, each.reason) for each in pacing]
            if terms and self._noted.get(lease.destination) != terms:
                self._noted[lease.destination] = terms
                changed[lease] = pacing
        if not changed:
            return
        try:
            await self._queue.note_pacing(changed)
        except StorageError as error:  # nothing depends on it, and it is written when the destination is left
            log.warning("the pace of destinations can't be noted", extra={"fields": {"error": str(error)}})
            for lease in changed:
                self._noted.pop(lease.destination, None)

    def _lost(self, lease: Lease) -> None:
        """Take no more entries under a lost lease. Mail in flight ends; storage tells its outcomes from the owner's."""
        source = self._sources.get(lease.destination)
        if source is not None and source.lease == lease and not source.lost:
            log.warning("a lease was lost", extra={"fields": {"destination": lease.destination}})
            source.lost = True
            source.close()

    async def _mind_the_clock(self) -> None:
        step = self._watch.step()
        if not step:
            return
        log.warning("the clock was set", extra={"fields": {"seconds": step / _SECOND}})
        if step > (_LEASE - _RENEW_EVERY) * _SECOND:
            # Leases of live workers seem expired: take no leases until each worker had time to renew its own.
            self._claims_from = self._monotonic() + _RENEW_EVERY
        await self._renew()
        self._pull_back()

    def _pull_back(self) -> None:
        """Pull back attempts that a wrong clock planned, in the background: claims must not wait for a huge queue."""
        pulling = asyncio.create_task(
            retry_while_unavailable(
                "planned attempts",
                lambda: pull_back(
                    self._queue,
                    now=self._now(),
                    waits=self._schedule.longest_waits,
                    longest_lease=_LEASE * _SECOND,
                    sleep=self._sleep,
                ),
                self._sleep,
            )
        )
        self._pulling.add(pulling)
        pulling.add_done_callback(self._pulled)

    def _pulled(self, pulling: "asyncio.Task[int]") -> None:
        self._pulling.discard(pulling)
        if not pulling.cancelled() and (error := pulling.exception()) is not None:
            log.error("planned attempts not pulled back, by a fault of ours", exc_info=error)

    async def _wind_up(self) -> None:
        """Let mail in flight end, within the grace time."""
        for source in self._sources.values():
            source.close()
        self._admission.close()
        if self._carries:
            await all_or_time(self._carries, self._grace, self._sleep)
        await self._settler.finish(_LAST_WORDS)

    async def _give_leases_back(self) -> None:
        # This process may live on for its connections, and other workers don't take the leases of a live process.
        giving = asyncio.create_task(
            retry_while_unavailable("leases", lambda: self._queue.release_all(self._owner), self._sleep)
        )
        await all_or_time([giving], _LAST_WORDS, self._sleep)
        if not giving.cancelled():
            giving.result()  # raises a bug of ours
