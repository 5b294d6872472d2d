"""Whether the files of all needed segments are there, by their names and sizes alone: a monitor may ask often."""

from pathlib import Path

from waypost.storage.sqlite.connection import connect_reading
from waypost.storage.sqlite.opening.migrate import DATABASE
from waypost.storage.sqlite.reading import Reading
from waypost.storage.sqlite.rows import text
from waypost.storage.sqlite.segments.segments import segment_path

# What was written last may be in the database alone after a power loss (`copies.py`).
_NEEDED = """
SELECT id, size FROM segment WHERE live > 0 AND id NOT IN (SELECT segment FROM unflushed)"""
_STILL = f"{_NEEDED} AND id IN (SELECT value FROM json_each(?))"


def sizes_of(data: Path) -> dict[str, int]:
    """Return the sizes of all files in the folder of segments, by name; none where there is no folder.

    Raises `OSError`.
    """
    sizes = {}
    try:
        for path in (data / "segments").iterdir():
            try:
                sizes[path.name] = path.stat().st_size
            except FileNotFoundError:  # it went meanwhile
                continue
    except FileNotFoundError:
        return {}
    return sizes


def missing_segments(data: Path, sizes: dict[str, int]) -> list[str]:
    """Return the names of segments that hold messages and are gone, or shorter than they were, given `sizes_of`.

    Raises `StorageError`.
    """
    reading = Reading(connect_reading(data / DATABASE))
    try:
        missed = [segment for segment, size in reading.rows(_NEEDED) if not _there(segment, size, sizes)]
        if not missed:
            return []
        again = sizes_of(data)  # they may have come or gone while we looked
        return [
            segment_path(data, segment).name
            for segment, size in reading.rows(_STILL, (text(missed),))
            if not _there(segment, size, again)
        ]
    finally:
        reading.close()


def _there(segment: int, size: int, sizes: dict[str, int]) -> bool:
    return sizes.get(segment_path(Path(), segment).name, -1) >= size
