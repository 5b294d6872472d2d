"""A database that is missing, older or another one: nothing is removed, and new mail is not taken for old."""

import logging
import shutil
from pathlib import Path

import apsw
import pytest
from tests.storage.letters import HEAD, SECOND, Engine, Letters, claim, files_in, stored

from waypost.journal import Held, HeldAction
from waypost.storage import Account, Filter, QueueEntry, StorageError
from waypost.storage.entry_words import SINCE_RESTORE
from waypost.storage.sqlite import DATABASE
from waypost.storage.sqlite.opening.life import Life, judge, read_file
from waypost.storage.sqlite.opening.renewal import JUMP

BOB = "bob@builder.test"
LARGE = bytes(range(256)) * 1024


def snapshot(data: Path, to: Path) -> None:
    """Copy the database as the manual's own tools do."""
    connection = apsw.Connection(str(data / DATABASE))
    try:
        connection.execute("VACUUM INTO ?", (str(to),)).fetchall()
    finally:
        connection.close()


def put_back(data: Path, saved: Path) -> None:
    """Put a database in the place of the newer one."""
    for path in data.glob(f"{DATABASE}*"):
        path.unlink()
    shutil.copy(saved, data / DATABASE)


async def begin(engine: Engine) -> tuple[Letters, Account]:
    letters = Letters((await engine.open()).storage, engine.clock)
    return letters, await letters.account(BOB)


async def entries_of(letters: Letters) -> list[QueueEntry]:
    return [entry async for entry in letters.storage.queue.entries(Filter(), now=engine_time(letters))]


def engine_time(letters: Letters) -> int:
    return int(letters.clock())


def lost(data: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in (data / "lost").rglob("*.seg")}


@pytest.mark.parametrize("size", [0, None], ids=["empty", "missing"])
async def test_segments_without_a_database_are_refused_and_left_alone(engine: Engine, size: int | None) -> None:
    letters, _ = await begin(engine)
    await letters.post(b"precious", to=["carol@elsewhere.test"])
    await engine.close()
    for path in engine.data.glob(f"{DATABASE}*"):
        path.unlink()
    if size is not None:
        (engine.data / DATABASE).touch()
    before = {name: (engine.data / "segments" / name).read_bytes() for name in files_in(engine.data)}
    with pytest.raises(StorageError, match=r"waypost\.db is missing, and 1 segment of messages is there.*restore DIR"):
        await engine.open()
    assert {name: (engine.data / "segments" / name).read_bytes() for name in files_in(engine.data)} == before


async def test_a_host_without_mail_that_lost_its_database_is_refused_too(engine: Engine) -> None:
    await begin(engine)
    await engine.close()
    for path in engine.data.glob(f"{DATABASE}*"):
        path.unlink()
    with pytest.raises(StorageError, match="is missing, and the rest of a storage is there"):
        await engine.open()


async def test_segments_that_an_older_database_never_knew_are_put_aside_and_said(
    engine: Engine, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    letters, _ = await begin(engine)
    await letters.post(b"old", to=["carol@elsewhere.test"])
    snapshot(engine.data, tmp_path / "saved.db")
    trace = await letters.post(LARGE, to=["carol@elsewhere.test"])
    await engine.close()
    before = {name: (engine.data / "segments" / name).read_bytes() for name in files_in(engine.data)}
    newer = tmp_path / "newer.db"
    shutil.copy(engine.data / DATABASE, newer)
    put_back(engine.data, tmp_path / "saved.db")
    with caplog.at_level(logging.CRITICAL):
        opened = await engine.open()
    assert "the storage was restored" in caplog.text
    for _ in range(3):
        await opened.maintain(smallest=0)
    assert lost(engine.data) == before
    await engine.close()
    # The newer database with what lies under lost/ is the whole of it again.
    put_back(engine.data, newer)
    for path in (engine.data / "lost").rglob("*.seg"):
        path.replace(engine.data / "segments" / path.name)
    (engine.data / "life").unlink()
    again = await engine.open()
    assert await stored(again.storage.spool, trace) == HEAD + LARGE


async def test_octets_that_an_older_database_does_not_know_in_a_segment_that_it_does_are_kept(
    engine: Engine, tmp_path: Path
) -> None:
    letters, bob = await begin(engine)
    await letters.post(b"read soon" * 500, mailboxes=[bob.inbox])
    snapshot(engine.data, tmp_path / "saved.db")
    await letters.post(b"since the backup" * 1000, mailboxes=[bob.inbox])
    await engine.close()
    (segment,) = files_in(engine.data)
    before = (engine.data / "segments" / segment).read_bytes()
    put_back(engine.data, tmp_path / "saved.db")
    opened = await engine.open()
    await opened.storage.mailboxes.expunge(bob.inbox, [1])
    for _ in range(2):
        await opened.maintain(smallest=0)
    assert segment not in files_in(engine.data)
    assert lost(engine.data)[segment] == before


async def test_after_a_restore_no_uid_names_another_message_and_flags_are_told_again(
    engine: Engine, tmp_path: Path
) -> None:
    letters, bob = await begin(engine)
    await letters.post(b"first", mailboxes=[bob.inbox])
    snapshot(engine.data, tmp_path / "saved.db")
    for _ in range(3):
        await letters.post(b"lost", mailboxes=[bob.inbox])
    await letters.storage.mailboxes.set_flags(bob.inbox, [1], frozenset({"\\Seen"}))
    before = await letters.storage.mailboxes.get(bob.id)
    await engine.close()
    for number in (1, 2, 3):  # the same backup again and again: numbers of each time are their own
        put_back(engine.data, tmp_path / "saved.db")
        letters = Letters((await engine.open()).storage, engine.clock, maker=number)
        box = await letters.storage.mailboxes.get(bob.id)
        assert box.uidvalidity == before.uidvalidity
        assert box.uidnext == 2 + number * JUMP > before.uidnext
        assert box.highest_modseq > before.highest_modseq
        (message,) = await letters.storage.mailboxes.messages(bob.inbox)
        assert message.uid == 1 and message.modseq == box.highest_modseq
        await letters.post(b"new", mailboxes=[bob.inbox])
        before = await letters.storage.mailboxes.get(bob.id)
        await engine.close()


async def test_after_a_restore_leases_are_forgotten_and_the_queue_is_held_until_it_is_released(
    engine: Engine, tmp_path: Path
) -> None:
    letters, _ = await begin(engine)
    await letters.post(b"may have left", to=["carol@elsewhere.test"])
    now = engine.clock()
    await letters.storage.queue.claim_destinations(3, now=now, lease=60 * SECOND, limit=10)
    snapshot(engine.data, tmp_path / "saved.db")
    await letters.post(b"since", to=["carol@elsewhere.test"])
    await engine.close()
    put_back(engine.data, tmp_path / "saved.db")
    letters = Letters((await engine.open()).storage, engine.clock, maker=1)
    queue = letters.storage.queue
    (entry,) = await entries_of(letters)
    assert entry.state == "held" and entry.last_error is not None and "held since a restore" in entry.last_error
    assert await queue.claim_destinations(0, now=now, lease=60 * SECOND, limit=10) == []
    assert (await letters.storage.journal.of(entry.trace))[-1].details == Held(
        action=HeldAction.HELD, problem=SINCE_RESTORE
    )
    new = await letters.post(b"of today", to=["dave@elsewhere.test"])
    assert [e.trace for e in await entries_of(letters) if e.state == "ready"] == [new]
    await queue.unhold([entry.id], now=now)
    assert "elsewhere.test" in await claim(queue, 0, now=now)


async def test_a_clean_stop_a_kill_and_a_move_of_everything_are_no_restore(engine: Engine, tmp_path: Path) -> None:
    letters, bob = await begin(engine)
    await letters.post(b"x", to=["carol@elsewhere.test"], mailboxes=[bob.inbox])
    shutil.copytree(engine.data, tmp_path / "killed", ignore=shutil.ignore_patterns("*.lock", "*-shm"))
    await engine.close()
    shutil.copytree(engine.data, tmp_path / "moved")
    for data in (engine.data, tmp_path / "killed", tmp_path / "moved"):
        other = Engine("sqlite", data, engine.clock)
        letters = Letters((await other.open()).storage, engine.clock)
        assert [entry.state for entry in await entries_of(letters)] == ["ready"]
        assert (await letters.storage.mailboxes.get(bob.id)).uidnext == 2
        await other.close()
        assert not (data / "lost").exists()


async def test_the_database_of_another_storage_is_refused(engine: Engine, tmp_path: Path) -> None:
    letters, _ = await begin(engine)
    await letters.post(b"ours", to=["carol@elsewhere.test"])
    await engine.close()
    other = Engine("sqlite", tmp_path / "other", engine.clock)
    theirs = Letters((await other.open()).storage, engine.clock)
    await theirs.post(b"theirs", to=["carol@elsewhere.test"])
    await other.close()
    put_back(engine.data, other.data / DATABASE)
    with pytest.raises(StorageError, match="is the database of another storage than this data directory"):
        await engine.open()


async def test_segments_of_another_storage_or_none_are_refused(engine: Engine, tmp_path: Path) -> None:
    letters, _ = await begin(engine)
    await letters.post(b"ours" * 7, to=["carol@elsewhere.test"])
    await engine.close()
    other = Engine("sqlite", tmp_path / "other", engine.clock)
    theirs = Letters((await other.open()).storage, engine.clock)
    engine.clock.time += SECOND
    await theirs.post(b"theirs", to=["carol@elsewhere.test"])
    await other.close()
    shutil.move(engine.data / "segments", tmp_path / "kept")
    for mistake in ("empty", "mixed"):
        (engine.data / "segments").mkdir(exist_ok=True)
        if mistake == "mixed":
            shutil.copytree(other.data / "segments", engine.data / "segments", dirs_exist_ok=True)
        with pytest.raises(StorageError, match=r"none of the 1 segments that waypost\.db needs is there"):
            await engine.open()
    shutil.rmtree(engine.data / "segments")
    shutil.move(tmp_path / "kept", engine.data / "segments")
    await engine.open()


async def test_a_segment_that_others_have_written_into_is_put_aside_and_not_removed(engine: Engine) -> None:
    letters, bob = await begin(engine)
    await letters.post(LARGE, mailboxes=[bob.inbox])
    (segment,) = files_in(engine.data)
    path = engine.data / "segments" / segment
    path.write_bytes(path.read_bytes() + b"mail of somebody else")
    await letters.storage.mailboxes.expunge(bob.inbox, [1])
    await engine.opened[0].maintain()
    assert segment not in files_in(engine.data)
    assert lost(engine.data)[segment].endswith(b"mail of somebody else")


def test_a_database_and_a_file_are_compared_by_id_and_mark() -> None:
    first = Life("a", 5, 0)
    assert judge(first, Life("a", 5)) and judge(first, Life("a", 4))
    restored = {
        "older": judge(first, Life("a", 6)),
        "alone": judge(first, None),
        "without a name": judge(None, Life("a", 1)),
        "of an earlier life": judge(first, Life("b", 9, 1, ("a",))),
    }
    assert all(verdict is not None and verdict.restored for verdict in restored.values())
    for fresh in (judge(None, None), judge(None, Life("a", 0)), judge(Life("b", 9, 1, ("a",)), first)):
        assert fresh is not None and fresh.restored is None
    assert judge(first, Life("c", 1)) is None


def test_a_life_remembers_so_many_former_ones_that_its_file_stays_one_sector(tmp_path: Path) -> None:
    from waypost.storage.sqlite.opening.life import write_file

    life = Life("0" * 32, 10**12, 10**6)
    for _ in range(20):
        life = life.renewed(life)
    write_file(tmp_path, life)
    assert (tmp_path / "life").stat().st_size == 512
    assert read_file(tmp_path) == life
