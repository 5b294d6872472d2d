"""Limits the DNS questions of one piece of work: finding the route to one domain, the checks of one message.

A stranger chooses the names that are asked for, and each answer may lead to more names. So the code that begins such
work makes one `QueryBudget` for it, and passes it to the resolver with each question.
"""

import asyncio
from collections.abc import Callable
from types import TracebackType

from waypost.dns.resolver import OverBudget


class QueryBudget:
    """Each question that the resolver can't answer from its cache spends some of it.

    `questions` is how many may be asked in all, each step along CNAMEs counted; at most `at_once` are on the wire at
    the same time; all together may take `seconds` by `clock`, from now on. One piece of work uses no more of the
    resolver than that, however many names it comes across.
    """

    def __init__(self, *, questions: int, at_once: int, seconds: float, clock: Callable[[], float]) -> None:
        self.left = questions
        """Questions that may still be asked."""
        self._clock = clock
        self._until = clock() + seconds
        self._places = asyncio.Semaphore(at_once)

    @property
    def seconds_left(self) -> float:
        """Seconds that a question asked now may take."""
        return max(0.0, self._until - self._clock())

    async def __aenter__(self) -> "QueryBudget":
        """Spend one question, and wait for a place. Raises `OverBudget`."""
        if self.left <= 0:
            raise OverBudget("one piece of work has asked too many questions")
        self.left -= 1
        try:
            async with asyncio.timeout(self.seconds_left):
                await self._places.acquire()
        except TimeoutError:
            raise OverBudget("the time for all questions of one piece of work is over") from None
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._places.release()
