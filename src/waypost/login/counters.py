"""The rows of failures: the times of recent failures, and when each of the row's lanes has its next turn."""

import struct
from dataclasses import dataclass, field

from waypost.login.memory import LoginMemory
from waypost.message.trace import Micros

MOST = 22
"""Failures that a row remembers: as many as any decision asks for."""

_SECOND = 1_000_000
_ROW = struct.Struct(f"<{MOST}IQIQI")


@dataclass(slots=True)
class Lane:
    """Answers that come one at a time. The next one may come at `next` (microseconds). While `even` (seconds) is in the
    future, the lane has used more turns than its lasting rate allows."""

    next: Micros = 0
    even: int = 0


@dataclass(slots=True)
class Failures:
    """Failures of a network, an account, or an account from a network. `times` are seconds since 1970, newest first.

    `throttle.py` explains the lanes.
    """

    times: tuple[int, ...] = ()
    fresh: Lane = field(default_factory=Lane)
    failed: Lane = field(default_factory=Lane)

    @property
    def last(self) -> Micros:
        """The time of the newest failure, rounded up to a second; 0 without failures."""
        return self.times[0] * _SECOND if self.times else 0

    def within(self, seconds: int, now: Micros) -> int:
        """Count the failures of the last seconds."""
        return sum(1 for time in self.times if time * _SECOND > now - seconds * _SECOND)

    def add(self, now: Micros) -> None:
        """Add a failure that happened just now."""
        self.times = (-(-now // _SECOND), *self.times[: MOST - 1])


class Counters:
    """Rows of failures by name, in shared memory. Call it only while the memory is locked."""

    def __init__(self, memory: LoginMemory) -> None:
        self._memory = memory

    def get(self, *name: str, now: Micros) -> Failures:
        """Return a row; an empty one when it does not exist."""
        held = self._memory.counters.get(self._memory.name(*name))
        if held is None:
            return Failures()
        *times, next_fresh, even_fresh, next_failed, even_failed = _ROW.unpack(held)
        latest = now // _SECOND + 1
        # Ignore times in the future: the clock was set back since, or the row was only half written.
        known = tuple(sorted((time for time in times if 0 < time <= latest), reverse=True))
        return Failures(known, Lane(next_fresh, even_fresh), Lane(next_failed, even_failed))

    def put(self, *name: str, failures: Failures) -> None:
        """Write a row. In a full bucket it replaces a row of the oldest hour: that with fewest failures."""
        times = (*failures.times, *([0] * (MOST - len(failures.times))))
        fresh, failed = failures.fresh, failures.failed
        row = _ROW.pack(*times, fresh.next, fresh.even, failed.next, failed.even)
        self._memory.counters.put(self._memory.name(*name), row, _worth)


def _worth(held: bytes) -> int:
    times = _ROW.unpack(held)[:MOST]
    return int(max(times)) // 3600 << 8 | sum(1 for time in times if time)
