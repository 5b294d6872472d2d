"""Digests of backups: whatever changes in a file of a backup is found, named, and never restored as whole."""

import contextlib
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import msgspec
import pytest
from tests.storage.letters import HEAD, Engine, Letters, stored

from waypost.storage import StorageError
from waypost.storage.sqlite import SqliteStorage
from waypost.storage.sqlite.backup import digests, taking
from waypost.storage.sqlite.backup.folder import AboutBefore, BackupFolder, ManifestBefore
from waypost.storage.sqlite.backup.octets import Progress
from waypost.storage.sqlite.backup.restoring import find_source, restore
from waypost.storage.sqlite.backup.taking import Taken, take_backup
from waypost.storage.sqlite.backup.verifying import Report, verify
from waypost.storage.sqlite.upkeep.check import StorageChecker

BOB = "bob@builder.test"
LARGE = bytes(range(256)) * 40


@contextlib.contextmanager
def show(what: str) -> Iterator[Progress]:
    yield lambda done, total: None


def backup(engine: Engine, to: Path, *, keep: int = 1, quick: bool = False) -> Taken:
    return take_backup(engine.data, to, now=engine.clock(), keep=keep, quick=quick, show=show)


def look(folder: Path) -> Report:
    return verify(BackupFolder(folder), show)


def words(report: Report) -> str:
    faults = [*report.faults, *(fault for each in report.backups for fault in each.faults)]
    assert all(fault.advice for fault in faults)
    return "\n".join(fault.what for fault in faults)


@pytest.fixture
async def folder(engine: Engine, tmp_path: Path) -> Path:
    """A folder with two backups that share segments: three small messages, and dead octets between them."""
    letters = Letters((await engine.open()).storage, engine.clock)
    bob = await letters.account(BOB)
    for number in range(3):
        await letters.post(b"%d" % number * 500, mailboxes=[bob.inbox])
    backup(engine, tmp_path / "b", keep=2)
    for number in range(2):
        await letters.post(LARGE, mailboxes=[bob.inbox])
        await letters.storage.mailboxes.expunge(bob.inbox, [number + 1])
        await engine.close()  # the next message has a segment of its own
        letters = Letters((await engine.open()).storage, engine.clock, number + 1)
    await engine.close()
    backup(engine, tmp_path / "b", keep=2)
    assert look(tmp_path / "b").whole and len(list((tmp_path / "b/segments").iterdir())) > 1
    return tmp_path / "b"


def files_of(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.is_file() and path.name != "lock")


def restores_whole(folder: Path, engine: Engine, to: Path) -> bool:
    """True when it was restored, and then is whole; False when it was refused, and nothing was made."""
    try:
        restore(find_source(folder, None), to, now=engine.clock(), show=show)
    except StorageError:
        assert not (to / "waypost.db").exists() and not (to / "restoring").exists()
        return False
    checker = StorageChecker(to)
    try:
        assert [problem for problem in checker.problems(lambda done, total: None) if not problem.harmless] == []
    finally:
        checker.close()
    return True


async def test_every_changed_octet_is_found_in_the_file_that_has_it(
    engine: Engine, folder: Path, tmp_path: Path
) -> None:
    newest = look(folder).backups[-1].backup.name
    for path in files_of(folder):
        octets = path.read_bytes()
        places = {0, 1, len(octets) // 3, len(octets) // 2, len(octets) - 2, len(octets) - 1}
        if path.suffix == ".json":
            places |= set(range(0, len(octets), 7)) | set(range(len(octets) - 90, len(octets)))
        for place in sorted(places):
            for bit in (1, 0x80):
                path.write_bytes(octets[:place] + bytes([octets[place] ^ bit]) + octets[place + 1 :])
                report = look(folder)
                assert not report.whole and str(path) in words(report), place
        restored = restores_whole(folder, engine, tmp_path / f"new-{path.name}")
        assert restored is (path.name not in (f"{newest}.json", f"{newest}.db")) or path.suffix == ".seg"
        path.write_bytes(octets)
    assert look(folder).whole


@pytest.mark.parametrize("share", [0, 0.5, 1])
async def test_every_cut_file_is_found(engine: Engine, folder: Path, tmp_path: Path, share: float) -> None:
    for path in files_of(folder):
        octets = path.read_bytes()
        path.write_bytes(octets[: int((len(octets) - 1) * share)])
        assert str(path) in words(look(folder))
        restores_whole(folder, engine, tmp_path / f"new-{path.name}")
        path.write_bytes(octets)


Harm = Callable[[Path], None]


def _remove(path: Path) -> None:
    path.unlink()


def _link(path: Path) -> None:
    path.rename(path.parent.parent.parent / path.name)
    path.symlink_to(path.parent.parent.parent / path.name)


def _pipe(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


def _folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


@pytest.mark.parametrize("harm", [_remove, _link, _pipe, _folder])
async def test_every_file_that_is_gone_or_something_else_is_found_and_never_opened(
    engine: Engine, folder: Path, tmp_path: Path, harm: Harm
) -> None:
    for path in files_of(folder):
        shutil.copytree(folder, tmp_path / "kept", dirs_exist_ok=True)
        harm(path)
        report = look(folder)
        assert not report.whole and str(path) in words(report)
        restores_whole(folder, engine, tmp_path / f"new-{path.name}")
        shutil.rmtree(folder)
        (tmp_path / "kept").rename(folder)


async def test_two_segments_that_changed_places_are_both_named(folder: Path) -> None:
    first, second, *_ = sorted((folder / "segments").iterdir())
    first.rename(folder / "x")
    second.rename(first)
    (folder / "x").rename(second)
    said = words(look(folder))
    assert str(first) in said and str(second) in said


async def test_unknown_files_are_noted_and_neither_read_nor_removed(engine: Engine, folder: Path) -> None:
    strange = [folder / "notes.txt", folder / "databases/notes.txt", folder / "segments/1.seg", folder / "segments/x"]
    for path in strange:
        path.write_bytes(b"precious")
    report = look(folder)
    assert report.whole
    assert [note.what for note in report.notes] == [f"{path} is unknown" for path in sorted(strange[:1]) + strange[1:]]
    backup(engine, folder)
    assert all(path.read_bytes() == b"precious" for path in strange if path.name != "1.seg")


async def test_what_a_broken_off_backup_left_is_noted_and_removed_by_the_next(
    engine: Engine, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Killed(BaseException):
        pass

    def killed(*arguments: object, **named: object) -> None:
        raise Killed

    monkeypatch.setattr(taking, "_manifest", killed)
    with pytest.raises(Killed):
        backup(engine, folder)
    monkeypatch.undo()
    report = look(folder)
    assert report.whole and len(report.backups) == 2
    (note,) = report.notes
    assert note.what.endswith(".db is left over") and "the next backup removes it" in note.advice
    backup(engine, folder)
    assert look(folder).notes == () and look(folder).whole


@pytest.mark.parametrize("quick", [False, True])
async def test_the_next_backup_mends_a_segment_that_the_storage_still_has(
    engine: Engine, folder: Path, quick: bool
) -> None:
    for path in sorted((folder / "segments").iterdir()):
        octets = path.read_bytes()
        path.write_bytes(octets[:-1] if quick else b"X" + octets[1:])
        assert not look(folder).whole
        backup(engine, folder, keep=3, quick=quick)
        assert path.read_bytes() == octets and look(folder).whole


async def test_a_database_that_the_disk_changed_while_it_was_copied_is_not_verified(
    engine: Engine, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = [each.backup.name for each in look(folder).backups]

    def changed(database: Path, to: Path) -> None:
        to.write_bytes(b"SQLite format 3\0" + bytes(5000))

    monkeypatch.setattr(taking, "snapshot", changed)
    with pytest.raises(StorageError, match="is damaged"):
        backup(engine, folder)
    assert [each.backup.name for each in look(folder).backups] == names and look(folder).whole


def without_digests(folder: Path) -> None:
    """Make every manifest one of the time before digests."""
    paths = [(path, ManifestBefore) for path in (folder / "databases").glob("*.json")]
    for path, kind in (*paths, (folder / "waypost-backup.json", AboutBefore)):
        fields = msgspec.json.decode(path.read_bytes())
        names = kind.__struct_fields__
        path.write_bytes(msgspec.json.encode({name: fields[name] for name in names if name in fields}))


async def test_backups_from_before_digests_are_verified_restored_and_gone_on_with(
    engine: Engine, folder: Path, tmp_path: Path
) -> None:
    without_digests(folder)
    report = look(folder)
    assert report.whole and [each.has_digests for each in report.backups] == [False, False]
    assert restores_whole(folder, engine, tmp_path / "new")
    backup(engine, folder, keep=2, quick=True)
    assert [each.has_digests for each in look(folder).backups] == [False, True]
    segment = sorted((folder / "segments").iterdir())[0]
    segment.write_bytes(b"X" + segment.read_bytes()[1:])
    assert str(segment) in words(look(folder)), "what an older backup had copied has a digest, too"


async def test_an_older_backup_without_its_database_keeps_no_new_one_from_being_taken(
    engine: Engine, folder: Path
) -> None:
    without_digests(folder)
    older = look(folder).backups[-1].backup
    older.database.unlink()
    taken = backup(engine, folder, keep=2)
    assert [each.whole for each in look(folder).backups] == [False, True]
    assert taken.backup.name != older.name


async def test_the_newest_backup_is_not_passed_over_in_silence(engine: Engine, folder: Path) -> None:
    older, newest = (each.backup for each in look(folder).backups)
    manifest = newest.database.with_suffix(".json")
    octets = manifest.read_bytes()
    manifest.unlink()
    with pytest.raises(StorageError, match=rf"is missing; nothing was changed; .*--backup: {older.name}"):
        find_source(folder, None)
    assert find_source(folder, older.name).name == older.name
    manifest.write_bytes(octets[:-3])
    with pytest.raises(StorageError, match="can't be read"):
        find_source(folder, newest.name)


async def test_an_octet_of_a_database_that_sqlite_does_not_miss_ends_a_restore(
    engine: Engine, folder: Path, tmp_path: Path
) -> None:
    database = look(folder).backups[-1].backup.database
    octets = database.read_bytes()
    place = octets.index(b"alice@wonderland.test")
    database.write_bytes(octets[:place] + b"x" + octets[place + 1 :])
    with pytest.raises(StorageError, match=r"is damaged.*nothing was changed.*--backup"):
        restore(find_source(folder, None), tmp_path / "new", now=engine.clock(), show=show)
    source = find_source(folder, None)
    assert restore(source, tmp_path / "new", now=engine.clock(), show=show, despite_damage=True).messages == 3


async def test_a_number_that_became_a_text_is_a_damaged_message_and_no_crash(
    engine: Engine, folder: Path, tmp_path: Path
) -> None:
    import apsw

    newest = look(folder).backups[-1].backup
    without_digests(folder)
    for column in ("segment", "offset", "length", "crc"):
        database = newest.database.read_bytes()
        connection = apsw.Connection(str(newest.database))
        connection.execute(f"UPDATE message SET {column} = 'x' WHERE id = (SELECT min(id) FROM message)").fetchall()
        connection.close()
        (damaged,) = look(folder).backups[-1].damaged
        assert damaged.how == "has a row that can't be read"
        assert not restores_whole(folder, engine, tmp_path / column)
        newest.database.write_bytes(database)


async def test_a_record_header_that_was_damaged_is_written_anew_by_a_restore(
    engine: Engine, opened: SqliteStorage, letters: Letters, tmp_path: Path
) -> None:
    trace = await letters.post(b"precious", to=[BOB])
    await engine.close()
    backup(engine, tmp_path / "b")
    (segment,) = (tmp_path / "b/segments").iterdir()
    octets = segment.read_bytes()
    segment.write_bytes(b"X" + octets[1:])
    assert restores_whole(tmp_path / "b", engine, tmp_path / "new")
    other = Engine("sqlite", tmp_path / "new", engine.clock)
    restored = Letters((await other.open()).storage, engine.clock, 7)
    assert await stored(restored.storage.spool, trace) == HEAD + b"precious"
    await other.close()


def test_a_manifest_is_still_one_json_object(tmp_path: Path) -> None:
    path = tmp_path / "x.json"
    path.write_bytes(digests.sealed(AboutBefore()))
    assert set(msgspec.json.decode(path.read_bytes())) == {"format", "life", "digest"}
