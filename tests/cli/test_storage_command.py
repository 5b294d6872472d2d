"""`waypost storage check`: what is wrong by message, what to do, and an exit status for scripts."""

import json
from pathlib import Path

import apsw
import pytest
from tests.cli.conftest import Run
from tests.cli.post_office import in_storage
from tests.storage.letters import Letters

from waypost.message.trace import TraceId, format_trace_id
from waypost.storage.sqlite import DATABASE


@pytest.fixture
def messages(config: Path) -> list[TraceId]:
    async def fill(letters: Letters) -> list[TraceId]:
        return [await letters.post(b"number %d" % number, to=["bob@builder.test"]) for number in range(3)]

    return in_storage(config, fill)


def test_a_whole_storage_has_no_problems(run: Run, messages: list[TraceId]) -> None:
    assert run("storage", "check").stdout.startswith("3 messages, ")
    found = json.loads(run("storage", "check", "--json").stdout)
    assert found["messages"] == 3 and found["problems"] == []


def test_damage_is_told_by_message_and_exits_with_1(config: Path, run: Run, messages: list[TraceId]) -> None:
    (path,) = (config.parent / "data/segments").iterdir()
    path.write_bytes(path.read_bytes().replace(b"number 1", b"number X"))
    output = run("storage", "check", status=1).stdout
    name = format_trace_id(messages[1])
    assert f"problem: message {name} in {path.name} holds other octets than were stored" in output
    assert f"waypost queue return --trace {name}" in output
    assert "1 problem." in output
    found = json.loads(run("storage", "check", "--json", status=1).stdout)
    assert [problem["trace"] for problem in found["problems"]] == [name]


def test_leftovers_are_notes(config: Path, run: Run, messages: list[TraceId]) -> None:
    (config.parent / "data/segments/arriving-1-1").write_bytes(b"half")
    output = run("storage", "check").stdout
    assert "note: arriving-1-1" in output and "no problems" in output


def test_what_can_be_mended_is_mended_when_asked(config: Path, run: Run, messages: list[TraceId]) -> None:
    connection = apsw.Connection(str(config.parent / "data" / DATABASE))
    connection.execute("UPDATE message SET refs = 7").fetchall()
    connection.close()
    assert "--repair" in run("storage", "check", status=1).stdout
    assert "nothing was done" in run("storage", "check", "--repair", stdin="n\n", status=1).output
    assert "no problems" in run("storage", "check", "--repair", "--yes").stdout
