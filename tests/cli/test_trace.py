"""`waypost trace`: the whole way of one message, and of the reports about it, in words and in JSON."""

import json
from datetime import datetime
from pathlib import Path

import pytest
from msgspec.structs import replace
from tests.cli.conftest import Run
from tests.cli.post_office import in_storage
from tests.storage.letters import Letters, deferral, finished

from waypost.journal import AttemptFailed, Details, Event, Generated, Queued, Relayed, Returned, Submitted
from waypost.message.reply import Reply
from waypost.message.trace import TraceId, format_trace_id

BOB = "bob@builder.test"
SECOND = 1_000_000


@pytest.fixture
def message(config: Path) -> TraceId:
    """A message that was submitted, deferred, partly relayed, and partly returned by a report."""

    async def walk(letters: Letters) -> TraceId:
        now = letters.clock()
        letter = await letters.letter(to=[BOB, "tim@builder.test"], message_id="<tea@wonderland.test>")
        trace = letter.trace

        def event(later: int, details: Details) -> Event:
            return Event(trace, now + later * SECOND, details)

        submitted = Submitted(
            account="alice@example.org",
            peer="192.0.2.7:4242",
            helo="[192.0.2.7]",
            tls="TLSv1.3 TLS_AES_256_GCM_SHA384",
            recipients=(BOB, "tim@builder.test"),
            size=2048,
            message_id="<tea@wonderland.test>",
        )
        queued = Queued(destination="builder.test", recipients=(BOB, "tim@builder.test"))
        await letters.storage.spool.accept(replace(letter, events=(event(0, submitted), event(0, queued))))
        server = {"destination": "builder.test", "host": "mx.builder.test", "address": "192.0.2.1:25"}
        attempt = event(
            1,
            AttemptFailed(
                **server,
                tls="TLSv1.3 unverified",
                recipients=(BOB,),
                reply=Reply(451, "4.7.1", ("\x1b]0;Greylisted\x07",)),
                status="4.7.1",
                next_attempt=now + 60 * SECOND,
            ),
        )
        (entry,) = await letters.due("builder.test")
        await letters.storage.queue.settle(
            [finished(entry, deferral=deferral(entry, now + 60 * SECOND, "451 4.7.1 Greylisted"), events=(attempt,))]
        )
        report = await letters.letter(to=["alice@wonderland.test"], sender=None)
        generated = Generated(kind="failed", about=trace, recipients=("alice@wonderland.test",))
        report = replace(report, events=(Event(report.trace, now + 2 * SECOND, generated),))
        relayed = event(2, Relayed(**server, recipients=(BOB,), reply=Reply(250, "2.0.0", ("Taken",))))
        tim = Reply(550, "5.1.1", ("No Tim",))
        returned = event(2, Returned(recipients=("tim@builder.test",), reply=tim, status="5.1.1", dsn=report.trace))
        waits = deferral(entry, now + 60 * SECOND, "451 4.7.1 Greylisted")
        await letters.storage.queue.settle(
            [finished(entry, deferral=waits, events=(relayed, returned), reports=(report,))]
        )
        return trace

    return in_storage(config, walk)


def test_the_way_is_told_station_by_station(run: Run, message: TraceId) -> None:
    output = run("trace", format_trace_id(message)).stdout
    lines = output.splitlines()
    assert lines[0] == f"message {format_trace_id(message)}"
    stations = [line.split()[2] for line in lines[1:6]]
    assert stations == ["submitted", "queued", "attempt", "relayed", "returned"]
    assert "by alice@example.org from 192.0.2.7:4242 ([192.0.2.7]) over TLSv1.3 TLS_AES_256_GCM_SHA384" in lines[1]
    assert "2 KiB, <tea@wonderland.test>" in lines[1] and BOB in lines[1]
    assert "mx.builder.test [192.0.2.1:25] over TLSv1.3 unverified: 451 4.7.1" in lines[3]
    assert "next attempt 20" in lines[3]
    assert "over plain text: 250 2.0.0 Taken" in lines[4]
    assert "given up by report" in lines[5] and "550 5.1.1 No Tim" in lines[5]
    assert "waits" in lines[6] and "for builder.test" in lines[6] and "1 attempt, the last one: 451" in lines[6]
    assert "the report about it:" in lines[7]
    assert f"about {format_trace_id(message)} for alice@wonderland.test" in output


def test_where_no_connection_stood_none_is_told_of(config: Path, run: Run) -> None:
    async def never_answered(letters: Letters) -> TraceId:
        trace = await letters.post(to=[BOB])
        (entry,) = await letters.due("builder.test")
        details = AttemptFailed(
            destination="builder.test",
            host="mx.builder.test",
            address="192.0.2.1:25",
            recipients=(BOB,),
            problem="no mail server answered",
        )
        attempt = Event(trace, letters.clock(), details)
        waits = deferral(entry, letters.clock() + 60 * SECOND, "no mail server answered")
        await letters.storage.queue.settle([finished(entry, deferral=waits, events=(attempt,))])
        return trace

    output = run("trace", format_trace_id(in_storage(config, never_answered))).stdout
    assert "mx.builder.test [192.0.2.1:25]: no mail server answered" in output


def test_what_is_wrong_with_the_way_is_told_though_it_was_used(config: Path, run: Run) -> None:
    async def relayed(letters: Letters) -> TraceId:
        trace = await letters.post(to=[BOB])
        (entry,) = await letters.due("builder.test")
        note = "the MX 192.0.2.1 is an IP address and no name (RFC 1035 section 3.3.9)"
        taken = Reply(250, "2.0.0", ("Taken",))
        details = Relayed(address="192.0.2.1:25", recipients=(BOB,), reply=taken, note=note)
        await letters.storage.queue.settle([finished(entry, events=(Event(trace, letters.clock(), details),))])
        return trace

    output = run("trace", format_trace_id(in_storage(config, relayed))).stdout
    assert "250 2.0.0 Taken; the MX 192.0.2.1 is an IP address and no name" in output


def test_words_of_a_peer_cannot_steer_the_terminal(run: Run, message: TraceId) -> None:
    output = run("trace", format_trace_id(message)).stdout
    assert "\x1b" not in output and "\x07" not in output
    assert "\\x1b]0;Greylisted\\x07" in output


def test_the_way_in_json_has_the_shape_that_others_rely_on(run: Run, message: TraceId) -> None:
    way = json.loads(run("trace", format_trace_id(message), "--json").stdout)
    assert way["trace"] == format_trace_id(message)
    assert [event["station"] for event in way["events"]] == ["submitted", "queued", "attempt", "relayed", "returned"]
    for event in way["events"]:
        assert datetime.fromisoformat(event["time"]).tzinfo is not None
    attempt = way["events"][2]["details"]
    assert datetime.fromisoformat(attempt["next_attempt"]) > datetime.fromisoformat(way["events"][0]["time"])
    assert attempt["reply"] == "451 4.7.1 \x1b]0;Greylisted\x07"
    (waiting,) = way["waiting"]
    assert (waiting["destination"], waiting["attempts"], waiting["state"]) == ("builder.test", 1, "ready")
    assert datetime.fromisoformat(waiting["next_attempt"]).tzinfo is not None
    (report,) = way["reports"]
    assert report["trace"] == way["events"][4]["details"]["dsn"]
    assert report["events"][0]["details"]["about"] == way["trace"]


def test_a_message_is_found_by_its_message_id_with_or_without_brackets(run: Run, message: TraceId) -> None:
    for given in ("<tea@wonderland.test>", "tea@wonderland.test"):
        assert json.loads(run("trace", given, "--json").stdout)["trace"] == format_trace_id(message)


def test_all_messages_with_one_message_id_are_told(config: Path, run: Run, message: TraceId) -> None:
    async def again(letters: Letters) -> TraceId:
        return await letters.post(message_id="<tea@wonderland.test>")

    second = format_trace_id(in_storage(config, again))
    output = run("trace", "tea@wonderland.test").stdout
    assert f"message {format_trace_id(message)}" in output and f"message {second}" in output
    way = json.loads(run("trace", "tea@wonderland.test", "--json").stdout)
    assert way["trace"] == format_trace_id(message) and [other["trace"] for other in way["others"]] == [second]


def test_an_unknown_message_is_an_error(config: Path, run: Run) -> None:
    for unknown in ("0000000000000", "zzzzzzzzzzzzz", "<nobody@nowhere>", "nonsense"):
        result = run("trace", unknown, status=1)
        assert result.stderr.startswith(f"waypost: nothing is known of {unknown}:") and result.stdout == ""


def test_a_held_message_says_how_it_goes_on(config: Path, run: Run, message: TraceId) -> None:
    run("queue", "hold", "--trace", format_trace_id(message))
    output = run("trace", format_trace_id(message)).stdout
    assert "held by an operator" in output and "`waypost queue release` lets it go" in output
