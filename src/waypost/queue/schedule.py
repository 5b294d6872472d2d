"""Decides when an entry is tried again, when its sender is told of a delay, and when it is given up (RFC 5321 4.5.4.1).

Pure decisions over values: no clock, no storage. An entry's age is the time that its attempts counted (decision 0004),
so that neither a jump of the clock nor an outage of the service expires mail.
"""

from dataclasses import dataclass
from math import ceil

from waypost.config.settings import QueueSettings as QueueSettings
from waypost.message.trace import Micros
from waypost.storage import QueueEntry


@dataclass(frozen=True, slots=True)
class Schedule:
    """How long and how often delivery is tried; all times in microseconds.

    `retry` are the waits between attempts; the last one repeats. A random share of each wait, up to `jitter`, is added
    to it. With `delayed_notice` 0, senders are not told of delays.
    """

    retry: tuple[Micros, ...]
    jitter: float
    delayed_notice: Micros
    expire: Micros

    @classmethod
    def from_settings(cls, settings: QueueSettings) -> "Schedule":
        """Return the schedule of the configuration."""
        return cls(settings.retry, settings.jitter, settings.delayed_notice, settings.expire)

    @property
    def longest_wait(self) -> Micros:
        """The longest time that may lie between two attempts."""
        return max(self.longest_waits)

    @property
    def longest_waits(self) -> tuple[Micros, ...]:
        """The longest wait after no attempt, after one, after two, and so on; the last one is for all later ones."""
        return (0, *(ceil(wait * (1 + self.jitter)) for wait in self.retry))

    def wait(self, attempts: int, luck: float) -> Micros:
        """Return the wait after this many failed attempts; `luck` in 0..1 is the part of the jitter that is added."""
        planned = self.retry[min(attempts, len(self.retry)) - 1]
        return int(planned * (1 + self.jitter * luck))


@dataclass(frozen=True, slots=True)
class Again:
    """The entry is tried again at `next_attempt`; with `notice`, its sender is told of the delay now.

    `retry_until` is when it will be given up, by the present clock.
    """

    next_attempt: Micros
    waited: Micros
    attempts: int
    notice: bool
    delay_notified: bool
    retry_until: Micros


@dataclass(frozen=True, slots=True)
class Expired:
    """The time for delivery is over: the entry is returned."""

    waited: Micros


def age(entry: QueueEntry, now: Micros, schedule: Schedule) -> Micros:
    """Return an entry's age at the end of an attempt that ends now.

    The age grows by the time since the last attempt, but at most by the longest wait that the schedule plans, and never
    shrinks. The time for which a sender held the message (RFC 4865) does not count.
    """
    since = entry.last_attempt
    if since is None:
        since = max(entry.queued_at, entry.envelope.hold_until or 0)
    return entry.waited + min(max(0, now - since), schedule.longest_wait)


def too_late(entry: QueueEntry, now: Micros) -> bool:
    """True when the sender's deadline has passed and forbids any later delivery (RFC 2852, mode R)."""
    by = entry.envelope.deliver_by
    return by is not None and by.mode == "R" and by.deadline <= now


def after_failure(entry: QueueEntry, now: Micros, schedule: Schedule, luck: float) -> Again | Expired:
    """Return what follows a temporary failure of an attempt that ends now. `luck` is random, in 0..1."""
    waited = age(entry, now, schedule)
    if waited >= schedule.expire or too_late(entry, now):
        return Expired(waited)
    notice = _notice_due(entry, waited, now, schedule)
    notified = entry.delay_notified or notice
    attempts = entry.attempts + 1
    looks = [now + schedule.wait(attempts, luck), now + schedule.expire - waited]
    if not notified and schedule.delayed_notice:
        looks.append(now + schedule.delayed_notice - waited)
    by = entry.envelope.deliver_by
    if by is not None and by.deadline > now:
        looks.append(by.deadline)
    until = now + schedule.expire - waited
    if by is not None and by.mode == "R":
        until = min(until, by.deadline)
    return Again(min(looks), waited, attempts, notice, notified, until)


def _notice_due(entry: QueueEntry, waited: Micros, now: Micros, schedule: Schedule) -> bool:
    by = entry.envelope.deliver_by
    # RFC 2852, mode N: the sender is told when the deadline has passed, which is at the first attempt after it.
    if by is not None and by.mode == "N" and (entry.last_attempt or 0) < by.deadline <= now:
        return True
    return bool(schedule.delayed_notice) and not entry.delay_notified and waited >= schedule.delayed_notice
