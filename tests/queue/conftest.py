"""A world for each test of the queue."""

import shutil
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from tests.queue.world import World, make_world


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    made = await make_world(tmp_path)
    yield made
    await made.close()


@pytest.fixture
def folder(filled: Path, tmp_path: Path) -> Path:
    """A copy of a module's `filled` storage, to damage."""
    return Path(shutil.copytree(filled, tmp_path / "data"))
