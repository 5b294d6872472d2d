"""Failed rounds of a whole destination: written once for all that waited, and counted for each when it is read.

Each point is a round: when it ended, how much age was counted up to it, and how many rounds there were. An entry's
share is the difference between the newest point and the first one after its own last attempt. Each step counts at most
the longest wait of the schedule, so that no jump of the clock expires mail (decision 0004).
"""

from functools import lru_cache

import msgspec
from msgspec.structs import replace

from waypost.message.trace import Micros
from waypost.storage.queue import EntryState, QueueEntry
from waypost.storage.sqlite.rows import text

_MOST = 96  # points of a destination; older ones are thinned out
_REMEMBERED = 500


class Point(msgspec.Struct, frozen=True, array_like=True):
    """A failed round."""

    time: Micros
    counted: Micros
    rounds: int


class Share(msgspec.Struct, frozen=True):
    """What an outage adds to an entry."""

    counted: Micros = 0
    rounds: int = 0


class Outage(msgspec.Struct, frozen=True):
    """What a destination's row says: its failed rounds, the words of the last one, and when all are tried again."""

    failed_at: Micros
    again_at: Micros
    failure: str
    points: tuple[Point, ...]


_decode = msgspec.json.Decoder(tuple[Point, ...]).decode


@lru_cache(_REMEMBERED)
def points_from(value: str | None) -> tuple[Point, ...]:
    """Read the points of a row; none where it can't be read: then the entries only live longer."""
    try:
        return _decode(value) if value else ()
    except (msgspec.MsgspecError, ValueError):
        return ()


def points_text(points: tuple[Point, ...]) -> str:
    """Return points as a row holds them."""
    return text(points)


def with_round(points: tuple[Point, ...], at: Micros, longest_wait: Micros) -> tuple[Point, ...]:
    """Return points with one more failed round, that ended at a time; what a wrong clock counted later is forgotten."""
    before = tuple(point for point in points if point.time < at)
    if not before:
        return (Point(at, longest_wait, 1),)
    last = before[-1]
    grown = (*before, Point(at, last.counted + min(at - last.time, longest_wait), last.rounds + 1))
    if len(grown) <= _MOST:
        return grown
    return (*grown[: _MOST // 2 : 2], *grown[_MOST // 2 :])


def share_of(points: tuple[Point, ...], since: Micros, *, at_once: bool = False) -> Share:
    """Return what the rounds after a time add up to; `at_once`: or in that very moment."""
    low, high = 0, len(points)
    while low < high:
        middle = (low + high) // 2
        if points[middle].time > since or (at_once and points[middle].time == since):
            high = middle
        else:
            low = middle + 1
    if low == len(points):
        return Share()
    first, last = points[low], points[-1]
    gap = first.counted - (points[low - 1].counted if low else 0)
    rounds = last.rounds - (points[low - 1].rounds if low else 0)
    return Share(last.counted - first.counted + min(first.time - since, gap), rounds)


def with_outage(entry: QueueEntry, outage: Outage, counts_from: Micros) -> QueueEntry:
    """Return an entry as it would be if each failed round had been written into it."""
    if entry.state is not EntryState.READY:
        return entry
    since = entry.last_attempt
    if since is None:
        since = max(entry.queued_at, entry.envelope.hold_until or 0)
    share = share_of(outage.points, max(since, counts_from), at_once=entry.last_attempt is None)
    if not share.rounds:
        return entry
    waits = entry.next_attempt <= outage.failed_at
    return replace(
        entry,
        waited=entry.waited + share.counted,
        attempts=entry.attempts + share.rounds,
        last_attempt=outage.failed_at,
        last_error=outage.failure,
        next_attempt=max(entry.next_attempt, outage.again_at) if waits else entry.next_attempt,
    )
