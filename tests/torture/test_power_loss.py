"""Power losses at any step: what was acknowledged is there whole, nothing is there by halves, and the storage goes on.

`make torture` does the same for longer.
"""

import random
import shutil
import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import apsw
import pytest
from tests.torture.disk import Disk, Losses, write_tree
from tests.torture.inspection import Inspection
from tests.torture.ledger import Ledger
from tests.torture.power import PowerLossError, PowerTorture
from tests.torture.recorder import Recorder
from tests.torture.scribe import DATA, Scribe

from waypost.storage import sqlite
from waypost.storage.sqlite import DATABASE
from waypost.storage.sqlite.commit import octets
from waypost.storage.sqlite.opening import preparation
from waypost.storage.sqlite.opening.migrate import migrate, migrations
from waypost.storage.sqlite.segments import segments

LIVES, DEEDS, IMAGES = 4, 120, 32


@pytest.mark.parametrize("seed", [1, 2])
async def test_a_power_loss_at_any_step_loses_nothing_that_was_acknowledged(tmp_path: Path, seed: int) -> None:
    figures = await PowerTorture(tmp_path, seed).run(lives=LIVES, deeds=DEEDS, images=IMAGES)
    assert figures.images == LIVES * IMAGES
    assert figures.recoveries


@pytest.mark.parametrize("deaf", ["octets", "names", "database"])
async def test_a_disk_that_only_pretends_to_sync_is_found_out(tmp_path: Path, deaf: str) -> None:
    with pytest.raises(PowerLossError):
        await PowerTorture(tmp_path, 3, deaf={deaf}).run(lives=1, deeds=DEEDS, images=4 * IMAGES)


def _only_make(folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)


@pytest.mark.parametrize(
    ("module", "name", "instead"),
    [
        (sqlite, "sync_folder", lambda folder: None),
        (segments, "sync_folder", lambda folder: None),
        (octets, "sync_folder", lambda folder: None),
        (preparation, "make_folder", _only_make),
    ],
    ids=["the log", "a segment of small messages", "a segment of one message", "the data directory"],
)
async def test_each_name_that_is_made_durable_needs_to_be(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, module: ModuleType, name: str, instead: Callable[[Path], None]
) -> None:
    monkeypatch.setattr(module, name, instead)
    with pytest.raises(PowerLossError):
        await PowerTorture(tmp_path, 4).run(lives=1, deeds=DEEDS, images=4 * IMAGES)


BEFORE = len(migrations())
CHANGED = [*migrations(), (BEFORE + 1, "more", "CREATE TABLE more (value); INSERT INTO more SELECT id FROM message;")]


async def test_a_power_loss_during_a_schema_change_leaves_the_old_schema_or_the_new_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = tmp_path / "disk"
    root.mkdir()
    with Recorder(root) as recorder:
        scribe = Scribe(recorder, Ledger(), random.Random(5))
        await scribe.live(60)
        begin = len(recorder.steps)
        migrate(scribe.data, CHANGED)
        recorder.check()
    monkeypatch.setattr(sys.modules[migrate.__module__], "migrations", lambda: CHANGED)
    versions = Counter[int]()
    disk, applied, chance = Disk(), 0, random.Random(6)
    for moment in range(begin, len(recorder.steps) + 1, 2):
        disk.apply(recorder.steps[applied:moment])
        applied = moment
        folder = tmp_path / "image"
        write_tree(disk.image(Losses(chance)), folder)
        version = schema_of(folder / DATA / DATABASE)
        versions[version] += 1
        if version == BEFORE + 1:
            snapshot = folder / DATA / "snapshots" / f"schema-{BEFORE:04}.db"
            assert snapshot.exists(), f"step {moment}"
            assert schema_of(snapshot) == BEFORE
        with Recorder(folder):
            inspection = Inspection(folder / DATA, scribe.ledger, moment)
            await inspection.run()
        assert not inspection.problems, f"step {moment}"
        shutil.rmtree(folder)
    assert set(versions) == {BEFORE, BEFORE + 1}


def schema_of(path: Path) -> int:
    """Return the number of a database's schema, when all of it is whole."""
    connection = apsw.Connection(str(path))
    try:
        assert connection.execute("PRAGMA integrity_check").get == "ok"
        return int(connection.execute("PRAGMA user_version").get)
    finally:
        connection.close()
