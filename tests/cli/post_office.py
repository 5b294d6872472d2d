"""Fills the storage of a host under test, as its service would."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import TypeVar

from tests.storage.letters import Letters

from waypost.storage.sqlite import open_storage

T = TypeVar("T")


def in_storage(config: Path, work: Callable[[Letters], Awaitable[T]]) -> T:
    """Do something with the host's storage, by a maker of letters."""

    def now() -> int:
        return time.time_ns() // 1000

    async def open_and_work() -> T:
        data = config.parent / "data"
        opened = await open_storage(data, now=now, worker=0, publish=lambda notice: None, memory_per_message=1 << 20)
        try:
            return await work(Letters(opened.storage, now))
        finally:
            await opened.close()

    return asyncio.run(open_and_work())
