"""`waypost storage check`: what is wrong by message, what to do, and an exit status for scripts."""

import json
from pathlib import Path

import apsw
import pytest
from tests.cli.conftest import Run
from tests.cli.post_office import in_storage
from tests.storage.damage import pages_of, wreck
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


def damaged_database(config: Path, *names: str) -> None:
    """Zero the first page of tables or indexes, while nobody has them open."""
    for name in names:
        wreck(config.parent / "data", pages_of(config.parent / "data", name)[0])


def test_a_damaged_table_is_told_with_one_remedy_that_is_not_this_command_again(
    config: Path, run: Run, messages: list[TraceId]
) -> None:
    damaged_database(config, "message")
    result = run("storage", "check", status=1)
    assert result.stdout.count("storage check --repair` mends it where only an index is damaged") == 1
    assert result.stdout.count("waypost storage recover DIR") == 1
    assert "run `waypost storage check`" not in result.output


def test_a_repair_that_mends_nothing_names_what_it_did_not_mend(
    config: Path, run: Run, messages: list[TraceId]
) -> None:
    damaged_database(config, "message")
    result = run("storage", "check", "--repair", "--yes", status=1)
    assert result.stdout.count("`waypost storage check --repair` could not mend it: stop the service") == 1
    assert "mends it where only" not in result.output
    assert "waypost: not mended (rule references, error " in result.stderr
    assert "run `waypost storage check`" not in result.output


def test_a_repair_names_what_it_rebuilt(config: Path, run: Run, messages: list[TraceId]) -> None:
    damaged_database(config, "entry_of_message", "destination")
    result = run("storage", "check", "--repair", "--yes")
    assert "waypost: table rebuilt (table entry)" in result.stderr
    assert "waypost: table rebuilt (table destination, " in result.stderr
    assert result.stdout.endswith(": no problems.\n")


def test_counts_of_one_are_singular(config: Path, run: Run) -> None:
    async def fill(letters: Letters) -> None:
        await letters.post(b"x", to=["bob@builder.test"])

    in_storage(config, fill)
    assert run("storage", "check").stdout.startswith("1 message, ")
    assert "1 message, " in run("backup", "copies").stdout
    assert ": 1 message: whole" in run("backup", "verify", "copies", "--config", str(config)).stdout
    run("backup", "list", "copies", "--config", str(config))
    assert "1 message, 0 accounts." in run("restore", "copies", "--yes").stdout
