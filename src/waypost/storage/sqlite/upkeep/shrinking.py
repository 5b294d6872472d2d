"""Giving the room of deleted rows back to the disk: pages of the database file, a few a commit.

Some free pages stay: new rows need them again, and flushing a file that grows takes longer.
"""

import apsw

from waypost.storage.sqlite.commit.writer import Writer
from waypost.storage.sqlite.opening.shrinkable import INCREMENTAL
from waypost.storage.sqlite.reading import Reading

_AT_ONCE = 128  # pages that one commit moves: more would keep the writers of all processes waiting
_KEPT = 4096  # free pages that are always left
_KEPT_SHARE = 8  # and one in so many of all


async def shrink(writer: Writer, reading: Reading) -> int:
    """Cut free pages off the database until few are left; return how many. Raises `StorageError`."""
    if reading.value("PRAGMA auto_vacuum") != INCREMENTAL:
        return 0
    gone = 0
    while (spare := _spare(reading)) > 0:
        pages = min(spare, _AT_ONCE)
        await writer.call(lambda connection, pages=pages: _cut(connection, pages))  # type: ignore[misc]
        gone += pages
    return gone


def _spare(reading: Reading) -> int:
    free, pages = reading.value("PRAGMA freelist_count"), reading.value("PRAGMA page_count")
    return int(free - max(_KEPT, pages // _KEPT_SHARE))


def _cut(connection: apsw.Connection, pages: int) -> None:
    connection.execute(f"PRAGMA incremental_vacuum({pages})").fetchall()
