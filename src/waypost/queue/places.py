"""Shares the places of a worker fairly: those for destinations, and those for connections.

A claim takes a place, which counts for each of its holders: the account that sent the mail, a server's address, and
perhaps other holders later (a receiver, a pair of source and receiver). A holder may take another place while it has
fewer places than are free. So one holder alone gets at most half of them, ten get about a twelfth each, and a new one
always finds free places. Some places are kept for destinations that answered lately.

The decision is a function over values; no clock, no storage.
"""

import asyncio
from collections import Counter, OrderedDict, deque
from collections.abc import Callable, Hashable
from dataclasses import dataclass

from waypost.message.trace import Micros
from waypost.storage import QueueEntry

Holder = Hashable

_SOONEST = 2_000_000  # microseconds
_APART = 40_000
_LATEST = 60_000_000
_MOST_HOLDERS = 10_000


@dataclass(frozen=True, slots=True)
class PlaceClaim:
    """A request for a place. `proven`: the destination answered lately. `reserve` places are left to better claims.

    A holder may have another place while it has fewer places than the free ones divided by `part`.
    """

    holders: tuple[Holder, ...]
    proven: bool = False
    reserve: int = 0
    part: int = 1


def may_take(held: int, free: int, part: int = 1) -> bool:
    """True when a holder of `held` places may have another one while `free` are free (a dynamic threshold)."""
    return free > 0 and held < max(1, free // part)


def submitter(entry: QueueEntry) -> Holder:
    """Return the holder whose share an entry uses: the account that sent it, else "reports" or "reception"."""
    if entry.account is not None:
        return entry.account
    return "reports" if entry.envelope.reverse_path is None else "reception"


def comes_back(last: Micros, now: Micros) -> Micros:
    """Return when one more destination that was turned away is looked at; `last` is the time of the one before it.

    They are looked at one after the other, so that this costs little for any number; but each within a minute.
    """
    return min(max(now + _SOONEST, last + _APART), now + _LATEST)


class Turns:
    """For each holder whose share was used up: when its next claim that was turned away is looked at again."""

    def __init__(self) -> None:
        self._last: OrderedDict[Holder, Micros] = OrderedDict()

    def comes_back(self, holder: Holder, now: Micros) -> Micros:
        """Return when one more claim of this holder is looked at again."""
        turn = self._last[holder] = comes_back(self._last.get(holder, 0), now)
        self._last.move_to_end(holder)
        if len(self._last) > _MOST_HOLDERS:
            self._last.popitem(last=False)
        return turn


class Places:
    """A number of places, and the claims that wait for one. While `room` returns False, no place is given."""

    def __init__(self, count: int, *, room: Callable[[], bool] = lambda: True) -> None:
        self.count = count
        self._room = room
        self._taken = 0
        self._unproven = 0
        self._held: Counter[Holder] = Counter()
        self._waiting: OrderedDict[PlaceClaim, deque[asyncio.Future[bool]]] = OrderedDict()
        self.waiting = 0
        """How many claims wait."""

    @property
    def taken(self) -> int:
        """How many places are taken."""
        return self._taken

    def held(self, holder: Holder) -> int:
        """Return how many places count for a holder."""
        return self._held[holder]

    def free(self, claim: PlaceClaim) -> int:
        """Return how many places are free for claims of this kind."""
        free = self.count - self._taken
        return free if claim.proven else min(free, self.count - claim.reserve - self._unproven)

    def allows(self, claim: PlaceClaim) -> bool:
        """True when the claim may take a place now."""
        free = self.free(claim)
        return self._room() and free > 0 and all(may_take(self._held[one], free, claim.part) for one in claim.holders)

    def take(self, claim: PlaceClaim) -> None:
        """Take a place, allowed or not."""
        self._taken += 1
        self._unproven += not claim.proven
        self._held.update(claim.holders)

    def give(self, claim: PlaceClaim) -> None:
        """Give a place back, and let in claims that wait for one."""
        self._taken -= 1
        self._unproven -= not claim.proven
        for holder in claim.holders:
            self._held[holder] -= 1
            if not self._held[holder]:
                del self._held[holder]
        self.wake()

    def wait(self, claim: PlaceClaim) -> "asyncio.Future[bool]":
        """Wait in the row of the claim; the future is True once it has its place. If the wait is cancelled, `leave`."""
        future: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        self._waiting.setdefault(claim, deque()).append(future)
        self.waiting += 1
        return future

    def leave(self, claim: PlaceClaim, future: "asyncio.Future[bool]") -> None:
        """End a wait; a place that was given meanwhile is given back."""
        row = self._waiting.get(claim)
        if row is not None and future in row:
            row.remove(future)
            self.waiting -= 1
            if not row:
                del self._waiting[claim]
        elif future.done() and not future.cancelled() and future.result():
            self.give(claim)

    def wake(self) -> None:
        """Let in waiting claims that may have a place: one of each row in turn, while there are places."""
        for claim in list(self._waiting):
            if self._taken >= self.count:
                return
            if self.allows(claim) and self._let_in(claim):
                self.take(claim)

    def _let_in(self, claim: PlaceClaim) -> bool:
        row = self._waiting.pop(claim)
        let_in = False
        while row and not let_in:
            future = row.popleft()
            self.waiting -= 1
            if not future.done():
                future.set_result(True)
                let_in = True
        if row:
            self._waiting[claim] = row  # now at the end of the order
        return let_in
