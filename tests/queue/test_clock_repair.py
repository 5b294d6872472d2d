"""Planned attempts of a huge queue are looked through beside its mail (queue/clock_repair.py)."""

from collections.abc import Sequence
from typing import cast

from waypost.message.trace import Micros
from waypost.queue.clock_repair import pull_back
from waypost.storage import EntryId, Queue
from waypost.storage.queue import PlannedPage

PAGES = 4


class Looking:
    """A queue of some pages without a late attempt; notes what is asked of it, and when somebody rests."""

    def __init__(self) -> None:
        self.events: list[str] = []

    async def planned(self, *, later_than: Sequence[Micros], after: EntryId) -> PlannedPage:
        self.events.append(f"page {after}")
        return PlannedPage([], after + 1 if after + 1 < PAGES else None)

    async def end_rests(self, *, later_than: Micros) -> None:
        self.events.append("rests")

    async def shorten_leases(self, *, until: Micros) -> None:
        self.events.append("leases")

    async def sleep(self, seconds: float) -> None:
        assert seconds > 0, "others have the processor, not only their turn"
        self.events.append("sleep")


async def test_between_two_pages_others_have_the_processor() -> None:
    looking = Looking()
    changed = await pull_back(cast(Queue, looking), now=0, waits=[1], longest_lease=1, sleep=looking.sleep)
    assert changed == 0
    assert looking.events == ["page 0", "sleep", "page 1", "sleep", "page 2", "sleep", "page 3", "rests", "leases"]
