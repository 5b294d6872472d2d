"""`waypost queue show` and `trace` tell from which source an entry leaves, who receives it, and how fast and why."""

import json
from pathlib import Path

import pytest
from msgspec.structs import replace
from tests.cli.conftest import Run
from tests.cli.post_office import in_storage
from tests.storage.letters import Letters, deferral, finished, leases

from waypost.journal import AttemptFailed, Event
from waypost.message.reply import Reply
from waypost.message.trace import TraceId, format_trace_id
from waypost.storage import Pacing, QueueEntry

BOB = "bob@builder.test"
MINUTE = 60_000_000


def configure(config: Path, *sources: str) -> None:
    tables = "".join(f'\n[[outbound.source]]\naddress = "{source}"\n' for source in sources)
    config.write_text(config.read_text() + tables)


def post(config: Path, *pacing: Pacing, source: str | None = None, at: str = BOB) -> QueueEntry:
    """An entry that was tried once from a source."""

    async def work(letters: Letters) -> QueueEntry:
        queue = letters.storage.queue
        await letters.post(to=[at])
        [entry] = await letters.due(at.partition("@")[2])
        if source is not None:
            waits = replace(deferral(entry, letters.clock() + 5 * MINUTE), source=source)
            await queue.settle([finished(entry, deferral=waits)])
        claimed = await leases(queue, 0, now=letters.clock() + 6 * MINUTE)
        noted = [replace(each, at=letters.clock() - MINUTE) for each in pacing]
        await queue.release([one for one in claimed if one.destination == entry.destination], pacing=noted)
        return await queue.get(entry.id)

    return in_storage(config, work)


def shown(run: Run, entry: QueueEntry) -> str:
    return " ".join(run("queue", "show", str(entry.id)).stdout.split())


def test_an_entry_that_was_tried_shows_its_source_its_receiver_and_its_pace(config: Path, run: Run) -> None:
    configure(config, "192.0.2.1", "192.0.2.2")
    entry = post(
        config,
        Pacing("192.0.2.1", "hoster.test", 0, "left alone", 0, 4_000_000_000_000_000),
        Pacing("192.0.2.2", "hoster.test", 7, "growing", 0),
        source="192.0.2.2",
    )
    text = shown(run, entry)
    assert "source 192.0.2.2 receiver hoster.test" in text
    assert "pace from 192.0.2.1: no connection before 2096-" in text
    assert "connections were refused or dropped too often in a row, 1m00s ago" in text
    assert "pace from 192.0.2.2: 7 connections: each round of messages that are taken adds one, 1m00s ago" in text
    [found] = json.loads(run("queue", "show", str(entry.id), "--json").stdout)
    assert (found["source"], found["receiver"]) == ("192.0.2.2", "hoster.test")
    assert [(each["source"], each["connections"], each["reason"]) for each in found["pacing"]] == [
        ("192.0.2.1", 0, "left alone"),
        ("192.0.2.2", 7, "growing"),
    ]
    assert found["pacing"][0]["not_before"].startswith("2096-") and found["pacing"][1]["not_before"] is None


@pytest.mark.parametrize(
    ("reason", "words"),
    [
        ("beginning", "2 connections: few to begin with; each round of messages that are taken adds one"),
        ("ceiling", "2 connections: outbound.max_connections_per_destination"),
        ("too many", "2 connections: one more was refused lately"),
        ("dropped", "2 connections: the server dropped a connection"),
        ("of a later version", "2 connections: of a later version"),
    ],
)
def test_each_reason_has_words(config: Path, run: Run, reason: str, words: str) -> None:
    assert f"pace {words}" in shown(run, post(config, Pacing(None, None, 2, reason, 0)))


def test_a_destination_that_may_be_tried_again_says_so(config: Path, run: Run) -> None:
    text = shown(run, post(config, Pacing(None, "hoster.test", 0, "unreachable", 0, 1)))
    assert "pace no connection until something is due: no server took a connection, 1m00s ago" in text


def test_a_fresh_entry_shows_where_it_will_leave_from(config: Path, run: Run) -> None:
    assert "source the system chooses" in shown(run, post(config))
    configure(config, "192.0.2.1")
    assert "source 192.0.2.1, from the first attempt on" in shown(run, post(config, at="eve@elsewhere.test"))


def test_where_both_families_may_serve_both_are_shown(config: Path, run: Run) -> None:
    configure(config, "192.0.2.1", "2001:db8::1")
    assert "source 2001:db8::1 or 192.0.2.1, from the first attempt on" in shown(run, post(config))


def test_a_source_that_is_gone_from_the_list_is_told(config: Path, run: Run) -> None:
    configure(config, "192.0.2.2")
    text = shown(run, post(config, source="192.0.2.1"))
    assert "source 192.0.2.1, which is no source any more (outbound.source)" in text


def test_the_trace_says_from_which_source_and_why_from_another_one(config: Path, run: Run) -> None:
    async def tried(letters: Letters) -> TraceId:
        trace = await letters.post(to=[BOB])
        (entry,) = await letters.due("builder.test")
        details = AttemptFailed(
            destination="builder.test",
            host="mx.builder.test",
            address="192.0.2.99:25",
            source="192.0.2.2",
            recipients=(BOB,),
            reply=Reply(450, "4.7.1", ("Greylisted",)),
            moved="192.0.2.1 is no address of this machine",
        )
        waits = replace(deferral(entry, letters.clock() + 5 * MINUTE), source="192.0.2.2")
        attempt = Event(trace, letters.clock(), details)
        await letters.storage.queue.settle([finished(entry, deferral=waits, events=(attempt,))])
        return trace

    trace = format_trace_id(in_storage(config, tried))
    text = " ".join(run("trace", trace).stdout.split())
    assert "mx.builder.test [192.0.2.99:25] from 192.0.2.2 over plain text: 450 4.7.1 Greylisted" in text
    assert "from another source, since 192.0.2.1 is no address of this machine" in text
    assert "for builder.test from 192.0.2.2 (entry" in text
    details = json.loads(run("trace", trace, "--json").stdout)["events"][-1]["details"]
    assert (details["source"], details["moved"]) == ("192.0.2.2", "192.0.2.1 is no address of this machine")
