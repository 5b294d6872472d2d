"""Backups: taken beside traffic and housekeeping, incremental, verified; the last one stays until the new one is."""

import asyncio
import contextlib
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.storage.letters import HEAD, Engine, Letters, finished, stored

from waypost.message.trace import TraceId
from waypost.storage import Conflict, Filter, StorageError
from waypost.storage.sqlite import DATABASE, SqliteStorage
from waypost.storage.sqlite.backup import taking
from waypost.storage.sqlite.backup.folder import BackupFolder
from waypost.storage.sqlite.backup.octets import Progress
from waypost.storage.sqlite.backup.restoring import Restored, find_source, restore
from waypost.storage.sqlite.backup.taking import Taken, take_backup
from waypost.storage.sqlite.backup.verifying import verify
from waypost.storage.sqlite.opening.renewal import JUMP

BOB = "bob@builder.test"
LARGE = bytes(range(256)) * 1024


@contextlib.contextmanager
def show(what: str) -> Iterator[Progress]:
    yield lambda done, total: None


def backup(engine: Engine, to: Path, *, keep: int = 1, quick: bool = False) -> Taken:
    return take_backup(engine.data, to, now=engine.clock(), keep=keep, quick=quick, show=show)


def bring_back(engine: Engine, place: Path, data: Path, *, despite_damage: bool = False) -> Restored:
    source = find_source(place, None)
    return restore(source, data, now=engine.clock(), show=show, despite_damage=despite_damage)


async def open_at(data: Path, engine: Engine, maker: int = 7) -> tuple[Engine, Letters]:
    other = Engine("sqlite", data, engine.clock)
    return other, Letters((await other.open()).storage, engine.clock, maker)


async def test_a_backup_beside_traffic_and_housekeeping_has_every_message_of_its_moment(
    engine: Engine, tmp_path: Path
) -> None:
    opened = await engine.open(segment_size=20_000)
    letters = Letters(opened.storage, engine.clock)
    kept = {await letters.post(b"%d" % n * 500, to=[BOB]): b"%d" % n * 500 for n in range(20)}
    done = asyncio.Event()
    rounds = 0

    async def traffic() -> None:
        nonlocal rounds
        while not done.is_set() or rounds < 3:
            trace = await letters.post(LARGE if rounds % 3 else b"x" * 3000, to=[BOB])
            (entry,) = [e async for e in letters.storage.queue.entries(Filter(trace=trace), now=0)]
            await letters.storage.queue.settle([finished(entry)])
            await opened.maintain(smallest=0)
            rounds += 1

    working = asyncio.create_task(traffic())
    loop = asyncio.get_running_loop()
    try:
        for _ in range(3):
            await loop.run_in_executor(None, backup, engine, tmp_path / "b")
    finally:
        done.set()
        await working
    assert verify(BackupFolder(tmp_path / "b"), show).whole
    assert bring_back(engine, tmp_path / "b", tmp_path / "new").messages >= len(kept)
    other, restored = await open_at(tmp_path / "new", engine)
    for trace, octets in kept.items():
        assert await stored(restored.storage.spool, trace) == HEAD + octets
    await other.close()


async def test_a_second_backup_copies_what_is_new_and_lets_the_first_go(
    engine: Engine, opened: SqliteStorage, letters: Letters, tmp_path: Path
) -> None:
    await letters.post(LARGE, to=[BOB])
    first = backup(engine, tmp_path / "b")
    assert first.copied > len(LARGE)
    await letters.post(b"more", to=[BOB])
    second = backup(engine, tmp_path / "b", quick=True)
    assert 0 < second.copied < 1000 and second.removed == (first.backup.name,)
    assert [each.name for each in BackupFolder(tmp_path / "b").backups()] == [second.backup.name]
    third = backup(engine, tmp_path / "b", keep=2)
    assert third.copied == 0 and third.removed == ()
    assert len(list((tmp_path / "b/databases").iterdir())) == 4


async def test_segments_that_no_backup_needs_any_more_go(
    engine: Engine, opened: SqliteStorage, letters: Letters, tmp_path: Path
) -> None:
    trace = await letters.post(LARGE, to=[BOB])
    backup(engine, tmp_path / "b")
    (entry,) = [e async for e in letters.storage.queue.entries(Filter(trace=trace), now=0)]
    await letters.storage.queue.settle([finished(entry)])
    await opened.maintain()
    backup(engine, tmp_path / "b", keep=2)
    assert len(list((tmp_path / "b/segments").iterdir())) == 1, "the older backup needs it"
    backup(engine, tmp_path / "b")
    assert list((tmp_path / "b/segments").iterdir()) == []


async def test_the_last_backup_stays_while_the_new_one_is_not_verified(
    engine: Engine, opened: SqliteStorage, letters: Letters, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trace = await letters.post(b"precious", to=[BOB])
    first = backup(engine, tmp_path / "b")
    await letters.post(LARGE, to=[BOB])

    def broken(*arguments: object, **named: object) -> Iterator[object]:
        raise OSError(28, "No space left on device")

    for step in ("copy_segment", "damaged_messages", "_manifest"):
        with monkeypatch.context() as patch:
            patch.setattr(taking, step, broken)
            with pytest.raises(OSError, match="No space"):
                backup(engine, tmp_path / "b")
        assert [found.whole for found in verify(BackupFolder(tmp_path / "b"), show).backups] == [True]
        assert BackupFolder(tmp_path / "b").backups()[-1].name == first.backup.name
    bring_back(engine, tmp_path / "b", tmp_path / "new")
    other, restored = await open_at(tmp_path / "new", engine)
    assert await stored(restored.storage.spool, trace) == HEAD + b"precious"
    await other.close()
    assert backup(engine, tmp_path / "b").backup.manifest.messages == 2


@pytest.mark.parametrize("harm", ["flipped", "cut", "removed"])
async def test_damage_in_the_backup_is_named_and_mended_by_the_next_one(
    engine: Engine, opened: SqliteStorage, letters: Letters, tmp_path: Path, harm: str
) -> None:
    traces = [await letters.post(b"number %d" % n * 100, to=[BOB]) for n in range(3)]
    await engine.close()  # until a segment is flushed, the database has copies of its octets
    backup(engine, tmp_path / "b")
    (segment,) = (tmp_path / "b/segments").iterdir()
    octets = segment.read_bytes()
    if harm == "flipped":
        segment.write_bytes(octets.replace(b"number 1", b"number X"))
    elif harm == "cut":
        segment.write_bytes(octets[: octets.index(b"number 1")])
    else:
        segment.unlink()
    (found,) = verify(BackupFolder(tmp_path / "b"), show).backups
    expected = {"flipped": traces[1:2], "cut": traces[1:], "removed": traces}[harm]
    assert [each.trace for each in found.damaged] == expected
    with pytest.raises(StorageError, match=r"messages? (is|are) not whole"):
        bring_back(engine, tmp_path / "b", tmp_path / "new")
    assert not (tmp_path / "new" / DATABASE).exists()
    assert len(bring_back(engine, tmp_path / "b", tmp_path / "most", despite_damage=True).damaged) == len(expected)
    assert backup(engine, tmp_path / "b").damaged == ()
    assert verify(BackupFolder(tmp_path / "b"), show).whole


async def test_damage_in_the_storage_harms_no_octet_that_was_backed_up_before(
    engine: Engine, opened: SqliteStorage, letters: Letters, tmp_path: Path
) -> None:
    await letters.post(b"backed up while it was whole", to=[BOB])
    first = backup(engine, tmp_path / "b")
    trace = await letters.post(b"damaged before it was backed up", to=[BOB])
    await engine.close()
    (segment,) = (engine.data / "segments").iterdir()
    segment.write_bytes(segment.read_bytes().replace(b"whole", b"whale").replace(b"damaged", b"Damaged"))
    second = backup(engine, tmp_path / "b")
    assert [each.trace for each in second.damaged] == [trace]
    names = [each.name for each in BackupFolder(tmp_path / "b").backups()]
    assert names == [first.backup.name, second.backup.name], "an older backup is worth more than one with damage"


async def test_a_damaged_database_of_a_backup_is_found(
    engine: Engine, opened: SqliteStorage, letters: Letters, tmp_path: Path
) -> None:
    await letters.post(b"x", to=[BOB])
    taken = backup(engine, tmp_path / "b")
    octets = bytearray(taken.backup.database.read_bytes())
    octets[4096 * 2 : 4096 * 3] = bytes(4096)
    taken.backup.database.write_bytes(octets)
    (found,) = verify(BackupFolder(tmp_path / "b"), show).backups
    assert "is damaged" in found.faults[0].what
    taken.backup.database.unlink()
    assert "is missing" in verify(BackupFolder(tmp_path / "b"), show).backups[0].faults[0].what


async def test_a_damaged_manifest_is_found_and_keeps_nobody_from_the_next_backup(
    engine: Engine, opened: SqliteStorage, letters: Letters, tmp_path: Path
) -> None:
    await letters.post(b"x", to=[BOB])
    first = backup(engine, tmp_path / "b")
    first.backup.database.with_suffix(".json").write_text("{")
    found = verify(BackupFolder(tmp_path / "b"), show)
    assert not found.whole and f"{first.backup.name}.json can't be read" in found.faults[0].what
    with pytest.raises(StorageError, match=r"\.json can't be read.*waypost restore RESCUED"):
        find_source(tmp_path / "b", None)
    second = backup(engine, tmp_path / "b")
    assert [found.backup.name for found in verify(BackupFolder(tmp_path / "b"), show).backups] == [second.backup.name]
    assert not first.backup.database.exists()


async def test_a_restore_begins_a_new_life_and_puts_what_was_there_aside(
    engine: Engine, opened: SqliteStorage, letters: Letters, tmp_path: Path
) -> None:
    bob = await letters.account(BOB)
    await letters.post(b"kept", mailboxes=[bob.inbox], to=["carol@elsewhere.test"])
    backup(engine, tmp_path / "b")
    await letters.post(b"since then", mailboxes=[bob.inbox])
    with pytest.raises(Conflict, match="is in use: stop the service first"):
        bring_back(engine, tmp_path / "b", engine.data)
    await engine.close()
    newer = (engine.data / DATABASE).read_bytes()
    for number in (1, 2):
        done = bring_back(engine, tmp_path / "b", engine.data)
        assert done.held == 1 and done.lost is not None
        if number == 1:
            assert (done.lost / DATABASE).read_bytes() == newer
        restored = Letters((await engine.open()).storage, engine.clock, maker=number)
        box = await restored.storage.mailboxes.get(bob.id)
        assert box.uidnext == 2 + number * JUMP
        assert [row.uid for row in await restored.storage.mailboxes.messages(bob.inbox)] == [1]
        assert [e.state async for e in restored.storage.queue.entries(Filter(), now=0)] == ["held"]
        await engine.close()


async def test_a_copied_data_directory_can_be_restored_log_and_all(engine: Engine, tmp_path: Path) -> None:
    import shutil

    letters = Letters((await engine.open()).storage, engine.clock)
    trace = await letters.post(b"in the log alone", to=[BOB])
    shutil.copytree(engine.data, tmp_path / "killed", ignore=shutil.ignore_patterns("*.lock", "*-shm"))
    assert (tmp_path / "killed" / f"{DATABASE}-wal").stat().st_size
    bring_back(engine, tmp_path / "killed", tmp_path / "new")
    other, restored = await open_at(tmp_path / "new", engine)
    assert await stored(restored.storage.spool, trace) == HEAD + b"in the log alone"
    await other.close()


async def test_a_restore_that_was_broken_off_is_begun_again_and_nothing_starts_meanwhile(
    engine: Engine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    letters = Letters((await engine.open()).storage, engine.clock)
    trace = await letters.post(b"kept", to=[BOB])
    backup(engine, tmp_path / "b")
    await engine.close()
    rename, left = Path.rename, 0

    class PowerLost(BaseException):
        pass

    def broken(path: Path, target: Path) -> Path:
        nonlocal left
        if path.parent.name in ("data", "restoring"):
            if not left:
                raise PowerLost
            left -= 1
        return rename(path, target)

    steps = 0
    while True:
        left = steps
        with monkeypatch.context() as patch:
            patch.setattr(Path, "rename", broken)
            try:
                bring_back(engine, tmp_path / "b", engine.data)
                break
            except PowerLost:
                steps += 1
        with pytest.raises(StorageError, match="a restore was broken off: run `waypost restore DIR` again"):
            await engine.open()
    assert steps >= 5
    restored = Letters((await engine.open()).storage, engine.clock, maker=1)
    assert await stored(restored.storage.spool, trace) == HEAD + b"kept"


async def test_a_folder_of_another_storage_or_of_other_files_is_refused(
    engine: Engine, opened: SqliteStorage, letters: Letters, tmp_path: Path
) -> None:
    backup(engine, tmp_path / "b")
    other, theirs = await open_at(tmp_path / "other", engine)
    await theirs.post(b"theirs", to=[BOB])
    with pytest.raises(StorageError, match="holds the backups of another storage"):
        backup(other, tmp_path / "b")
    (tmp_path / "home").mkdir()
    (tmp_path / "home/thesis.txt").write_text("precious")
    with pytest.raises(StorageError, match="holds other files, and no backups"):
        backup(engine, tmp_path / "home")
    with pytest.raises(StorageError, match="is in the data directory"):
        backup(engine, engine.data / "b")
    with pytest.raises(StorageError, match="holds neither backups nor a copied data directory"):
        find_source(tmp_path / "home", None)
    await other.close()


async def test_after_a_restore_the_same_folder_takes_backups_again(engine: Engine, tmp_path: Path) -> None:
    letters = Letters((await engine.open()).storage, engine.clock)
    traces: list[TraceId] = []
    for number in range(3):
        traces.append(await letters.post(b"%d" % number * 100, to=[BOB]))
        backup(engine, tmp_path / "b")
        await letters.post(b"of the lost time" * 100, to=[BOB])
        await engine.close()
        bring_back(engine, tmp_path / "b", engine.data)
        letters = Letters((await engine.open()).storage, engine.clock, maker=number + 1)
    for number, trace in enumerate(traces):
        assert await stored(letters.storage.spool, trace) == HEAD + b"%d" % number * 100
    assert verify(BackupFolder(tmp_path / "b"), show).whole
