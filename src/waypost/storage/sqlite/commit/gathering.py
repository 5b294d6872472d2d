"""Which operations share a commit, and when it begins.  # hot: bench/accept

A commit costs nearly as much for one message as for ten: one or two flushes of the disk, and the interpreter's lock
that two threads hand to each other. So it waits for messages that are about to come, at most for as long as taking them
in keeps the processor busy anyway; where none is expected, nobody waits. All of it runs in the event loop's thread.
"""

import asyncio
from collections.abc import Callable, Hashable
from dataclasses import dataclass
from typing import Any

from waypost.storage.sqlite.commit.operation import Operation

_MOST_AT_ONCE = 128  # more would keep the writers of other processes waiting
_EACH = 0.0005  # seconds: what taking in a message costs
_LONGEST = 0.01  # seconds that a message waits for others at most
_YOUNG = 0.05  # seconds: who is expected for longer is not waited for
_PATIENCE = 0.003  # seconds that what can wait does wait for company: about as long as a commit takes
_BUSY = 0.02  # seconds: if an operation arrived within this time, another one is expected
_NEVER = float("inf")


@dataclass(slots=True, eq=False)
class Waiting:
    """An operation on its way through a group commit."""

    operation: Operation
    future: asyncio.Future[Any]
    result: Any = None
    error: BaseException | None = None


class Gathering:
    """Gathers operations for the next commit; `begin` is given them, and `ended` told when it is over."""

    def __init__(self, loop: asyncio.AbstractEventLoop, begin: Callable[[list[Waiting]], None]) -> None:
        self._loop = loop
        self._begin = begin
        self._waiting: list[Waiting] = []
        self._expected: dict[Hashable, float] = {}  # since when, oldest first
        self._committing = False
        self._urgent = False  # somebody waits who is not patient
        self._urgent_at = -_NEVER
        self._due = _NEVER
        self._timer: asyncio.Handle | None = None
        self._set_for = _NEVER  # when the timer goes off

    def expect(self, source: Hashable) -> None:
        """A message may soon come from this source."""
        self._expected.pop(source, None)
        self._expected[source] = self._loop.time()

    def expect_no_more(self, source: Hashable) -> None:
        """None will come, or it has come; any number of calls."""
        if self._expected.pop(source, None) is not None:
            self._consider()

    def add(self, waiting: Waiting) -> None:
        """Add an operation to the next commit."""
        now = self._loop.time()
        self._waiting.append(waiting)
        if not waiting.operation.patient:
            self._urgent, self._urgent_at = True, now
            self._due = min(self._due, now + min(_LONGEST, self._about_to_come(now) * _EACH))
        elif now - self._urgent_at < _BUSY:  # others come one after the other, and one of them will take it along
            self._due = min(self._due, now + _PATIENCE)
        else:
            self._due = now
        self._consider()

    def ended(self) -> None:
        """The commit that began is over."""
        self._committing = False
        self._consider()

    def take(self) -> list[Waiting]:
        """Return and forget all that waits, to end with."""
        waiting, self._waiting = self._waiting, []
        return waiting

    def _about_to_come(self, now: float) -> int:
        while self._expected:
            oldest = next(iter(self._expected))
            if now - self._expected[oldest] < _YOUNG:
                break
            del self._expected[oldest]
        return len(self._expected)

    def _consider(self) -> None:
        """Begin at the end of this turn of the loop, or when the time has come."""
        if self._committing or not self._waiting:
            return
        due = -_NEVER if self._urgent and not self._expected else self._due
        if due >= self._set_for:
            return
        if self._timer is not None:
            self._timer.cancel()
        soon = due <= self._loop.time()
        self._timer = (
            self._loop.call_soon(self._time_has_come) if soon else self._loop.call_at(due, self._time_has_come)
        )
        self._set_for = due

    def _time_has_come(self) -> None:
        self._timer, self._set_for = None, _NEVER
        if self._committing or not self._waiting:
            return
        now = self._loop.time()
        if self._due > now and self._about_to_come(now):  # expected only since the timer was set
            self._consider()
            return
        group, self._waiting = self._waiting[:_MOST_AT_ONCE], self._waiting[_MOST_AT_ONCE:]
        self._committing = True
        self._urgent, self._due = bool(self._waiting), -_NEVER if self._waiting else _NEVER
        self._begin(group)
