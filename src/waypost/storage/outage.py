"""Failed rounds of a whole destination: written once for all waiting entries, and added to each entry when it is read.

Each point is a round: its end, the age counted up to it, and the number of rounds so far. An entry's share is the
difference between the newest point and the first one after its own last attempt. Each step counts at most the longest
wait of the schedule, so that a jump of the clock does not expire mail (decision 0004).
"""

import msgspec
from msgspec.structs import replace

from waypost.message.trace import Micros
from waypost.storage.queue import EntryState, FailedRound, QueueEntry

_MOST = 96  # points of a destination; older ones are thinned out


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
    """The stored outage of a destination: its failed rounds, the last error, and when all entries are tried again."""

    failed_at: Micros
    again_at: Micros
    failure: str
    points: tuple[Point, ...]


def with_round(points: tuple[Point, ...], at: Micros, longest_wait: Micros) -> tuple[Point, ...]:
    """Return points with one more failed round, which ended at `at`; later points, of a wrong clock, are dropped."""
    before = tuple(point for point in points if point.time < at)
    if not before:
        return (Point(at, longest_wait, 1),)
    last = before[-1]
    grown = (*before, Point(at, last.counted + min(at - last.time, longest_wait), last.rounds + 1))
    if len(grown) <= _MOST:
        return grown
    return (*grown[: _MOST // 2 : 2], *grown[_MOST // 2 :])


def share_of(points: tuple[Point, ...], since: Micros, *, at_once: bool = False) -> Share:
    """Return the sum of the rounds after `since`; with `at_once`, those at `since` too."""
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
    """Return an entry as if each failed round had been written into it."""
    if entry.state is not EntryState.READY:
        return entry
    since = entry.last_attempt
    if since is None:
        since = max(entry.queued_at, entry.not_before)
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


def tried_again_at(failed: FailedRound, points: tuple[Point, ...], youngest: Micros | None) -> Micros:
    """Return when the entries that a failed round counts for are tried again; its point is among `points` already.

    `youngest` is when the last of these entries came due; None when there are no such entries.
    """
    rounds = max(1, share_of(points, failed.at if youngest is None else youngest, at_once=True).rounds)
    again_at = failed.at + failed.waits[min(rounds, len(failed.waits)) - 1]
    return again_at if failed.look is None else min(again_at, max(failed.look, failed.at))


def looked_at(
    *,
    since: Micros,
    waited: Micros,
    notified: bool,
    deadline: Micros | None,
    now: Micros,
    notice: Micros,
    expire: Micros,
) -> Micros:
    """Return when an entry must be looked at separately, because its sender must get a report.

    `since` is its last attempt, or its arrival, and `waited` its age then; `deadline` is the sender's (RFC 2852).
    """
    limit = expire if notified or not notice else min(notice, expire)
    due = since + limit - waited
    if deadline is not None and deadline > (since if since < now else 0):
        due = min(due, deadline)
    return due
