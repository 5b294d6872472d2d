"""What operators do to a data directory: each mistake is a function of it and of what they have in reserve."""

import os
import random
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from waypost.storage.sqlite import DATABASE


@dataclass
class Reserve:
    """What lies about on an operator's machine: copies of earlier times, and another host's data directory."""

    database: Path  # of an earlier time, as VACUUM INTO or the snapshot of a schema
    directory: Path  # a whole data directory, copied while nothing ran
    backups: Path  # of `waypost backup`
    other: Path  # a data directory of another host


Mistake = Callable[[Path, Reserve, random.Random], None]


def _databases(data: Path) -> list[Path]:
    return list(data.glob(f"{DATABASE}*"))


def _replace_database(data: Path, by: Path) -> None:
    for path in _databases(data):
        path.unlink()
    shutil.copy(by, data / DATABASE)


def _segments(data: Path) -> list[Path]:
    return sorted((data / "segments").glob("*.seg"))


def missing_database(data: Path, reserve: Reserve, chance: random.Random) -> None:
    """rm waypost.db*"""
    for path in _databases(data):
        path.unlink()


def empty_database(data: Path, reserve: Reserve, chance: random.Random) -> None:
    """A disk that was full when the database was copied."""
    _replace_database(data, Path("/dev/null"))


def older_database(data: Path, reserve: Reserve, chance: random.Random) -> None:
    """cp snapshots/… waypost.db"""
    _replace_database(data, reserve.database)


def older_database_beside_the_newer_log(data: Path, reserve: Reserve, chance: random.Random) -> None:
    """The same, but -wal and -shm of the newer one stay (a clean stop leaves none)."""
    shutil.copy(reserve.database, data / DATABASE)


def older_parts_by_hand(data: Path, reserve: Reserve, chance: random.Random) -> None:
    """waypost.db and segments/ of an earlier copy, in an empty directory."""
    shutil.rmtree(data)
    data.mkdir()
    shutil.copy(reserve.directory / DATABASE, data / DATABASE)
    shutil.copytree(reserve.directory / "segments", data / "segments")


def older_segments(data: Path, reserve: Reserve, chance: random.Random) -> None:
    """Today's database beside yesterday's segments; today's were moved away."""
    (data / "segments").rename(data.parent / "segments.today")
    shutil.copytree(reserve.directory / "segments", data / "segments")


def half_copied(data: Path, reserve: Reserve, chance: random.Random) -> None:
    """A copy that was broken off: some segments are missing, the last one is cut."""
    paths = _segments(data)
    for path in chance.sample(paths, len(paths) // 2):
        path.rename(data.parent / f"{path.name}.left")
    if rest := _segments(data):
        shutil.copy(rest[-1], data.parent / f"{rest[-1].name}.whole")
        os.truncate(rest[-1], rest[-1].stat().st_size // 2)


def half_copied_database(data: Path, reserve: Reserve, chance: random.Random) -> None:
    """The database itself is cut."""
    shutil.copy(data / DATABASE, data.parent / "whole.db")
    os.truncate(data / DATABASE, (data / DATABASE).stat().st_size // 2)


def without_segments(data: Path, reserve: Reserve, chance: random.Random) -> None:
    """The disk with the segments is not mounted."""
    (data / "segments").rename(data.parent / "segments.unmounted")


def a_segment_removed(data: Path, reserve: Reserve, chance: random.Random) -> None:
    """One file is gone."""
    path = chance.choice(_segments(data))
    path.rename(data.parent / f"{path.name}.gone")


def database_of_another(data: Path, reserve: Reserve, chance: random.Random) -> None:
    """The database of another host."""
    _replace_database(data, reserve.other / DATABASE)


def segments_of_another(data: Path, reserve: Reserve, chance: random.Random) -> None:
    """The segments of another host in the place of ours."""
    (data / "segments").rename(data.parent / "segments.ours")
    shutil.copytree(reserve.other / "segments", data / "segments")


def mixed_without_overwriting(data: Path, reserve: Reserve, chance: random.Random) -> None:
    """cp -an other/segments/. segments/: what has a name already stays."""
    for path in _segments(reserve.other):
        if not (data / "segments" / path.name).exists():
            shutil.copy(path, data / "segments" / path.name)


def mixed_with_overwriting(data: Path, reserve: Reserve, chance: random.Random) -> None:
    """cp -a other/segments/. segments/: ours of the same names are overwritten."""
    for path in _segments(reserve.other):
        ours = data / "segments" / path.name
        if ours.exists():
            ours.rename(data.parent / f"{path.name}.ours")
        shutil.copy(path, ours)


MISTAKES: dict[str, Mistake] = {
    mistake.__name__.replace("_", " "): mistake
    for mistake in (
        missing_database,
        empty_database,
        older_database,
        older_database_beside_the_newer_log,
        older_parts_by_hand,
        older_segments,
        half_copied,
        half_copied_database,
        without_segments,
        a_segment_removed,
        database_of_another,
        segments_of_another,
        mixed_without_overwriting,
        mixed_with_overwriting,
    )
}
