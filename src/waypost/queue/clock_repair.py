"""Pulls back attempts that are planned later than the schedule allows, after the clock or the schedule was changed.

Otherwise mail would wait for a time that a wrong clock chose. A message that its sender holds (RFC 4865) is left alone.
"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence

from waypost.message.trace import Micros
from waypost.storage import EntryId, PlannedAttempt, Queue, Replanned
from waypost.storage.waking import planned_too_late

_REST = 0.05
"""Seconds between two pages of 2,000 entries: each start looks through the queue, and fresh mail is more urgent."""


async def pull_back(
    queue: Queue,
    *,
    now: Micros,
    waits: Sequence[Micros],
    longest_lease: Micros,
    sleep: Callable[[float], Awaitable[object]],
) -> int:
    """Pull back attempts, the rests of destinations, and the ends of leases; return how many attempts were changed.

    `waits[n]` is the longest wait after n attempts, the last one after more. Raises `StorageError`.
    """
    changed = 0
    after: EntryId | None = 0
    while after is not None:
        page = await queue.planned(later_than=[now + wait for wait in waits], after=after)
        moved = [one for planned in page.attempts if (one := _pulled(planned, now, waits)) is not None]
        if moved:
            changed += await queue.replan(moved)
        after = page.after
        await (sleep(_REST) if after is not None else asyncio.sleep(0))
    await queue.end_rests(later_than=now + max(waits))
    await queue.shorten_leases(until=now + longest_lease)
    return changed


def _pulled(planned: PlannedAttempt, now: Micros, waits: Sequence[Micros]) -> Replanned | None:
    latest = now + waits[min(planned.attempts, len(waits) - 1)]
    late = planned_too_late(planned.next_attempt, planned.not_before, now=now, latest=latest)
    return Replanned(planned.entry, planned.next_attempt, latest) if late else None
