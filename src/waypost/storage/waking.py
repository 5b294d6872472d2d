"""When a destination is due next, and when an entry is: decisions over what an engine has looked up."""

from waypost.message.trace import Micros


def rests(earliest: Micros, failed_at: Micros, again_at: Micros) -> bool:
    """True when an entry that was due at `earliest` saw the last failed round of its destination, which ended at
    `failed_at`: such entries are left alone until `again_at`."""
    return earliest <= failed_at and again_at > earliest


def wake_time(
    earliest: Micros, *, resting: bool = False, again_at: Micros = 0, fresh: Micros | None = None, not_before: Micros
) -> Micros:
    """Return when a destination is claimed next.

    `earliest` is when the first of its ready entries is due; where that one is `resting`, the first of those that came
    due after the failed round (`fresh`) may be sooner than `again_at`. Whoever gave the destination back wants nobody
    to claim it before `not_before`.
    """
    due = earliest if not resting else again_at if fresh is None else min(again_at, fresh)
    return max(due, not_before)


def planned_too_late(next_attempt: Micros, not_before: Micros, *, now: Micros, latest: Micros) -> bool:
    """True for an attempt that the schedule does not explain, because the clock was set back, or the schedule changed.

    `latest` is when the schedule, counted from now, has it at the latest. What its sender holds back (RFC 4865) is left
    alone.
    """
    return next_attempt > latest and not_before <= now
