"""One suite over each engine: a test that takes `engine`, `opened`, `storage` or `letters` runs with every one."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from tests.storage.engines import ENGINES
from tests.storage.letters import Engine, Letters

from waypost.storage import Account, Mailboxes, Storage
from waypost.storage.engine.opening import OpenStorage


@pytest.fixture(params=ENGINES)
async def engine(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Engine]:
    """An engine with nothing in it."""
    engine = Engine(request.param, tmp_path / "data")
    yield engine
    await engine.close()


@pytest.fixture
async def opened(engine: Engine) -> OpenStorage:
    """The engine's storage, as worker 0 opens it."""
    opened: OpenStorage = await engine.open()
    return opened


@pytest.fixture
def storage(opened: OpenStorage) -> Storage:
    """The parts of the storage."""
    return opened.storage


@pytest.fixture
def letters(engine: Engine, storage: Storage) -> Letters:
    """A maker of messages."""
    return Letters(storage, engine.clock)


@pytest.fixture
def mailboxes(storage: Storage) -> Mailboxes:
    """All mailboxes."""
    return storage.mailboxes


@pytest.fixture
async def bob(letters: Letters) -> Account:
    """An account with an empty mailbox."""
    return await letters.account()
