"""After a step of the clock, or a change of the schedule: attempts that the schedule does not explain are pulled back.

Else mail would wait for a time that a wrong clock meant. What its sender holds back (RFC 4865) is left alone.
"""

import asyncio
from collections.abc import Sequence

from waypost.message.trace import Micros
from waypost.storage import EntryId, PlannedAttempt, Queue, Replanned
from waypost.storage.waking import planned_too_late


async def pull_back(queue: Queue, *, now: Micros, waits: Sequence[Micros], longest_lease: Micros) -> int:
    """Pull back attempts, and the rests of destinations, and the ends of leases; return how many attempts.

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
        await asyncio.sleep(0)  # others have their turn
    await queue.end_rests(later_than=now + max(waits))
    await queue.shorten_leases(until=now + longest_lease)
    return changed


def _pulled(planned: PlannedAttempt, now: Micros, waits: Sequence[Micros]) -> Replanned | None:
    latest = now + waits[min(planned.attempts, len(waits) - 1)]
    late = planned_too_late(planned.next_attempt, planned.not_before, now=now, latest=latest)
    return Replanned(planned.entry, planned.next_attempt, latest) if late else None
