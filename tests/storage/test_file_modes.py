"""Copies of the database hold mail: only their owner may read them, whatever the umask of who makes them."""

import os
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.storage.damage import pages_of, wreck
from tests.storage.letters import START, Engine, Letters
from tests.storage.test_sqlite_backup import show

from waypost.storage.sqlite.backup.restoring import find_source, restore
from waypost.storage.sqlite.backup.taking import take_backup
from waypost.storage.sqlite.opening.migrate import migrate, migrations
from waypost.storage.sqlite.salvage.recovering import recover


@pytest.fixture(autouse=True)
def careless() -> Iterator[None]:
    """A umask that lets everybody read."""
    before = os.umask(0)
    yield
    os.umask(before)


def modes(folder: Path) -> dict[str, int]:
    """Return the modes of all files below a folder."""
    return {
        str(path.relative_to(folder)): stat.S_IMODE(path.stat().st_mode) for path in folder.rglob("*") if path.is_file()
    }


def test_snapshots_are_for_their_owner_alone_those_of_earlier_versions_too(tmp_path: Path) -> None:
    migrate(tmp_path, migrations()[:-1])
    (tmp_path / "snapshots").mkdir(mode=0o755)
    (tmp_path / "snapshots/schema-0001.db").write_bytes(b"")
    (tmp_path / "snapshots/schema-0001.db").chmod(0o644)
    assert migrate(tmp_path) == 1
    found = modes(tmp_path)
    assert len(found) == 3 and set(found.values()) == {0o600}


async def test_backups_restores_and_what_is_recovered_are_for_their_owner_alone(engine: Engine, tmp_path: Path) -> None:
    letters = Letters((await engine.open()).storage, engine.clock)
    bob = await letters.account()
    for number in range(20):
        await letters.post(b"%d" % number, to=["bob@builder.test"], mailboxes=[bob.inbox])
    await engine.close()
    take_backup(engine.data, tmp_path / "backup", now=START, keep=1, quick=False, show=show)
    restore(find_source(tmp_path / "backup", None), tmp_path / "fresh", now=START, show=show)
    wreck(engine.data, pages_of(engine.data, "message")[-1])
    recover(engine.data, tmp_path / "recovered", now=START, show=show)
    for folder in ("backup", "fresh", "recovered"):
        found = modes(tmp_path / folder)
        assert len(found) > 2
        assert set(found.values()) == {0o600}, found
