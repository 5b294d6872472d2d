"""Notices when somebody sets the clock: wall clock and monotonic clock then disagree by more than before."""

from collections.abc import Callable

from waypost.message.trace import Micros

_TOLERANCE = 2_000_000  # microseconds: a clock that is slewed (RFC 5905) never comes near it
_SECOND = 1_000_000


class ClockWatch:
    """Compares two clocks, each time it is asked."""

    def __init__(self, now: Callable[[], Micros], monotonic: Callable[[], float]) -> None:
        self._now = now
        self._monotonic = monotonic
        self._difference = self._measure()

    def _measure(self) -> Micros:
        return self._now() - int(self._monotonic() * _SECOND)

    def step(self) -> Micros:
        """Return by how much the clock was set since the last call: positive is ahead, 0 not at all."""
        difference = self._measure()
        step = difference - self._difference
        # What is slewed adds up, too: each call compares with the last.
        self._difference = difference
        return step if abs(step) > _TOLERANCE else 0
