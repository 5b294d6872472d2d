"""Decides when a destination and when an entry is due next, from values that a storage engine has read."""

from waypost.message.trace import Micros


def rests(earliest: Micros, failed_at: Micros, again_at: Micros) -> bool:
    """True when the last failed round of a destination, which ended at `failed_at`, counts for an entry that was due at
    `earliest`: such entries are not tried until `again_at`."""
    return earliest <= failed_at and again_at > earliest


def wake_time(
    earliest: Micros, *, resting: bool = False, again_at: Micros = 0, fresh: Micros | None = None, not_before: Micros
) -> Micros:
    """Return when a destination is claimed next.

    `earliest` is when the first of its ready entries is due; if that one is `resting`, the first of those that came due
    after the failed round (`fresh`) may be sooner than `again_at`. The worker that gave the destination back asked that
    it is not claimed before `not_before`.
    """
    due = earliest if not resting else again_at if fresh is None else min(again_at, fresh)
    return max(due, not_before)


def planned_too_late(next_attempt: Micros, not_before: Micros, *, now: Micros, latest: Micros) -> bool:
    """True for an attempt later than the schedule allows: the clock was set back, or the schedule was changed.

    `latest` is the latest time that the schedule allows, counted from now. A message that its sender holds (RFC 4865)
    is left alone.
    """
    return next_attempt > latest and not_before <= now
