"""The disk that loses power promises what it says, and no more."""

import random
from pathlib import Path

import pytest
from tests.torture.disk import (
    ROOT,
    Disk,
    Link,
    Losses,
    NoLosses,
    Rename,
    Step,
    Sync,
    Tree,
    Truncate,
    Unlink,
    Write,
    read_tree,
    write_tree,
)
from tests.torture.recorder import Recorder

FOLDER, FILE, OTHER = 1, 2, 3
MADE: tuple[Step, ...] = (Link(ROOT, "folder", FOLDER, is_folder=True), Sync(ROOT), Link(FOLDER, "file", FILE))


def images(*steps: Step) -> set[tuple[tuple[str, bytes | None], ...]]:
    """Return everything that may be found after the power was lost behind these steps."""
    disk = Disk()
    disk.apply(steps)
    return {tuple(sorted(disk.image(Losses(random.Random(seed))).items())) for seed in range(1000)}


def contents(*steps: Step) -> set[bytes]:
    """Return everything that a durably named file may hold."""
    found = images(*MADE, Sync(FOLDER), *steps)
    return {octets for image in found for path, octets in image if path == "folder/file" and octets is not None}


def names(*steps: Step) -> set[tuple[str, ...]]:
    """Return all sets of names that may be found."""
    return {tuple(path for path, octets in image if octets is not None) for image in images(*MADE, *steps)}


def test_synced_octets_stay_and_others_may_go() -> None:
    assert contents(Write(FILE, 0, b"kept"), Sync(FILE)) == {b"kept"}
    assert contents(Write(FILE, 0, b"lost")) == {b"", b"lost", b"\0\0\0\0"}


def test_a_later_write_may_be_there_without_an_earlier_one() -> None:
    assert b"\0bb" in contents(Write(FILE, 0, b"a"), Write(FILE, 1, b"bb"))


def test_octets_outside_a_write_are_never_touched() -> None:
    assert {data[:4] for data in contents(Write(FILE, 0, b"kept"), Sync(FILE), Write(FILE, 4, bytes(2000)))} == {
        b"kept"
    }


def test_a_write_is_torn_at_sectors() -> None:
    found = contents(Write(FILE, 500, b"x" * 24))
    assert bytes(500) + b"x" * 12 in found
    assert bytes(512) + b"x" * 12 in found
    assert {data.count(b"x") for data in found} == {0, 12, 24}


def test_a_cut_that_was_not_synced_may_be_undone() -> None:
    assert contents(Write(FILE, 0, b"long"), Sync(FILE), Truncate(FILE, 2)) == {b"long", b"lo"}
    assert contents(Write(FILE, 0, b"long"), Sync(FILE), Truncate(FILE, 2), Sync(FILE)) == {b"lo"}


def test_a_name_is_durable_with_its_folder_alone() -> None:
    assert names(Write(FILE, 0, b"octets"), Sync(FILE)) == {(), ("folder/file",)}
    assert names(Sync(FOLDER)) == {("folder/file",)}


def test_a_folder_that_is_lost_takes_everything_with_it() -> None:
    found = images(Link(ROOT, "folder", FOLDER, is_folder=True), Link(FOLDER, "file", FILE), Sync(FOLDER))
    assert {tuple(path for path, _ in image) for image in found} == {(), ("folder", "folder/file")}


def test_a_rename_may_be_lost_and_may_be_there_without_the_creation() -> None:
    renamed = Rename(FOLDER, "file", "new", FILE)
    assert names(renamed) == {(), ("folder/file",), ("folder/new",)}
    assert names(Sync(FOLDER), renamed) == {("folder/file",), ("folder/new",)}
    assert names(renamed, Sync(FOLDER)) == {("folder/new",)}


def test_a_removed_name_may_come_back_and_never_takes_the_new_file_of_that_name() -> None:
    again = (Unlink(FOLDER, "file", FILE), Link(FOLDER, "file", OTHER), Write(OTHER, 0, b"other"), Sync(OTHER))
    assert contents(Write(FILE, 0, b"old"), Sync(FILE), *again) == {b"old", b"other"}
    assert contents(Write(FILE, 0, b"old"), Sync(FILE), *again, Sync(FOLDER)) == {b"other"}


def test_without_losses_it_is_what_the_programs_see() -> None:
    disk = Disk()
    disk.apply((*MADE, Write(FILE, 2, b"abc"), Truncate(FILE, 4), Rename(FOLDER, "file", "new", FILE)))
    assert disk.image(NoLosses()) == {"folder": None, "folder/new": b"\0\0ab"}


def test_an_image_is_written_and_read(tmp_path: Path) -> None:
    tree: Tree = {"a": None, "a/b": b"octets", "c": b""}
    write_tree(tree, tmp_path / "image")
    assert read_tree(tmp_path / "image") == tree


def test_a_step_that_was_not_recorded_is_noticed(tmp_path: Path) -> None:
    with Recorder(tmp_path) as recorder:
        recorder.check()
        (tmp_path / "file").write_bytes(b"this goes by no call that is watched")
        with pytest.raises(AssertionError, match="names that the record does not explain"):
            recorder.check()
