"""`storage check --repair` on damaged pages: indexes are rebuilt from their tables, and no row is lost."""

import shutil
from pathlib import Path

import apsw
import pytest
from tests.storage.damage import pages_of, wreck
from tests.storage.letters import CREDENTIALS, START, Engine, Letters, claim, stored

from waypost.storage.sqlite.opening.migrate import DATABASE
from waypost.storage.sqlite.upkeep.check import StorageChecker, repair

BOB = "bob@builder.test"


def indexes(data: Path) -> list[str]:
    connection = apsw.Connection(str(data / DATABASE))
    rows = connection.execute("SELECT name, sql FROM sqlite_schema WHERE type = 'index'").fetchall()
    connection.close()
    return [name for name, _ in rows]


def problems(data: Path) -> list[str]:
    checker = StorageChecker(data)
    try:
        return [problem.what for problem in checker.problems(lambda done, total: None) if not problem.harmless]
    finally:
        checker.close()


@pytest.mark.parametrize("octets", [b"\0", b"\xff"])
@pytest.mark.parametrize("page", ["root", "leaf"])
async def test_every_damaged_index_is_rebuilt_and_no_row_is_lost(
    engine: Engine, tmp_path: Path, octets: bytes, page: str
) -> None:
    letters = Letters((await engine.open()).storage, engine.clock)
    boxes = [(await letters.account(f"user{number}@here.test")).inbox for number in range(60)]
    traces = [
        await letters.post(
            b"%d" % number, to=[f"bob@{number:03}.{'builder' * 8}.test"], mailboxes=boxes[number % 60 : number % 60 + 1]
        )
        for number in range(200)
    ]
    await engine.close()
    whole = tmp_path / "whole"
    shutil.copytree(engine.data, whole)
    rebuilt = 0
    for name in indexes(engine.data):
        shutil.rmtree(engine.data)
        shutil.copytree(whole, engine.data)
        pages = pages_of(engine.data, name)
        if page == "leaf" and len(pages) == 1:
            continue
        wreck(engine.data, pages[0] if page == "root" else pages[-1], octets)
        assert problems(engine.data), name
        repair(engine.data, START)
        assert problems(engine.data) == [], name
        storage = (await engine.open()).storage
        for trace in traces:
            await stored(storage.spool, trace)
        assert len(await claim(storage.queue, 1, limit=1000)) == 200
        await engine.close()
        rebuilt += 1
    assert rebuilt > (10 if page == "root" else 1)


async def test_a_damaged_table_is_left_as_it_is_and_the_rest_is_mended(engine: Engine) -> None:
    letters = Letters((await engine.open()).storage, engine.clock)
    bob = await letters.account()
    for number in range(200):
        await letters.post(b"%d" % number, to=[BOB], mailboxes=[bob.inbox])
    await engine.close()
    connection = apsw.Connection(str(engine.data / DATABASE))
    connection.execute("UPDATE account SET usage = 5").fetchall()
    connection.execute("INSERT INTO alias (address, targets) VALUES ('a@here.test', '[]')").fetchall()
    connection.close()
    wreck(engine.data, pages_of(engine.data, "alias")[-1], b"\0")
    repair(engine.data, START)
    words = problems(engine.data)
    assert words and all("alias" in word for word in words)


async def test_an_account_without_inbox_gets_it_back_with_its_mail(engine: Engine) -> None:
    letters = Letters((await engine.open()).storage, engine.clock)
    bob = await letters.account()
    trace = await letters.post(mailboxes=[bob.inbox])
    connection = apsw.Connection(str(engine.data / DATABASE))
    (validity,) = connection.execute("DELETE FROM mailbox RETURNING uidvalidity").fetchone() or (0,)
    connection.close()
    assert problems(engine.data)
    repair(engine.data, START)
    assert problems(engine.data) == []
    mailboxes = letters.storage.mailboxes
    inbox = await mailboxes.get(bob.id)
    assert inbox.uidvalidity > validity and inbox.uidnext == 2
    assert [message.trace for message in await mailboxes.messages(bob.inbox)] == [trace]
    await letters.storage.directory.add_account("eve@builder.test", CREDENTIALS, quota=0, now=engine.clock())
    assert problems(engine.data) == []
