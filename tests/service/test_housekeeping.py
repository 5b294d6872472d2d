"""Who keeps the house lets others do it when it retires: they have a newer configuration."""

import asyncio
from pathlib import Path
from typing import Any, cast

import pytest

from waypost.service.housekeeping import Housekeeper
from waypost.service.processes.run_folder import RunFolder
from waypost.storage.sqlite import SqliteStorage


class Kept:
    """A storage that tells when it is kept in order."""

    def __init__(self) -> None:
        self.kept = asyncio.Event()

    async def maintain(self, **how: Any) -> None:
        self.kept.set()


async def test_who_retires_lets_another_keep_the_house(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("waypost.service.housekeeping._EVERY", 0.001)
    storage, mine, others = Kept(), RunFolder(tmp_path), RunFolder(tmp_path)
    housekeeper = Housekeeper(cast(SqliteStorage, storage), mine, journal_age=1, now=lambda: 1)
    keeping = asyncio.create_task(housekeeper.run())
    await storage.kept.wait()
    assert not others.take_maintenance()
    housekeeper.retire()
    await keeping
    assert others.take_maintenance()
    for folder in (mine, others):
        folder.close()
