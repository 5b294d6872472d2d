"""Notices that the clock was set: the difference between wall clock and monotonic clock then changes."""

from collections.abc import Callable

from waypost.message.trace import Micros

_TOLERANCE = 2_000_000  # microseconds: far more than slewing (RFC 5905) changes between two calls
_SECOND = 1_000_000


class ClockWatch:
    """Compares the wall clock with a monotonic clock at each call."""

    def __init__(self, now: Callable[[], Micros], monotonic: Callable[[], float]) -> None:
        self._now = now
        self._monotonic = monotonic
        self._difference = self._measure()

    def _measure(self) -> Micros:
        return self._now() - int(self._monotonic() * _SECOND)

    def step(self) -> Micros:
        """Return by how much the clock was set since the last call: positive is ahead, 0 means not at all."""
        difference = self._measure()
        step = difference - self._difference
        # Slewing adds up over time, so each call compares with the call before it.
        self._difference = difference
        return step if abs(step) > _TOLERANCE else 0
