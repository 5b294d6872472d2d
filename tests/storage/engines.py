"""The engines under test, and what all of them can be told when they are opened: another one joins the suite here."""

from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import Any

from waypost.message.trace import Micros
from waypost.storage import Notice
from waypost.storage.engine.opening import OpenStorage
from waypost.storage.sqlite import open_storage

Opener = Callable[..., Awaitable[OpenStorage]]
"""Opens the storage below a folder: (folder, now=, worker=, publish=, memory_per_message=, and what only it knows)."""


async def _open_sqlite(
    folder: Path,
    *,
    now: Callable[[], Micros],
    worker: int,
    publish: Callable[[Notice], None],
    memory_per_message: int,
    **more: Any,
) -> OpenStorage:
    more.setdefault("segment_size", 1 << 20)
    return await open_storage(
        folder, now=now, worker=worker, publish=publish, memory_per_message=memory_per_message, **more
    )


ENGINES: Mapping[str, Opener] = {"sqlite": _open_sqlite}
