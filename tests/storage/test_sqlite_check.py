"""`storage check`: damage is named by its message; what is counted wrong is told and mended; nothing else is."""

import asyncio
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import apsw
import pytest
from tests.storage.letters import HEAD, START, Engine, Letters, files_in, stored

from waypost.message.trace import format_trace_id
from waypost.storage import Account
from waypost.storage.sqlite.opening.migrate import DATABASE
from waypost.storage.sqlite.segments.segments import segment_path
from waypost.storage.sqlite.upkeep.check import Problem, StorageChecker, repair

BOB = "bob@builder.test"
LARGE = bytes(range(256)) * 1024


def check(data: Path) -> list[Problem]:
    checker = StorageChecker(data)
    try:
        return list(checker.problems(lambda done, total: None))
    finally:
        checker.close()


@pytest.fixture
async def bob(letters: Letters) -> Account:
    """An account with mail in its mailbox and in the queue."""
    bob = await letters.account()
    for octets in (b"small", LARGE, b"other"):
        await letters.post(octets, mailboxes=[bob.inbox], to=[BOB, "eve@elsewhere.test"])
    return bob


@pytest.fixture
def database(engine: Engine, bob: Account) -> Iterator[apsw.Connection]:
    connection = apsw.Connection(str(engine.data / DATABASE))
    yield connection
    connection.close()


@pytest.mark.usefixtures("bob")
async def test_a_whole_storage_has_no_problem(engine: Engine) -> None:
    checker = StorageChecker(engine.data)
    seen: list[tuple[int, int]] = []
    assert list(checker.problems(lambda done, total: seen.append((done, total)))) == []
    assert seen[0] == (0, 3) and seen[-1] == (3, 3)
    assert (checker.messages, checker.octets) == (3, len(LARGE) + 2 * len(HEAD) + 10)
    checker.close()


@pytest.mark.usefixtures("bob")
async def test_a_storage_is_checked_while_it_is_used(engine: Engine, letters: Letters) -> None:
    async def traffic() -> None:
        for number in range(100):
            await letters.post(LARGE if number % 10 == 0 else b"x" * number, to=[BOB])
            for entry in (await letters.due("builder.test"))[3:]:
                await letters.storage.queue.delete([entry.id], now=0)
            if number % 20 == 0:
                await engine.opened[0].maintain(smallest=0)

    async def checks() -> None:
        for _ in range(10):
            found = await asyncio.get_running_loop().run_in_executor(None, check, engine.data)
            assert [problem for problem in found if not problem.harmless] == []

    await asyncio.gather(traffic(), checks())


async def test_damaged_octets_are_told_by_message_with_what_to_do(
    engine: Engine, letters: Letters, bob: Account
) -> None:
    small, large, other = (message.trace for message in await letters.storage.mailboxes.messages(bob.inbox))
    path = segment_path(engine.data / "segments", 1)
    path.write_bytes(path.read_bytes().replace(b"small", b"smell"))
    os.truncate(segment_path(engine.data / "segments", 2), 1000)
    found = {problem.trace: problem for problem in check(engine.data)}
    assert set(found) == {small, large}
    assert "holds other octets than were stored" in found[small].what
    assert "octets too early" in found[large].what
    assert format_trace_id(small) in found[small].what
    assert "queue return" in found[small].advice and f"INBOX of {bob.address} (UID 1)" in found[small].advice
    assert await stored(letters.storage.spool, other) == HEAD + b"other"


async def test_the_octets_of_a_backup_are_put_back_as_the_advice_says_and_later_mail_stays(
    engine: Engine, letters: Letters, tmp_path: Path
) -> None:
    bob = await letters.account()
    await letters.post(b"earlier", mailboxes=[bob.inbox])
    folder = tmp_path / "a backup/segments"
    shutil.copytree(engine.data / "segments", folder)
    await letters.post(b"later", mailboxes=[bob.inbox])
    (segment,) = (engine.data / "segments").iterdir()
    assert segment.stat().st_size > (folder / segment.name).stat().st_size
    segment.write_bytes(segment.read_bytes().replace(b"earlier", b"Earlier"))
    (problem,) = check(engine.data)
    command = problem.advice[problem.advice.index("dd ") : problem.advice.index("; or delete")]
    command = command.replace("BACKUP/segments", f"'{folder}'")
    done = await asyncio.create_subprocess_shell(command, stderr=asyncio.subprocess.DEVNULL)
    assert await done.wait() == 0
    assert check(engine.data) == []


@pytest.mark.usefixtures("bob")
async def test_a_damaged_header_and_a_lost_segment_are_told(engine: Engine) -> None:
    path = segment_path(engine.data / "segments", 1)
    octets = path.read_bytes()
    path.write_bytes(b"XXXX" + octets[4:])
    segment_path(engine.data / "segments", 2).unlink()
    words = sorted(problem.what for problem in check(engine.data))
    assert any("its octets are whole" in word for word in words)
    assert any("can't be read: No such file or directory" in word for word in words)
    assert len(words) == 2


@pytest.mark.usefixtures("bob")
async def test_half_a_message_that_a_crash_left_is_harmless(engine: Engine) -> None:
    (engine.data / "segments/arriving-1-1").write_bytes(b"")
    assert [problem.harmless for problem in check(engine.data)] == [True]


@pytest.mark.usefixtures("bob")
async def test_a_segment_that_the_database_does_not_know_is_a_problem(engine: Engine) -> None:
    """It may be all mail since a backup whose database was put back."""
    (engine.data / "segments/000000004711.seg").write_bytes(b"mail")
    (problem,) = check(engine.data)
    assert not problem.harmless and "000000004711.seg: the database does not know this segment" in problem.what


@pytest.mark.parametrize(
    ("breach", "words"),
    [
        ("UPDATE message SET refs = refs + 1", "counts 4 references, and has 3"),
        ("UPDATE segment SET live = live - 1 WHERE id = 2", "segment 2 counts"),
        ("UPDATE account SET usage = 5", "account bob@builder.test counts 5 octets"),
        ("UPDATE mailbox SET uidnext = 2", "would give UID 2 next, and has 3"),
        ("UPDATE destination SET wake = NULL WHERE name = 'builder.test'", "mail for builder.test is due"),
        ("UPDATE destination SET wake = wake + 1 WHERE name = 'builder.test'", "mail for builder.test is due"),
        ("DELETE FROM destination", "mail for elsewhere.test is due"),
        ("DELETE FROM segment WHERE id = 2", "is in segment 2, which has no row"),
        ("DELETE FROM message WHERE segment = 2", "is gone, but entry"),
        ("UPDATE mailbox_message SET mailbox = 99 WHERE uid = 2", "is in mailbox 99, which is gone"),
    ],
)
async def test_what_rows_promise_is_checked_and_mended(
    engine: Engine, database: apsw.Connection, breach: str, words: str
) -> None:
    database.execute(breach).fetchall()
    found = check(engine.data)
    assert any(words in problem.what for problem in found)
    assert all("--repair" in problem.advice for problem in found)
    repair(engine.data, START)
    assert check(engine.data) == []


async def test_a_segment_without_row_is_not_swept_away(
    engine: Engine, letters: Letters, database: apsw.Connection, bob: Account
) -> None:
    database.execute("DELETE FROM segment WHERE id = 2").fetchall()
    await engine.opened[0].maintain()
    assert len(files_in(engine.data)) == 2
    repair(engine.data, START)
    for message in await letters.storage.mailboxes.messages(bob.inbox):
        await stored(letters.storage.spool, message.trace)


async def test_a_damaged_database_is_told(engine: Engine) -> None:
    letters = Letters((await engine.open()).storage, engine.clock)
    for _ in range(30):
        await letters.post(to=[BOB])
    await engine.close()
    path = engine.data / DATABASE
    octets = bytearray(path.read_bytes())
    position = octets.rfind(b"builder.test")  # somewhere in an index
    octets[position : position + 7] = b"\xff" * 7
    path.write_bytes(octets)
    found = [problem for problem in check(engine.data) if problem.what.startswith("the database")]
    assert found and "backup" in found[0].advice
