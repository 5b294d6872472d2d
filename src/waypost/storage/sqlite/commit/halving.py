"""Work on many rows of a damaged database: what it refuses stands alone, and the rest is done.

Each part has a transaction of its own, since SQLite commits nothing of one in which it met damage.
"""

import asyncio
import logging
import time
from collections.abc import Callable, Sequence
from typing import TypeVar

import apsw

from waypost.storage.bus import Notice
from waypost.storage.errors import Damaged
from waypost.storage.sqlite.commit.writer import Writer

log = logging.getLogger(__name__)
T = TypeVar("T")
R = TypeVar("R")

_LONGEST_REST = 0.1  # seconds


async def give_way(began: float) -> None:
    """Between the steps of a large deed: rest as long as the last one took, which began at a monotonic time.

    So others have the writers' lock and the processors, the more the busier they are.
    """
    await asyncio.sleep(min(_LONGEST_REST, time.monotonic() - began))


async def in_halves(
    writer: Writer,
    items: Sequence[T],
    work: Callable[[apsw.Connection, Sequence[T]], R],
    notices: Callable[[R], Sequence[Notice]] | None = None,
    *,
    patient: bool = False,
) -> tuple[list[R], list[T]]:
    """Do work on items in one transaction; where the database is damaged, on each half of them in one of its own.

    Return what `work` returned, part by part, and the items that were refused, which are logged. Raises `StorageError`
    for anything but damage; then some parts may be done.
    """
    if not items:
        return [], []
    try:
        return [await writer.call(lambda connection: work(connection, items), notices, patient=patient)], []
    except Damaged as error:
        if len(items) == 1:
            fields = {"row": str(items[0]), "error": str(error)}
            log.error("a row is damaged: run `waypost storage check`", extra={"fields": fields})
            return [], list(items)
    middle = len(items) // 2
    first, refused = await in_halves(writer, items[:middle], work, notices, patient=patient)
    second, more = await in_halves(writer, items[middle:], work, notices, patient=patient)
    return first + second, refused + more
