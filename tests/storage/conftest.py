"""One suite over each engine: a test that takes `engine`, `opened`, `storage` or `letters` runs with every one."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from tests.storage.letters import Engine, Letters

from waypost.storage import Storage
from waypost.storage.sqlite import SqliteStorage


@pytest.fixture(params=["sqlite"])
async def engine(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Engine]:
    """An engine with nothing in it."""
    engine = Engine(request.param, tmp_path / "data")
    yield engine
    await engine.close()


@pytest.fixture
async def opened(engine: Engine) -> SqliteStorage:
    """The engine's storage, as worker 0 opens it."""
    return await engine.open()


@pytest.fixture
def storage(opened: SqliteStorage) -> Storage:
    """The parts of the storage."""
    return opened.storage


@pytest.fixture
def letters(engine: Engine, storage: Storage) -> Letters:
    """A maker of messages."""
    return Letters(storage, engine.clock)
