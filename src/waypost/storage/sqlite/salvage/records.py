"""Reading segments without a database: each record carries its trace id, its length and its CRC-32.

Where a record is damaged, the next one is searched for by its magic; it counts only when its checksum is right.
"""

import mmap
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from waypost.message.trace import TraceId
from waypost.storage.sqlite.segments.segments import HEADER, MAGIC, MAGIC_OF_HEAD

_WORK = 8  # times its size: how much of a segment is summed up in search of records, before the search is given up


class SalvagedRecord(NamedTuple):
    """A whole record. `is_head`: it is the head of a large message, whose octets are the record before."""

    trace: TraceId
    offset: int
    length: int
    is_head: bool


def records_of(path: Path) -> Iterator[tuple[SalvagedRecord, memoryview]]:
    """Yield every whole record of a file with its octets, which are valid until the next step. Raises `OSError`."""
    with path.open("rb") as file:
        size = file.seek(0, 2)
        if not size:
            return
        with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as octets, memoryview(octets) as view:
            yield from _records(octets, view, size)


def _records(octets: mmap.mmap, view: memoryview, size: int) -> Iterator[tuple[SalvagedRecord, memoryview]]:
    position, work = 0, _WORK * size
    while 0 <= position <= size - HEADER.size:
        magic, trace, length, crc = HEADER.unpack_from(view, position)
        start = position + HEADER.size
        # No record is empty; the zeros of a damaged page would look like one.
        if magic in (MAGIC, MAGIC_OF_HEAD) and 0 < length <= min(size - start, work):
            work -= length
            with view[start : start + length] as content:
                if zlib.crc32(content) == crc:
                    yield SalvagedRecord(TraceId(trace), start, length, magic == MAGIC_OF_HEAD), content
                    work += length
                    position = start + length
                    continue
        position = _next(octets, position + 1)


def _next(octets: mmap.mmap, position: int) -> int:
    """Return where the next magic is; -1 if there is none."""
    found = [place for magic in (MAGIC, MAGIC_OF_HEAD) if (place := octets.find(magic, position)) >= 0]
    return min(found, default=-1)
