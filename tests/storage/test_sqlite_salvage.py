"""`storage recover`: every message that can be read comes out of a damaged data directory, which stays as it is."""

import contextlib
import hashlib
from collections.abc import Iterator
from pathlib import Path

import apsw
import pytest
from tests.storage.letters import HEAD, Engine, Letters, octets_of, stored

from waypost.message.trace import TraceId, format_trace_id
from waypost.storage import Filter, StorageError
from waypost.storage.sqlite import DATABASE
from waypost.storage.sqlite.backup.octets import Progress
from waypost.storage.sqlite.backup.restoring import find_source, restore
from waypost.storage.sqlite.salvage.records import records_of
from waypost.storage.sqlite.salvage.recovering import Recovered, recover

PAGE = 4096
LARGE = b"Subject of the body\r\n" * 9000
COUNT = 400


@contextlib.contextmanager
def show(what: str) -> Iterator[Progress]:
    yield lambda done, total: None


@pytest.fixture
async def messages(engine: Engine) -> dict[TraceId, bytes]:
    """Many small messages in the queue and in a mailbox, and a few large ones; nothing is open."""
    letters = Letters((await engine.open()).storage, engine.clock)
    bob = await letters.account("bob@builder.test")
    found = {}
    for number in range(COUNT):
        octets = LARGE + b"%d" % number if number % 100 == 50 else b"number %d\r\n" % number
        where = {"mailboxes": [bob.inbox]} if number % 2 else {"to": ["carol@elsewhere.test"]}
        found[await letters.post(octets, **where)] = HEAD + octets  # type: ignore[arg-type]
    await engine.close()
    return found


def run(engine: Engine, to: Path) -> Recovered:
    return recover(engine.data, to, now=engine.clock(), show=show)


def leaf_pages(database: Path, name: str) -> list[int]:
    connection = apsw.Connection(str(database))
    try:
        sql = "SELECT pageno FROM dbstat WHERE name = ? AND pagetype = 'leaf' ORDER BY path"
        return [number for (number,) in connection.execute(sql, (name,)).fetchall()]
    finally:
        connection.close()


def zero(database: Path, page: int) -> None:
    octets = bytearray(database.read_bytes())
    octets[(page - 1) * PAGE : page * PAGE] = bytes(PAGE)
    database.write_bytes(octets)


def files(to: Path) -> dict[str, bytes]:
    return {path.stem: path.read_bytes() for path in (to / "messages").glob("*.eml")}


def state_of(folder: Path) -> dict[str, str]:
    return {
        str(path): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in folder.rglob("*")
        if path.is_file() and not path.name.endswith((".lock", "-shm", "-wal"))
    }


async def everything(engine: Engine, to: Path, tmp_path: Path) -> dict[TraceId, bytes]:
    """Restore what was recovered, and return each message that is in the queue, in a mailbox or in a file."""
    found: dict[TraceId, bytes] = {}
    names = files(to)
    if (to / DATABASE).exists():
        data = tmp_path / "restored"
        restore(find_source(to, None), data, now=engine.clock(), show=show)
        other = Engine("sqlite", data, engine.clock)
        storage = (await other.open()).storage
        async for entry in storage.queue.entries(Filter(), now=0):
            found[entry.trace] = await stored(storage.spool, entry.trace)
        for account in await storage.directory.accounts():
            for row in await storage.mailboxes.messages(account.inbox):
                octets = await octets_of(await storage.mailboxes.open(row.mailbox, row.uid))
                found[row.trace] = octets.removeprefix(b"Return-Path: <>\r\n")
        await other.close()
    assert not {format_trace_id(trace) for trace in found} & names.keys(), "each message comes out once"
    return {**found, **{trace: names[name] for trace, name in by_name(names, found, engine).items()}}


def by_name(names: dict[str, bytes], found: dict[TraceId, bytes], engine: Engine) -> dict[TraceId, str]:
    from waypost.message.trace import parse_trace_id

    return {parse_trace_id(name): name for name in names}


@pytest.mark.parametrize("index", ["entry_of_message", "message_in_segment", "entry_due", "journal_of_message"])
async def test_a_damaged_page_of_an_index_costs_nothing(
    engine: Engine, messages: dict[TraceId, bytes], tmp_path: Path, index: str
) -> None:
    zero(engine.data / DATABASE, leaf_pages(engine.data / DATABASE, index)[0])
    before = state_of(engine.data)
    done = run(engine, tmp_path / "out")
    assert state_of(engine.data) == before
    assert done.messages == COUNT and done.files == 0
    assert await everything(engine, tmp_path / "out", tmp_path) == messages


@pytest.mark.parametrize("which", ["first", "middle", "last"])
@pytest.mark.parametrize("table", ["entry", "message", "mailbox_message", "mailbox", "segment"])
async def test_a_damaged_page_of_a_table_costs_no_message(
    engine: Engine, messages: dict[TraceId, bytes], tmp_path: Path, table: str, which: str
) -> None:
    pages = leaf_pages(engine.data / DATABASE, table)
    zero(engine.data / DATABASE, pages[{"first": 0, "middle": len(pages) // 2, "last": -1}[which]])
    done = run(engine, tmp_path / "out")
    assert await everything(engine, tmp_path / "out", tmp_path) == messages
    assert sum(found.holes for found in done.tables) >= 1
    if table in ("entry", "message", "mailbox_message") and len(pages) > 2:
        assert 0 < done.files < COUNT / 2, "only what stood on that page has lost its rows"


async def test_a_database_whose_pages_are_damaged_everywhere_gives_what_is_left(
    engine: Engine, messages: dict[TraceId, bytes], tmp_path: Path
) -> None:
    size = (engine.data / DATABASE).stat().st_size // PAGE
    for page in range(3, size + 1, 3):
        zero(engine.data / DATABASE, page)
    run(engine, tmp_path / "out")
    assert await everything(engine, tmp_path / "out", tmp_path) == messages


@pytest.mark.parametrize("how", ["missing", "empty", "first page", "rubbish"])
async def test_with_the_database_gone_every_message_comes_from_the_segments_alone(
    engine: Engine, messages: dict[TraceId, bytes], tmp_path: Path, how: str
) -> None:
    database = engine.data / DATABASE
    if how == "missing":
        for path in engine.data.glob(f"{DATABASE}*"):
            path.unlink()
    elif how == "empty":
        database.write_bytes(b"")
    elif how == "first page":
        zero(database, 1)
    else:
        database.write_bytes(b"rubbish" * 10_000)
    done = run(engine, tmp_path / "out")
    assert done.database is not None and done.files == COUNT
    assert files(tmp_path / "out") == {format_trace_id(trace): octets for trace, octets in messages.items()}


async def test_a_damaged_segment_costs_the_messages_in_that_place_alone(
    engine: Engine, messages: dict[TraceId, bytes], tmp_path: Path
) -> None:
    path = min((engine.data / "segments").iterdir())
    octets = bytearray(path.read_bytes())
    octets[PAGE : 2 * PAGE] = bytes(PAGE)
    path.write_bytes(octets)
    done = run(engine, tmp_path / "with rows")
    assert 0 < len(done.damaged) < COUNT / 4
    assert done.messages + len(done.damaged) == COUNT
    (engine.data / DATABASE).unlink()
    assert run(engine, tmp_path / "without").files == done.messages
    found = files(tmp_path / "without")
    assert all(messages[trace] == found[format_trace_id(trace)] for trace in messages.keys() - set(done.damaged))


async def test_messages_that_only_a_crash_left_in_the_database_come_out_too(engine: Engine, tmp_path: Path) -> None:
    letters = Letters((await engine.open()).storage, engine.clock)
    trace = await letters.post(b"flushed by its commit alone", to=["carol@elsewhere.test"])
    (segment,) = (engine.data / "segments").iterdir()
    segment.write_bytes(b"")  # as a power loss may leave it
    done = run(engine, tmp_path / "out")
    assert done.messages == 1 and done.damaged == []
    assert (await everything(engine, tmp_path / "out", tmp_path))[trace] == HEAD + b"flushed by its commit alone"


def test_rubbish_between_records_is_passed_over_and_forged_ones_are_not_believed(tmp_path: Path) -> None:
    import zlib

    from waypost.storage.sqlite.segments.segments import record_header

    good = b"a message"
    record = record_header(TraceId(7), len(good), zlib.crc32(good)) + good
    path = tmp_path / "1.seg"
    path.write_bytes(b"WPS1" * 100 + record + b"\0" * 50 + record_header(TraceId(8), 3, 1) + b"abc" + record + b"WPS1")
    assert [(found.trace, bytes(octets)) for found, octets in records_of(path)] == [(7, good), (7, good)]
    path.write_bytes(b"")
    assert list(records_of(path)) == []


async def test_it_writes_nowhere_but_into_a_new_directory(engine: Engine, messages: object, tmp_path: Path) -> None:
    (tmp_path / "full").mkdir()
    (tmp_path / "full/thesis.txt").touch()
    for to, words in ((tmp_path / "full", "is not empty"), (engine.data / "x", "is in the data directory")):
        with pytest.raises(StorageError, match=words):
            run(engine, to)
