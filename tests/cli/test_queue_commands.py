"""`waypost queue`: what waits, in tables and in JSON, and what an operator may do to thousands of entries at once."""

import asyncio
import json
import os
import pty
import subprocess
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import apsw
import pytest
from msgspec.structs import replace
from tests.cli.conftest import Run
from tests.cli.dialogue import shown_at
from tests.cli.post_office import in_storage
from tests.storage.letters import Letters, deferral, finished, stored

from waypost.journal import Station, fields
from waypost.message.trace import TraceId, format_trace_id
from waypost.storage import QueueEntry
from waypost.storage.sqlite.opening.migrate import DATABASE

BOB = "bob@builder.test"
MINUTE = 60_000_000


@pytest.fixture
def entries(config: Path) -> list[QueueEntry]:
    """Three entries: of Alice to Bob (deferred once), a report to Bob, of Carol to Eve."""

    async def fill(letters: Letters) -> list[QueueEntry]:
        await letters.post(b"Subject: one\r\n\r\nHello\r\n", to=[BOB, "tim@builder.test", "jim@builder.test"])
        (first,) = await letters.due("builder.test")
        await letters.storage.queue.settle(
            [finished(first, deferral=deferral(first, letters.clock() + 5 * MINUTE, "451 4.2.0 \x1b[31mFull"))]
        )
        await letters.post(to=[BOB], sender=None)
        await letters.post(to=["eve@elsewhere.test"], sender="carol@example.org")
        second, third = *await letters.due("builder.test"), *await letters.due("elsewhere.test")
        return [await letters.storage.queue.get(first.id), second, third]

    return in_storage(config, fill)


@pytest.fixture
def held_back(config: Path, entries: list[QueueEntry]) -> TraceId:
    """One message more, whose sender wants it to go in an hour (RFC 4865)."""

    async def post(letters: Letters) -> TraceId:
        until = letters.clock() + 60 * MINUTE
        letter = await letters.letter(to=["rabbit@burrow.test"], next_attempt=until)
        held = tuple(replace(entry, not_before=until) for entry in letter.entries)
        envelope = replace(letter.envelope, hold_until=until)
        await letters.storage.spool.accept(replace(letter, envelope=envelope, entries=held))
        letter.body.discard()
        return letter.trace

    return in_storage(config, post)


def listed(run: Run, *options: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads(run("queue", "list", "--json", *options).stdout)
    return found


def journal_of(config: Path, entry: QueueEntry) -> list[Any]:
    return in_storage(config, _of(entry))


def _of(entry: QueueEntry) -> Callable[[Letters], Awaitable[list[Any]]]:
    async def read(letters: Letters) -> list[Any]:
        return await letters.storage.journal.of(entry.trace)

    return read


class TestLooking:
    def test_the_list_is_a_table_that_is_safe_on_a_terminal(self, run: Run, entries: list[QueueEntry]) -> None:
        output = run("queue", "list").stdout
        heading, first, second, third = output.splitlines()
        for column in (
            "entry",
            "trace",
            "age",
            "next",
            "sender",
            "destination",
            "recipients",
            "attempts",
            "last error",
        ):
            assert column in heading
        assert format_trace_id(entries[0].trace) in first
        assert "bob@builder.test, tim@builder.test and 1 more" in first and "in 4m" in first
        assert "\\x1b[31mFull" in first and "\x1b" not in output
        assert "<>" in second and "now" in second
        assert "elsewhere.test" in third and "carol@example.org" in third

    def test_the_list_in_json_says_everything(self, run: Run, entries: list[QueueEntry]) -> None:
        first, second, _ = listed(run)
        assert first["id"] == entries[0].id and first["trace"] == format_trace_id(entries[0].trace)
        assert (first["destination"], first["state"], first["attempts"]) == ("builder.test", "ready", 1)
        assert first["recipients"][0] == {"address": BOB, "notify": None}
        assert first["last_error"] == "451 4.2.0 \x1b[31mFull" and first["next_attempt"].endswith("Z")
        assert second["sender"] == "<>" and second["last_attempt"] is None

    @pytest.mark.parametrize(
        ("options", "expected"),
        [
            ((), (0, 1, 2)),
            (("--domain", "BUILDER.test"), (0, 1)),
            (("--sender", "<>"), (1,)),
            (("--sender", "@example.org"), (2,)),
            (("--older-than", "1h"), ()),
            (("--newer-than", "1h", "--error", "full"), (0,)),
            (("--state", "held"), ()),
            (("--limit", "2"), (0, 1)),
        ],
    )
    def test_options_choose(
        self, run: Run, entries: list[QueueEntry], options: tuple[str, ...], expected: tuple[int, ...]
    ) -> None:
        assert [entry["id"] for entry in listed(run, *options)] == [entries[number].id for number in expected]

    def test_an_entry_is_chosen_by_its_number_and_by_its_message(self, run: Run, entries: list[QueueEntry]) -> None:
        assert [entry["id"] for entry in listed(run, "--id", str(entries[1].id))] == [entries[1].id]
        trace = format_trace_id(entries[2].trace).upper()
        assert [entry["id"] for entry in listed(run, "--trace", trace)] == [entries[2].id]

    def test_a_long_list_says_that_there_is_more(self, run: Run, entries: list[QueueEntry]) -> None:
        result = run("queue", "list", "--limit", "1")
        assert len(result.stdout.splitlines()) == 2
        assert "and 2 more" in result.stderr

    @pytest.mark.parametrize(
        ("options", "words"),
        [
            (("--trace", "nonsense"), "is not a trace id"),
            (("--trace", "zzzzzzzzzzzzz"), "is not a trace id: it is too large"),
            (("--id", "99999999999999999999"), "99999999999999999999 is not in the range"),
            (("--older-than", "yesterday"), 'write for example "5d"'),
            (("--domain", "\u2028"), "is not a domain name"),
            (("--state", "lost"), "held"),
        ],
    )
    def test_wrong_options_are_told_with_what_would_be_right(
        self, config: Path, run: Run, options: tuple[str, ...], words: str
    ) -> None:
        assert words in run("queue", "list", *options, status=2).output

    def test_show_tells_everything_about_an_entry(self, run: Run, entries: list[QueueEntry]) -> None:
        output = run("queue", "show", str(entries[0].id)).stdout
        for words in ("jim@builder.test", "alice@wonderland.test", "\\x1b[31mFull", "next attempt", "1, the last one"):
            assert words in output
        both = run("queue", "show", str(entries[2].id), str(entries[0].id), "--json")
        assert [entry["id"] for entry in json.loads(both.stdout)] == [entries[0].id, entries[2].id]

    def test_show_of_nothing_is_an_error(self, run: Run, entries: list[QueueEntry]) -> None:
        assert "no queue entry 4711" in run("queue", "show", "4711", status=1).stderr
        assert "no entry matches" in run("queue", "show", "--domain", "no.test", status=1).stderr
        assert "Say which" in run("queue", "show", status=2).stderr
        assert "is not in the range" in run("queue", "show", "99999999999999999999", status=2).stderr

    def test_stats_have_the_figures_that_others_rely_on(self, run: Run, entries: list[QueueEntry]) -> None:
        stats = json.loads(run("queue", "stats", "--json").stdout)
        assert (stats["entries"], stats["held"], stats["due"], stats["destinations"]) == (3, 0, 2, 2)
        assert stats["oldest"].endswith("Z")
        assert [(each["destination"], each["entries"]) for each in stats["largest"]] == [
            ("builder.test", 2),
            ("elsewhere.test", 1),
        ]
        output = run("queue", "stats").stdout
        assert "3 entries for 2 destinations: 2 due, 0 held" in output and "\\x1b[31m" in output

    def test_an_empty_queue_is_said_to_be_empty(self, config: Path, run: Run) -> None:
        assert run("queue", "stats").stdout == "The queue is empty.\n"
        assert listed(run) == []


class TestChanging:
    @pytest.mark.parametrize("command", ["retry", "hold", "release", "delete", "return"])
    def test_a_command_that_changes_wants_to_know_what(self, config: Path, run: Run, command: str) -> None:
        assert "or --all" in run("queue", command, status=2).stderr

    @pytest.mark.parametrize("command", ["retry", "hold", "release", "delete", "return"])
    def test_a_dry_run_changes_nothing(self, run: Run, entries: list[QueueEntry], command: str) -> None:
        before = listed(run)
        assert "3 entries would be" in run("queue", command, "--all", "--dry-run").stdout
        assert listed(run) == before

    def test_held_entries_wait_until_they_are_released(self, run: Run, entries: list[QueueEntry]) -> None:
        assert run("queue", "hold", "--domain", "builder.test").stdout == "2 entries were held.\n"
        assert run("queue", "hold", "--all").stdout == "1 entry of 3 that match was held.\n"
        assert {entry["state"] for entry in listed(run)} == {"held"}
        assert "held" in run("queue", "list").stdout
        assert run("queue", "retry", "--all").stdout == "0 entries of 3 that match were made due now.\n"
        assert run("queue", "release", "--all").stdout == "3 entries were released.\n"
        assert {entry["state"] for entry in listed(run)} == {"ready"}

    def test_retry_makes_entries_due(self, run: Run, entries: list[QueueEntry]) -> None:
        assert run("queue", "retry", "--id", str(entries[0].id)).stdout == "1 entry was made due now.\n"
        assert json.loads(run("queue", "stats", "--json").stdout)["due"] == 3

    def test_retry_leaves_what_its_sender_holds_back_unless_it_is_named(self, run: Run, held_back: TraceId) -> None:
        before = listed(run, "--domain", "burrow.test")
        assert run("queue", "retry", "--all", "--dry-run").stdout == "3 entries would be made due now.\n"
        assert run("queue", "retry", "--all").stdout == "3 entries of 4 that match were made due now.\n"
        assert listed(run, "--domain", "burrow.test") == before
        for option in (("--id", str(before[0]["id"])), ("--trace", format_trace_id(held_back))):
            assert run("queue", "retry", *option, "--dry-run").stdout == "1 entry would be made due now.\n"
            assert run("queue", "retry", *option).stdout == "1 entry was made due now.\n"
        assert json.loads(run("queue", "stats", "--json").stdout)["due"] == 4

    def test_what_is_released_goes_when_its_sender_wants_it(self, run: Run, held_back: TraceId) -> None:
        before = listed(run, "--domain", "burrow.test")
        run("queue", "hold", "--all")
        assert run("queue", "release", "--all").stdout == "4 entries were released.\n"
        assert listed(run, "--domain", "burrow.test") == before
        assert json.loads(run("queue", "stats", "--json").stdout)["due"] == 3, "all others"

    def test_delete_asks_first_and_tells_nobody(self, config: Path, run: Run, entries: list[QueueEntry]) -> None:
        refused = run("queue", "delete", "--domain", "builder.test", stdin="n\n", status=1)
        assert "Delete 2 entries? This can't be undone." in refused.output
        assert len(listed(run)) == 3
        assert "2 entries were deleted." in run("queue", "delete", "--domain", "builder.test", stdin="y\n").output
        assert run("queue", "delete", "--all", "--yes").stdout == "1 entry was deleted.\n"
        assert listed(run) == []
        assert journal_of(config, entries[0])[-1].station is Station.DELETED
        assert run("queue", "delete", "--all").stdout == "0 entries were deleted.\n"

    def test_return_tells_the_senders_why(self, config: Path, run: Run, entries: list[QueueEntry]) -> None:
        output = run("queue", "return", "--all", "--yes", "--reason", "the domain was mistyped").stdout
        assert output == "3 entries were returned.\n"
        # Alice is told elsewhere, Carol here; the report itself goes without another one.
        assert {entry["destination"] for entry in listed(run)} == {"wonderland.test", "[local]"}
        assert all(entry["sender"] == "<>" for entry in listed(run))
        returned = journal_of(config, entries[0])[-1]
        assert returned.station is Station.RETURNED

        async def read(letters: Letters) -> bytes:
            (report,) = await letters.due("wonderland.test")
            assert format_trace_id(report.trace) == fields(returned)["dsn"]
            return await stored(letters.storage.spool, report.trace)

        report = in_storage(config, read)
        assert b"the domain was mistyped" in report and b"message/delivery-status" in report

    def test_a_reason_is_one_line(self, config: Path, run: Run) -> None:
        assert "one line" in run("queue", "return", "--all", "--reason", "a\nb", status=2).stderr

    def test_thousands_are_changed_in_pages(self, config: Path, run: Run) -> None:
        async def fill(letters: Letters) -> None:
            await asyncio.gather(*(letters.post(to=[BOB]) for _ in range(1234)))

        in_storage(config, fill)
        assert run("queue", "hold", "--all").stdout == "1234 entries were held.\n"
        assert run("queue", "delete", "--state", "held", "--yes").stdout == "1234 entries were deleted.\n"

    def test_on_a_terminal_a_bar_shows_how_far_it_is_and_the_answer_stays_clean(
        self, config: Path, entries: list[QueueEntry]
    ) -> None:
        ours, terminal = pty.openpty()
        command = [sys.executable, "-m", "waypost", "queue", "hold", "--all", "--config", str(config)]
        process = subprocess.run(command, stdout=subprocess.PIPE, stderr=terminal, env=os.environ | {"TERM": "xterm"})
        os.close(terminal)
        shown = os.read(ours, 65536)
        os.close(ours)
        assert process.stdout == b"3 entries were held.\n"
        assert b"Holding" in shown


class TestDamage:
    """An entry whose row can't be read is shown as such, and only a person's word removes it."""

    def test_it_is_listed_shown_kept_from_return_and_deleted(
        self, run: Run, config: Path, entries: list[QueueEntry]
    ) -> None:
        database = apsw.Connection(str(config.parent / "data" / DATABASE))
        database.execute("UPDATE entry SET recipients = '[' WHERE id = ?", (entries[0].id,))
        database.close()
        first = listed(run)[0]
        assert (first["damage"], first["sender"], first["recipients"]) == ("its recipients can't be read", None, [])
        assert "its recipients can't be read" in run("queue", "show", str(entries[0].id)).stdout
        returned = run("queue", "return", "--domain", "builder.test", "--yes")
        assert "1 entry of 2 that match was returned" in returned.stdout
        assert f"entry {entries[0].id} stays: its recipients can't be read" in returned.stderr
        assert [entry["id"] for entry in listed(run, "--domain", "builder.test")] == [entries[0].id]
        assert run("queue", "delete", "--domain", "builder.test", "--yes").stdout == "1 entry was deleted.\n"


def test_every_command_takes_entries_by_their_numbers_and_all_that_is_given_must_match(
    run: Run, entries: list[QueueEntry]
) -> None:
    first, second, third = (str(entry.id) for entry in entries)
    assert [entry["id"] for entry in listed(run, third, first)] == [entries[0].id, entries[2].id]
    assert [entry["id"] for entry in listed(run, third, first, "--domain", "elsewhere.test")] == [entries[2].id]
    assert run("queue", "hold", first, third, first).stdout == "2 entries were held.\n"
    assert run("queue", "release", third, "--id", third).stdout == "1 entry was released.\n"
    assert run("queue", "retry", first, "--state", "ready").stdout == "0 entries were made due now.\n"
    assert run("queue", "delete", first, "--domain", "elsewhere.test", "--yes").stdout == "0 entries were deleted.\n"
    assert run("queue", "return", third, "--yes").stdout == "1 entry was returned.\n"
    assert run("queue", "delete", second, "--yes").stdout == "1 entry was deleted.\n"
    assert entries[0].id in [entry["id"] for entry in listed(run)]


@pytest.mark.parametrize("command", ["retry", "hold", "release", "delete", "return", "show"])
def test_a_number_that_is_no_entry_is_named_and_nothing_is_changed(
    run: Run, entries: list[QueueEntry], command: str
) -> None:
    before = listed(run)
    number = str(entries[0].id)
    for which in ((number, "4711"), ("--id", "4711")):
        assert run("queue", command, *which, status=1).stderr == "waypost: no queue entry 4711\n"
    assert listed(run) == before


@pytest.mark.parametrize("sender", ["foo", "@", "a@b@c", "<x>", ""])
def test_what_can_be_no_sender_is_refused_with_what_can(config: Path, run: Run, sender: str) -> None:
    error = run("queue", "hold", "--sender", sender, status=2).stderr
    assert "write an address" in error


# -- on a terminal ---------------------------------------------------------------------------------------------


def test_at_80_columns_no_command_breaks_a_line_inside_a_word(config: Path, entries: list[QueueEntry]) -> None:
    trace = format_trace_id(entries[1].trace)
    number = str(entries[1].id)
    for arguments in (["queue", "list"], ["queue", "show", number], ["queue", "stats"], ["trace", trace]):
        lines = shown_at(80, *arguments)
        assert lines and all(len(line) <= 80 for line in lines), arguments
    listed = " ".join(" ".join(shown_at(80, "queue", "list")).split())
    for entry in entries:
        assert f"entry {entry.id} {format_trace_id(entry.trace)}" in listed
        assert str(entry.recipients[0].address) in listed


def test_on_a_wide_terminal_the_queue_is_a_table(config: Path, entries: list[QueueEntry]) -> None:
    assert shown_at(300, "queue", "list")[0].split()[:3] == ["entry", "trace", "age"]


def test_an_empty_list_says_so(config: Path, run: Run) -> None:
    assert run("queue", "list").output == "The queue is empty.\n"
    assert run("queue", "list", "--sender", "<>").output == "No entry matches.\n"
    assert json.loads(run("queue", "list", "--json").stdout) == []
