"""`waypost storage recover`, as an operator types it."""

import json
from pathlib import Path

from tests.cli.conftest import Run
from tests.cli.post_office import in_storage
from tests.storage.letters import HEAD, Letters

from waypost.message.trace import TraceId, format_trace_id
from waypost.storage.sqlite import DATABASE


def fill(config: Path) -> TraceId:
    async def post(letters: Letters) -> TraceId:
        bob = await letters.account("bob@example.org")
        return await letters.post(b"precious", mailboxes=[bob.inbox])

    return in_storage(config, post)


def test_a_storage_comes_out_whole_with_its_rows(run: Run, config: Path) -> None:
    fill(config)
    assert "1 message with rows: `waypost restore out`" in run("storage", "recover", "out").stdout
    found = json.loads(run("storage", "recover", "again", "--json").stdout)
    assert found["database"] is True and found["messages"] == 1 and found["files"] == 0
    assert "is not empty" in run("storage", "recover", "out", status=1).output


def test_messages_come_out_as_files_when_the_database_is_gone(run: Run, config: Path) -> None:
    trace = fill(config)
    for path in (config.parent / "data").glob(f"{DATABASE}*"):
        path.unlink()
    output = run("storage", "recover", "out").stdout
    assert "The database can't be read: it is missing" in output and "1 message without a row" in output
    assert Path(f"out/messages/{format_trace_id(trace)}.eml").read_bytes() == HEAD + b"precious"


def test_where_nothing_is_the_exit_status_is_1(run: Run, config: Path) -> None:
    assert "it is missing" in run("storage", "recover", "out", status=1).output
