"""What one piece of work may ask of DNS: the way to one domain, the checks of one message.

A stranger chooses the names that are asked for, and each answer of his may name others. So whoever begins such a piece
of work makes one `Budget` for it, and hands it to the resolver with each question.
"""

import asyncio
from collections.abc import Callable
from types import TracebackType

from waypost.dns.resolver import OverBudget


class Budget:
    """Spent by each question that the resolver can't answer from memory.

    `questions` counts all of them, each step along CNAMEs too; `at_once` are on the wire at the same time; `seconds` is
    how long all together may take by `clock`, from now on. One piece of work takes no more of the resolver than that,
    however many names it comes across.
    """

    def __init__(self, *, questions: int, at_once: int, seconds: float, clock: Callable[[], float]) -> None:
        self.left = questions
        """Questions that may still be asked."""
        self._clock = clock
        self._until = clock() + seconds
        self._places = asyncio.Semaphore(at_once)

    @property
    def seconds_left(self) -> float:
        """How long what is asked now may take."""
        return max(0.0, self._until - self._clock())

    async def __aenter__(self) -> "Budget":
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
