"""When an entry is tried again, when its sender is told of the delay, and when it is given up (RFC 5321 4.5.4.1).

Pure decisions over values: no clock, no storage. An entry's age is what its attempts counted (decision 0004), so that
no jump of the clock and no time out of service expires mail.
"""

from dataclasses import dataclass
from math import ceil

from waypost.config.settings import Queue as QueueSettings
from waypost.message.trace import Micros
from waypost.storage import QueueEntry


@dataclass(frozen=True, slots=True)
class Schedule:
    """How long and how often delivery is tried; all times in microseconds.

    `retry` are the waits between attempts, the last of which repeats; each is made up to the share `jitter` longer.
    `delayed_notice` 0 means that nobody is told of a delay.
    """

    retry: tuple[Micros, ...]
    jitter: float
    delayed_notice: Micros
    expire: Micros

    @classmethod
    def from_settings(cls, settings: QueueSettings) -> "Schedule":
        """Return the schedule that the configuration asks for."""
        return cls(settings.retry, settings.jitter, settings.delayed_notice, settings.expire)

    @property
    def longest_wait(self) -> Micros:
        """The longest time that may lie between two attempts."""
        return max(self.longest_waits)

    @property
    def longest_waits(self) -> tuple[Micros, ...]:
        """The longest wait after no attempt, after one, after two...; the last one after all that follow."""
        return (0, *(ceil(wait * (1 + self.jitter)) for wait in self.retry))

    def wait(self, attempts: int, luck: float) -> Micros:
        """Return the wait after this many failed attempts; `luck` in 0..1 is its share of the jitter."""
        planned = self.retry[min(attempts, len(self.retry)) - 1]
        return int(planned * (1 + self.jitter * luck))


@dataclass(frozen=True, slots=True)
class Again:
    """The entry is tried again at `next_attempt`; `notice`: its sender is told of the delay now.

    `retry_until` is when it will be given up, as the clock is now.
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
    """Return the age that counts at an attempt that ends now.

    It grows by the time since the last attempt, never by more than the longest wait that the schedule plans, and never
    shrinks. The time before a message was to be sent (RFC 4865) does not count.
    """
    since = entry.last_attempt
    if since is None:
        since = max(entry.queued_at, entry.envelope.hold_until or 0)
    return entry.waited + min(max(0, now - since), schedule.longest_wait)


def too_late(entry: QueueEntry, now: Micros) -> bool:
    """True when the sender's own deadline has passed, and nothing may be delivered behind it (RFC 2852, mode R)."""
    by = entry.envelope.deliver_by
    return by is not None and by.mode == "R" and by.deadline <= now


def after_failure(entry: QueueEntry, now: Micros, schedule: Schedule, luck: float) -> Again | Expired:
    """Return what follows when an attempt that ends now has failed for the moment. `luck` is random, in 0..1."""
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
    # RFC 2852, mode N: the sender hears of it when the deadline has passed, that is at the first attempt behind it.
    if by is not None and by.mode == "N" and (entry.last_attempt or 0) < by.deadline <= now:
        return True
    return bool(schedule.delayed_notice) and not entry.delay_notified and waited >= schedule.delayed_notice
