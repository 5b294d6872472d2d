"""Each mistake of an operator once: the service refuses with what to do, or goes on; nothing unknown is ever removed.

`make torture-operators` does the same for longer.
"""

import asyncio
import os
import pwd
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.storage.letters import Clock, Letters
from tests.torture import operators
from tests.torture.mistakes import MISTAKES
from tests.torture.operators import MistakePunished, OperatorTorture

from waypost.storage import StorageError
from waypost.storage.sqlite import DATABASE, SqliteStorage, open_storage
from waypost.storage.sqlite.opening import renewal, taking_up
from waypost.storage.sqlite.upkeep import maintenance

as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can make files of another owner")


@pytest.mark.timeout(300)
async def test_each_mistake_once(tmp_path: Path) -> None:
    figures = await OperatorTorture(tmp_path, seed=11).run(1)
    assert figures.mistakes.keys() == MISTAKES.keys()
    assert figures.refused >= 6 and figures.went_on >= 5 and figures.noticed >= 2


async def test_it_would_notice_that_unknown_segments_are_removed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(operators, "MISTAKES", {"older database": MISTAKES["older database"]})
    monkeypatch.setattr(taking_up, "keep_all", lambda segments, folder: 0)
    for module in (taking_up, maintenance):
        monkeypatch.setattr(module, "put_aside", lambda path, folder: path.unlink())
    with pytest.raises(MistakePunished, match="records are gone"):
        await OperatorTorture(tmp_path, seed=11).run(3)


async def test_it_would_notice_that_uids_do_not_jump(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(operators, "MISTAKES", {"older database": MISTAKES["older database"]})
    monkeypatch.setattr(renewal, "JUMP", 0)
    with pytest.raises(MistakePunished, match=r"names another message|new messages were fetched"):
        await OperatorTorture(tmp_path, seed=11).run(3)


@pytest.fixture
def data() -> Iterator[Path]:
    """The data directory of a user without privileges, in a place that everybody can enter."""
    folder = Path(tempfile.mkdtemp())
    folder.chmod(0o755)
    data = folder / "data"

    async def fill() -> None:
        clock = Clock()
        opened = await open_it(data, clock)
        await Letters(opened.storage, clock).post(b"precious", to=["carol@elsewhere.test"])
        await opened.close()

    asyncio.run(fill())
    give(data, user().pw_uid)
    yield data
    shutil.rmtree(folder)


async def open_it(data: Path, clock: Clock) -> SqliteStorage:
    return await open_storage(data, now=clock, worker=0, publish=lambda notice: None, memory_per_message=1 << 20)


def user() -> pwd.struct_passwd:
    return pwd.getpwnam("nobody")


def give(path: Path, uid: int) -> None:
    for each in (path, *path.rglob("*")) if path.is_dir() else (path,):
        os.chown(each, uid, -1)


def opened_by_the_service(data: Path) -> str:
    """Open the storage as the service's user, in a process of its own; return what it says, nothing when it works."""
    reading, writing = os.pipe()
    child = os.fork()
    if not child:
        try:
            os.close(reading)
            os.setgroups([])
            os.setresgid(user().pw_gid, user().pw_gid, user().pw_gid)
            os.setresuid(user().pw_uid, user().pw_uid, user().pw_uid)
            try:

                async def once() -> None:
                    await (await open_it(data, Clock())).close()

                asyncio.run(once())
            except StorageError as error:
                os.write(writing, str(error).encode())
        finally:
            os._exit(0)
    os.close(writing)
    with os.fdopen(reading) as said:
        words = said.read()
    os.waitpid(child, 0)
    return words


@as_root
@pytest.mark.parametrize(
    "what", [DATABASE, "segments", "segments/000000000001.seg", "life", "in-use.lock", "locks", "."]
)
def test_a_file_of_another_owner_is_refused_with_its_name_its_owner_and_what_mends_it(data: Path, what: str) -> None:
    assert opened_by_the_service(data) == ""
    path = data / what
    os.chown(path, 0, 0)
    path.chmod(0o700 if path.is_dir() else 0o600)
    words = opened_by_the_service(data)
    assert f"{path} belongs to root (mode " in words, words
    assert "this process is nobody, which can't use it: " in words and words.rstrip().endswith(
        f"chown -R nobody: {data}"
    )
    give(data, user().pw_uid)  # as it says
    assert opened_by_the_service(data) == ""


@as_root
def test_the_log_of_a_database_of_another_owner_is_named(data: Path) -> None:
    log = data / f"{DATABASE}-wal"
    log.touch(0o600)
    assert f"{log} belongs to root" in opened_by_the_service(data)


@as_root
def test_a_folder_above_that_nobody_may_enter_is_named(data: Path) -> None:
    data.parent.chmod(0o700)
    words = opened_by_the_service(data)
    assert str(data) in words and "Permission denied; this process is nobody" in words
