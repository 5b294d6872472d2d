"""A damaged root of a table or an index that mail needs: it is said what to run, and after that no mail is lost."""

import contextlib
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.storage.damage import pages_of, wreck
from tests.storage.letters import HEAD, Engine, Letters, stored

from waypost.message.trace import TraceId, format_trace_id
from waypost.storage import NotFound, StorageError
from waypost.storage.sqlite.backup.octets import Progress
from waypost.storage.sqlite.backup.restoring import find_source, restore
from waypost.storage.sqlite.salvage.recovering import recover
from waypost.storage.sqlite.upkeep.check import StorageChecker, repair

BOB = "bob@builder.test"
INDEXES = ("segment_open", "entry_due", "entry_of_message", "message_in_segment")
TABLES = ("segment", "entry", "message")


@contextlib.contextmanager
def show(what: str) -> Iterator[Progress]:
    yield lambda done, total: None


def advice_of(data: Path) -> str:
    checker = StorageChecker(data)
    try:
        return "\n".join(str(each.advice) for each in checker.problems(lambda done, total: None) if not each.harmless)
    finally:
        checker.close()


@pytest.mark.parametrize("octets", [b"\0", b"\xff"])
@pytest.mark.parametrize("name", [*INDEXES, *TABLES])
async def test_what_is_damaged_says_which_command_to_run_and_after_it_mail_goes_on_and_none_is_lost(
    engine: Engine, tmp_path: Path, name: str, octets: bytes
) -> None:
    letters = Letters((await engine.open()).storage, engine.clock)
    bob = await letters.account(BOB)
    kept = {await letters.post(b"kept %d" % number, mailboxes=[bob.inbox]): b"kept %d" % number for number in range(3)}
    waits = {await letters.post(b"waits %d" % n, to=["carol@else.test"]): b"waits %d" % n for n in range(3)}
    await engine.close()
    wreck(engine.data, pages_of(engine.data, name)[0], octets)

    with contextlib.suppress(StorageError):  # it may refuse to start, or to take mail
        letters = Letters((await engine.open()).storage, engine.clock, 1)
        rows = await letters.storage.mailboxes.messages(bob.inbox)
        assert [row.uid for row in rows] == [1, 2, 3]
        if name != "message":
            for trace in kept:
                assert await stored(letters.storage.spool, trace) == HEAD + kept[trace]
        try:
            trace = await letters.post(b"came meanwhile", mailboxes=[bob.inbox])
            kept[trace] = b"came meanwhile"
        except StorageError as error:
            assert "waypost storage check" in str(error)
    await engine.close()

    advice = advice_of(engine.data)
    if name in INDEXES:
        assert "`waypost storage check --repair`" in advice
        repair(engine.data, engine.clock())
        files: set[str] = set()
    else:
        assert "`waypost restore DIR`" in advice and "`waypost storage recover DIR`" in advice
        recover(engine.data, tmp_path / "out", now=engine.clock(), show=show)
        files = {path.stem for path in (tmp_path / "out").glob("messages/*.eml")}
        restore(find_source(tmp_path / "out", None), engine.data, now=engine.clock(), show=show)
    assert advice_of(engine.data) == ""
    letters = Letters((await engine.open()).storage, engine.clock, 2)
    for trace, content in (kept | waits).items():
        assert await holds(letters, trace, content) or format_trace_id(trace) in files
    if name != "message":
        assert not {format_trace_id(trace) for trace in kept} & files, "whoever reads mailboxes misses nothing"
    fresh = await letters.post(b"after it", mailboxes=[bob.inbox])
    assert await holds(letters, fresh, b"after it")


async def holds(letters: Letters, trace: TraceId, content: bytes) -> bool:
    try:
        return await stored(letters.storage.spool, trace) == HEAD + content
    except NotFound:
        return False


async def test_a_recover_that_was_broken_off_is_never_restored(
    engine: Engine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    letters = Letters((await engine.open()).storage, engine.clock)
    await letters.post(b"precious", to=[BOB])
    await engine.close()

    class Killed(BaseException):
        pass

    def killed(*arguments: object) -> None:
        raise Killed

    from waypost.storage.sqlite.salvage import recovering

    for step in ("_copy_tables", "_copy_octets", "_bring_records"):
        with monkeypatch.context() as patch:
            patch.setattr(recovering, step, killed)
            with pytest.raises(Killed):
                recover(engine.data, tmp_path / step, now=engine.clock(), show=show)
        with pytest.raises(StorageError, match=r"recover` was broken off there; run it again, into a new directory"):
            find_source(tmp_path / step, None)
        shutil.rmtree(tmp_path / step)
    recover(engine.data, tmp_path / "out", now=engine.clock(), show=show)
    assert find_source(tmp_path / "out", None).database.exists()
