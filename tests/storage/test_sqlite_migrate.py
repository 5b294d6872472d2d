"""Schema changes: numbered, tried on a copy first, undone by a snapshot, never under a running process."""

import asyncio
from pathlib import Path

import apsw
import pytest
from tests.storage.faults import failing
from tests.storage.letters import HEAD, START, Engine, Letters, stored

from waypost.message.envelope import BodyType
from waypost.protocol.canonical import UNMEASURED, ContentForm
from waypost.storage import StorageError
from waypost.storage.sqlite.opening import preparation
from waypost.storage.sqlite.opening.migrate import DATABASE, Step, migrate, migrations, pending

FIRST: Step = (1, "people", "CREATE TABLE person (name TEXT); INSERT INTO person VALUES ('alice');")
SECOND: Step = (2, "ages", "ALTER TABLE person ADD COLUMN age INTEGER; UPDATE person SET age = 7;")
BROKEN: Step = (3, "broken", "UPDATE person SET age = 8; INSERT INTO nowhere VALUES (1);")


def ask(path: Path, sql: str) -> object:
    connection = apsw.Connection(str(path))
    try:
        return connection.execute(sql).get
    finally:
        connection.close()


def test_the_steps_of_this_program_are_numbered_without_a_gap() -> None:
    assert [number for number, _, _ in migrations()] == list(range(1, len(migrations()) + 1))


def test_a_fresh_database_gets_every_step_and_no_snapshot(tmp_path: Path) -> None:
    assert migrate(tmp_path, [FIRST, SECOND]) == 2
    assert ask(tmp_path / DATABASE, "PRAGMA user_version") == 2
    assert ask(tmp_path / DATABASE, "SELECT age FROM person") == 7
    assert not (tmp_path / "snapshots").exists()
    assert migrate(tmp_path, [FIRST, SECOND]) == 0


async def test_nobody_else_may_read_the_database_or_the_files_beside_it(engine: Engine) -> None:
    await engine.open()
    modes = {path.name: path.stat().st_mode & 0o777 for path in engine.data.glob(f"{DATABASE}*")}
    assert modes == {DATABASE: 0o600, f"{DATABASE}-shm": 0o600, f"{DATABASE}-wal": 0o600}


def test_a_step_keeps_a_snapshot_by_which_it_can_be_undone(tmp_path: Path) -> None:
    migrate(tmp_path, [FIRST])
    assert migrate(tmp_path, [FIRST, SECOND]) == 1
    assert [path.name for path in (tmp_path / "snapshots").iterdir()] == ["schema-0001.db"]
    (tmp_path / DATABASE).unlink()
    (tmp_path / "snapshots/schema-0001.db").rename(tmp_path / DATABASE)
    assert ask(tmp_path / DATABASE, "SELECT name FROM person") == "alice"
    assert migrate(tmp_path, [FIRST, SECOND]) == 1


def test_a_failing_step_leaves_the_database_untouched(tmp_path: Path) -> None:
    migrate(tmp_path, [FIRST, SECOND])
    before = (tmp_path / DATABASE).read_bytes()
    with pytest.raises(StorageError, match=r"schema change 3 \(broken\) failed: .*nowhere"):
        migrate(tmp_path, [FIRST, SECOND, BROKEN])
    assert (tmp_path / DATABASE).read_bytes() == before
    assert not (tmp_path / "snapshots/trial.db").exists()
    assert ask(tmp_path / "snapshots/schema-0002.db", "SELECT age FROM person") == 7


def test_a_failing_step_of_a_fresh_database_can_be_taken_again(tmp_path: Path) -> None:
    with pytest.raises(StorageError):
        migrate(tmp_path, [FIRST, SECOND, BROKEN])
    assert ask(tmp_path / DATABASE, "PRAGMA user_version") == 2
    assert ask(tmp_path / DATABASE, "SELECT age FROM person") == 7


def test_without_room_for_a_snapshot_nothing_is_changed(tmp_path: Path) -> None:
    migrate(tmp_path, [FIRST])
    with failing("fsync", 28), pytest.raises(StorageError, match="no snapshot of the database could be made"):
        migrate(tmp_path, [FIRST, SECOND])
    assert ask(tmp_path / DATABASE, "PRAGMA user_version") == 1


def test_a_newer_schema_is_refused_with_what_to_do(tmp_path: Path) -> None:
    migrate(tmp_path, [FIRST, SECOND])
    with pytest.raises(StorageError, match="its schema is number 2, this program knows 1: use a newer Waypost"):
        pending(tmp_path, [FIRST])
    with pytest.raises(StorageError):
        migrate(tmp_path, [FIRST])


async def test_the_schema_is_not_changed_under_a_running_process(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    letters = Letters((await engine.open()).storage, engine.clock)
    newer = [*migrations(), (len(migrations()) + 1, "more", "CREATE TABLE more (x)")]
    monkeypatch.setattr(preparation, "pending", lambda data: pending(data, newer))
    monkeypatch.setattr(preparation, "migrate", lambda data: migrate(data, newer))
    with pytest.raises(StorageError, match="a running process uses it: stop the service first"):
        await engine.open(worker=1)
    await letters.post(b"goes on", to=["bob@builder.test"])
    await engine.close()
    await engine.open(worker=1)
    assert ask(engine.data / DATABASE, "PRAGMA user_version") == len(newer)


async def test_processes_that_start_together_agree_on_one_migration(engine: Engine) -> None:
    await asyncio.gather(*(engine.open(worker=number) for number in range(4)))
    assert len(engine.opened) == 4


BACK_TO_THE_FIRST = """
DROP TABLE known_network;
DROP TABLE set_aside;
DROP INDEX expunged_time;
ALTER TABLE destination DROP COLUMN failed_at;
ALTER TABLE destination DROP COLUMN again_at;
ALTER TABLE destination DROP COLUMN failure;
ALTER TABLE destination DROP COLUMN outage;
ALTER TABLE destination DROP COLUMN epoch;
DELETE FROM counter WHERE name = 'lease';
ALTER TABLE entry DROP COLUMN counts_from;
ALTER TABLE entry DROP COLUMN not_before;
ALTER TABLE entry DROP COLUMN source;
ALTER TABLE destination DROP COLUMN pacing;
ALTER TABLE expunged DROP COLUMN time;
ALTER TABLE mailbox DROP COLUMN forgotten;
DROP TABLE life;
ALTER TABLE account DROP COLUMN version;
DROP INDEX message_form;
ALTER TABLE message DROP COLUMN growth;
ALTER TABLE message DROP COLUMN eight_bit_header;
CREATE TABLE unconfirmed (digest TEXT PRIMARY KEY, message INTEGER NOT NULL, time INTEGER NOT NULL) WITHOUT ROWID;
PRAGMA user_version = 1;
"""


async def test_a_data_directory_of_the_first_schema_goes_on_without_the_digests_of_messages(engine: Engine) -> None:
    """Schema 2: nothing is taken for a retransmission any more, and what was stored before is read as before.

    Schema 3: of what was stored before, the form of binary messages and of all headers is not known.
    """
    letters = Letters((await engine.open()).storage, engine.clock)
    bob = await letters.account()
    octets = [b"small", bytes(range(256)) * 1024]
    traces = [
        await letters.post(one, to=["carol@elsewhere.test"], mailboxes=[bob.inbox], body_type=kind)
        for one, kind in zip(octets, (BodyType.SEVEN_BIT, BodyType.BINARY), strict=True)
    ]
    await engine.close()
    (engine.data / "life").unlink()
    with apsw.Connection(str(engine.data / DATABASE)) as database:
        database.execute(BACK_TO_THE_FIRST).fetchall()
        for number, trace in enumerate(traces):
            database.execute("INSERT INTO unconfirmed VALUES (?, ?, ?)", (f"{number:032x}", trace, START)).fetchall()
    database.close()

    storage = (await engine.open()).storage
    assert ask(engine.data / DATABASE, "SELECT count(*) FROM sqlite_schema WHERE name = 'unconfirmed'") == 0
    for trace, one in zip(traces, octets, strict=True):
        assert await stored(storage.spool, trace) == HEAD + one
    assert [entry.trace for entry in await Letters(storage, engine.clock).due("elsewhere.test")] == traces
    rows = await storage.mailboxes.messages(bob.inbox)
    assert [row.trace for row in rows] == traces
    assert [row.form for row in rows] == [ContentForm(None, True), ContentForm(UNMEASURED, True)]
    snapshot = engine.data / "snapshots" / "schema-0001.db"
    assert ask(snapshot, "SELECT count(*) FROM unconfirmed") == 2 and ask(snapshot, "SELECT count(*) FROM message") == 2
