"""Decides which of a worker's destinations are carried now, which wait for a place, and which come back later.

For each claimed destination, the submitters of its due entries are read. The destination takes a place in the share of
one of them (`places.py`), or waits for one. If too many wait already, it is given back and comes again at its turn.
Destinations that need no place (mail for ourselves) are always carried. Memory grows only with mail in flight.
"""

import asyncio
from collections import OrderedDict
from collections.abc import Callable, Collection, Iterable, Sequence

from waypost.message.trace import Micros
from waypost.queue.places import Holder, PlaceClaim, Places, Turns
from waypost.queue.source import DestinationSource

_RETRIES = 4  # one place in this many is kept for destinations with fresh mail
_PROVEN = 8  # one place in this many is kept for destinations that answered lately
_MOST_TURNED_AWAY = 10_000
_SCAN = 20  # destinations that are looked at each time even if enough wait
_SCAN_EVERY = 0.5  # seconds
_NO_PLACE = PlaceClaim(())


class DestinationAdmission:
    """Gives places to destinations. Those in `apart` need no place; `answered` says which ones answered lately."""

    def __init__(
        self,
        places: int,
        *,
        apart: Collection[str],
        answered: Callable[[str], bool],
        now: Callable[[], Micros],
        monotonic: Callable[[], float],
    ) -> None:
        self._most = places
        self._places = Places(places)
        self._apart = apart
        self._answered = answered
        self._now = now
        self._monotonic = monotonic
        self._next_scan = 0.0
        self._turns = Turns()
        self._waiting: dict[str, tuple[PlaceClaim, asyncio.Future[bool]]] = {}
        self._turned_away: OrderedDict[str, None] = OrderedDict()
        self._closed = False

    def held(self, holder: Holder) -> int:
        """Return how many places a submitter has."""
        return self._places.held(holder)

    # -- how many more to claim ---------------------------------------------------------------------------

    def missing(self, claimed: Collection[str]) -> list[str]:
        """Return the destinations that need no place and are not claimed."""
        return [name for name in self._apart if name not in claimed]

    def limit(self, claimed: Collection[str], wanted: int) -> int:
        """Return how many more destinations may be claimed now; `wanted` of them have fresh mail.

        When enough wait already, only some more are looked at each time, to find those of other submitters among them.
        """
        looked_at = len(claimed) - self._places.taken - len(self._waiting) - self._count_apart(claimed)
        places = self._most - self._places.taken - looked_at
        limit = min(places, max(0, places - self._most // _RETRIES) + wanted)
        spare = max(0, self._most - len(self._waiting))
        if limit <= spare:
            return max(0, limit)
        if self._monotonic() >= self._next_scan:
            self._next_scan = self._monotonic() + _SCAN_EVERY
            spare += _SCAN
        return min(limit, max(spare, wanted))

    @property
    def pause(self) -> float | None:
        """Seconds until more destinations are looked at though enough wait; None when not enough wait."""
        if len(self._waiting) < self._most:
            return None
        return max(0.0, self._next_scan - self._monotonic())

    def _count_apart(self, claimed: Collection[str]) -> int:
        return sum(name in claimed for name in self._apart)

    # -- a destination ------------------------------------------------------------------------------------

    async def enter(self, name: str, source: DestinationSource, *, fresh: bool) -> PlaceClaim | None:
        """Wait for a place for a destination and return its claim, for `leave`; None when it is turned away."""
        if name in self._apart:
            return _NO_PLACE
        while True:
            claim = self._claim(name, await source.submitters(), fresh)
            if self._places.allows(claim):
                self._places.take(claim)
                return claim
            if self._closed or source.lost or len(self._waiting) >= self._most:
                return None
            source.put_down()
            if await self._wait(name, claim):
                return claim

    async def _wait(self, name: str, claim: PlaceClaim) -> bool:
        """Wait; return True when a place was given, False when there is new mail for the destination."""
        future = self._places.wait(claim)
        self._waiting[name] = claim, future
        try:
            return await future
        except BaseException:
            self._places.leave(claim, future)
            raise
        finally:
            del self._waiting[name]

    def leave(self, claim: PlaceClaim) -> None:
        """Give a place back."""
        if claim is not _NO_PLACE:
            self._places.give(claim)

    def _claim(self, name: str, submitters: Sequence[Holder], fresh: bool) -> PlaceClaim:
        """Return the claim of the submitter with the fewest places: mail of other submitters must not delay it."""
        holders = (min(submitters, key=self._places.held),) if submitters else ()
        proven = self._answered(name)
        reserve = 0 if proven else self._most // (_PROVEN if fresh else _RETRIES)
        return PlaceClaim(holders, proven, reserve)

    # -- news ---------------------------------------------------------------------------------------------

    def noticed(self, name: str) -> None:
        """There is new mail for a destination; if it waits, let it try again: its new submitter may have a place."""
        waiting = self._waiting.get(name)
        if waiting is not None:
            self._send_back(*waiting)

    def _send_back(self, claim: PlaceClaim, future: "asyncio.Future[bool]") -> None:
        if not future.done():
            self._places.leave(claim, future)
            future.set_result(False)

    def turned_away(self, name: str, source: DestinationSource) -> Micros:
        """Return the time at which a destination that was turned away is looked at again."""
        if self._closed or source.lost:
            return 0
        self._turned_away[name] = None
        if len(self._turned_away) > _MOST_TURNED_AWAY:
            self._turned_away.popitem(last=False)
        return self._turns.comes_back("destinations", self._now())

    def resting(self, names: Iterable[str]) -> list[str]:
        """Return and forget those of `names` that were turned away: with fresh mail they may try again at once."""
        found = [name for name in names if name in self._turned_away]
        for name in found:
            del self._turned_away[name]
        return found

    def close(self) -> None:
        """End all waits, and allow no more."""
        self._closed = True
        for waiting in list(self._waiting.values()):
            self._send_back(*waiting)
