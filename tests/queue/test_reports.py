"""Who is told what: NOTIFY, the deadline's wishes, and what must never be reported (RFC 3461, RFC 2852)."""

import threading
from email import message_from_bytes
from email.message import Message

import pytest
from msgspec.structs import replace
from tests.queue.world import ALICE, CONTENT, HOUR, MINUTE, SCHEDULE, SECOND, START, ScriptedCarrier, World

from waypost.journal import AttemptFailed, Returned, Station, fields
from waypost.message.address import Address
from waypost.message.dsn import Dsn, compose
from waypost.message.envelope import BodyType, DeliverBy, Envelope, Notify, Recipient, Ret
from waypost.message.reply import Reply
from waypost.message.report import Action, Concerned, Report
from waypost.message.trace import format_trace_id
from waypost.queue.carrier import Fate, RecipientResult
from waypost.queue.outcomes import bare_outcome, discard, outcome_of, return_entry
from waypost.queue.reporter import Attempted, ReportedMessage, Reporter, asked_for
from waypost.queue.schedule import Schedule
from waypost.storage import Outcome, QueueEntry, StorageError

BOB = Address.parse("bob@builder.test")
CAROL = Address.parse("carol@builder.test")
NOTHING = Attempted()


@pytest.mark.parametrize(
    ("notify", "told"),
    [
        (None, {Action.FAILED, Action.DELAYED}),
        (Notify.NEVER, set()),
        (Notify.FAILURE, {Action.FAILED}),
        (Notify.DELAY, {Action.DELAYED}),
        (Notify.SUCCESS, {Action.DELIVERED, Action.RELAYED, Action.EXPANDED}),
        (Notify.SUCCESS | Notify.FAILURE | Notify.DELAY, set(Action)),
    ],
)
def test_notify_decides_what_the_sender_hears(notify: Notify | None, told: set[Action]) -> None:
    recipient = Recipient(BOB, notify)
    assert {action for action in Action if asked_for(action, recipient, Envelope(ALICE), NOTHING)} == told


@pytest.mark.parametrize("action", Action)
def test_nothing_is_ever_reported_to_the_null_reverse_path(action: Action) -> None:
    everything = Recipient(BOB, Notify.SUCCESS | Notify.FAILURE | Notify.DELAY)
    assert not asked_for(action, everything, Envelope(None), NOTHING)


def test_a_next_hop_that_has_the_parameters_reports_success_itself() -> None:
    recipient = Recipient(BOB, Notify.SUCCESS)
    assert not asked_for(Action.RELAYED, recipient, Envelope(ALICE), Attempted(dsn_passed_on=True))


@pytest.mark.parametrize("notify", [None, Notify.FAILURE, Notify.NEVER])
def test_a_deadline_with_trace_is_told_of_each_hop_unless_never_was_said(notify: Notify | None) -> None:
    envelope = Envelope(ALICE, deliver_by=DeliverBy(START + HOUR, "N", True))
    handed_on = Attempted(dsn_passed_on=True, deadline_passed_on=True)
    assert asked_for(Action.RELAYED, Recipient(BOB, notify), envelope, handed_on) == (notify != Notify.NEVER)


def test_a_deadline_that_nobody_watches_any_more_is_told() -> None:
    envelope = Envelope(ALICE, deliver_by=DeliverBy(START + HOUR, "N"))
    assert asked_for(Action.RELAYED, Recipient(BOB), envelope, Attempted(dsn_passed_on=True))
    assert not asked_for(Action.RELAYED, Recipient(BOB), envelope, Attempted(deadline_passed_on=True))


async def settled(world: World, carrier: ScriptedCarrier, schedule: Schedule = SCHEDULE) -> Outcome:
    """Attempt the only entry once, by the carrier's script, and write what came of it."""
    [entry] = await world.waiting()
    outcome = await outcome_of(
        carrier.result(entry),
        schedule=schedule,
        reporter=world.reporter(),
        luck=0.0,
        now=world.clock.now(),
    )
    await world.storage.queue.settle([outcome])
    discard(outcome.reports)
    return outcome


async def report_of(world: World) -> tuple[QueueEntry, list[Message], bytes]:
    """Return the only entry that waits, which must be a report: its parts and its octets."""
    [entry] = await world.waiting()
    stored = await world.storage.spool.open(entry.trace)
    octets = await stored.read(0, stored.size)
    message = message_from_bytes(octets)
    assert message.get_content_type() == "multipart/report"
    parts = message.get_payload()
    assert isinstance(parts, list)
    return entry, parts, octets  # type: ignore[return-value]


async def test_a_failure_is_returned_in_the_commit_that_ends_the_entry(world: World) -> None:
    await world.submit("bob@builder.test", "carol@builder.test")
    carrier = ScriptedCarrier(world.clock)
    carrier.fail()
    outcome = await settled(world, carrier)
    entry, parts, octets = await report_of(world)
    assert entry.envelope.reverse_path is None
    assert entry.destination == "wonderland.test"
    assert entry.recipients == (Recipient(ALICE, Notify.NEVER),)
    assert b"bob@builder.test" in octets and b"carol@builder.test" in octets, "one report, all recipients"
    assert parts[2].get_content_type() == "message/rfc822"
    assert "Come." in parts[2].as_string()
    attempt, returned = await world.storage.journal.of(outcome.trace)
    assert fields(attempt) == {
        "destination": "builder.test",
        "host": "mx.builder.test",
        "address": "127.0.0.12:25",
        "source": None,
        "tls": "TLSv1.3 verified",
        "recipients": ["bob@builder.test", "carol@builder.test"],
        "reply": "550 5.1.1 No such user",
        "status": "5.1.1",
        "next_attempt": None,
    }
    assert fields(returned) == {
        "recipients": ["bob@builder.test", "carol@builder.test"],
        "reply": "550 5.1.1 No such user",
        "status": "5.1.1",
        "dsn": format_trace_id(entry.trace),
    }
    generated, queued = await world.storage.journal.of(entry.trace)
    assert fields(generated) == {
        "kind": "failed",
        "about": format_trace_id(outcome.trace),
        "recipients": ["bob@builder.test", "carol@builder.test"],
    }
    assert fields(queued) == {"destination": "wonderland.test", "recipients": ["alice@wonderland.test"]}
    assert await world.storage.journal.find_message_id(f"<{format_trace_id(entry.trace)}@mx.wonderland.test>")


async def test_a_report_that_fails_is_not_reported(world: World) -> None:
    await world.submit("alice@wonderland.test", envelope=Envelope(None))
    carrier = ScriptedCarrier(world.clock)
    carrier.fail()
    outcome = await settled(world, carrier)
    assert await world.waiting() == []
    returned = (await world.storage.journal.of(outcome.trace))[-1]
    assert (returned.station, fields(returned)["dsn"]) == (Station.RETURNED, None)


async def undeliverable(world: World) -> tuple[ScriptedCarrier, bytes]:
    """Let a report on a message of Alice's wait; return who fails everything, and its octets."""
    await world.submit("bob@builder.test", content="Subject: Tea\r\n\r\nThé\r\n".encode())
    carrier = ScriptedCarrier(world.clock)
    carrier.fail()
    await settled(world, carrier)
    return carrier, (await report_of(world))[2]


@pytest.mark.parametrize("status", ["5.2.3", "5.3.4", "5.6.1", "5.6.3"])
async def test_a_report_that_fails_for_what_it_returns_goes_out_once_more_with_the_header_alone(
    world: World, status: str
) -> None:
    carrier, _ = await undeliverable(world)
    carrier.status = status
    outcome = await settled(world, carrier)
    shorter, parts, octets = await report_of(world)
    assert (shorter.destination, shorter.recipients) == ("wonderland.test", (Recipient(ALICE, Notify.NEVER),))
    assert shorter.envelope == Envelope(None, body=BodyType.SEVEN_BIT) and octets.isascii()
    assert parts[2].get_content_type() == "text/rfc822-headers" and "Subject: Tea" in str(parts[2].get_payload())
    returned = (await world.storage.journal.of(outcome.trace))[-1]
    assert (returned.station, fields(returned)["dsn"]) == (Station.RETURNED, format_trace_id(shorter.trace))
    generated, _ = await world.storage.journal.of(shorter.trace)
    about = format_trace_id(outcome.trace)
    assert fields(generated) == {"kind": "shortened", "about": about, "recipients": ["alice@wonderland.test"]}
    await settled(world, carrier)
    assert await world.waiting() == [], "there is no third"


@pytest.mark.parametrize("status", ["5.1.1", "5.2.2", "5.3.40", "5.7.1"])
async def test_a_report_that_fails_for_another_reason_is_not_shortened(world: World, status: str) -> None:
    carrier, _ = await undeliverable(world)
    carrier.status = status
    outcome = await settled(world, carrier)
    assert outcome.reports == () and await world.waiting() == []


async def test_what_only_looks_like_a_report_of_ours_is_not_shortened(world: World) -> None:
    carrier, octets = await undeliverable(world)
    await settled(world, carrier)
    for content in (octets, CONTENT):
        await world.submit("alice@wonderland.test", envelope=Envelope(None), content=content)
        carrier.status = "5.3.4"
        outcome = await settled(world, carrier)
        assert outcome.reports == () and await world.waiting() == []


@pytest.mark.parametrize(
    ("people", "header", "beside"), [(1, b"", False), (1000, b"", True), (1, b"X: y\r\n" * 3000, True)]
)
async def test_a_large_report_is_written_beside_the_event_loop(
    world: World, monkeypatch: pytest.MonkeyPatch, people: int, header: bytes, beside: bool
) -> None:
    composed: list[bool] = []

    def watched(report: Report) -> Dsn:
        composed.append(threading.current_thread() is not threading.main_thread())
        return compose(report)

    monkeypatch.setattr("waypost.queue.reporter.compose", watched)
    carrier = ScriptedCarrier(world.clock)
    carrier.fail()
    world.dispatcher(carrier)
    await world.submit(*(f"x{number}@builder.test" for number in range(people)), content=header + CONTENT)
    await carrier.attempts.get()
    assert composed == [beside]


async def test_a_message_that_no_report_can_return_is_reported_without_it(
    world: World, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    def brittle(report: Report) -> Dsn:
        if report.header or report.content:
            raise RuntimeError("a bug")
        return compose(report)

    monkeypatch.setattr("waypost.queue.reporter.compose", brittle)
    await world.submit("bob@builder.test")
    carrier = ScriptedCarrier(world.clock)
    carrier.fail()
    await settled(world, carrier)
    _, parts, octets = await report_of(world)
    assert len(parts) == 2 and b"Action: failed\r\nStatus: 5.1.1\r\n" in octets
    [logged] = [record for record in caplog.records if record.exc_info]
    assert logged.message == "a report returns nothing of its message, by a fault of ours"


async def test_each_recipient_goes_its_own_way(world: World) -> None:
    recipients = [Recipient(BOB, Notify.SUCCESS), Recipient(CAROL), Recipient(Address.parse("dave@builder.test"))]
    await world.submit(*recipients)
    [entry] = await world.waiting()
    done, later, failed = ScriptedCarrier(world.clock), ScriptedCarrier(world.clock), ScriptedCarrier(world.clock)
    later.defer()
    failed.fail()
    done.results = tuple(carrier.result(entry).results[n] for n, carrier in enumerate((done, later, failed)))
    outcome = await settled(world, done)
    assert outcome.deferral is not None
    assert outcome.deferral.remaining == (recipients[1],)
    kinds = [fields(report.events[0])["kind"] for report in outcome.reports]
    assert kinds == ["failed", "relayed"]
    stations = [event.station.value for event in await world.storage.journal.of(outcome.trace)]
    assert stations == ["attempt", "attempt", "relayed", "returned"]


async def test_a_recipient_without_a_result_is_tried_again(world: World) -> None:
    await world.submit("bob@builder.test", "carol@builder.test")
    [entry] = await world.waiting()
    carrier = ScriptedCarrier(world.clock)
    carrier.results = carrier.result(entry).results[:1]
    outcome = await settled(world, carrier)
    assert outcome.deferral is not None
    assert [one.address for one in outcome.deferral.remaining] == [CAROL]


async def test_a_delay_is_told_once_with_headers_only_and_the_time_until_which_it_goes_on(world: World) -> None:
    await world.submit("bob@builder.test", envelope=Envelope(ALICE, ret=Ret.FULL))
    carrier = ScriptedCarrier(world.clock)
    carrier.defer()
    schedule = Schedule((10 * SECOND,), 0.0, delayed_notice=10 * SECOND, expire=HOUR)
    await settled(world, carrier, schedule)
    world.clock.advance(10)
    outcome = await settled(world, carrier, schedule)
    assert outcome.deferral is not None and outcome.deferral.delay_notified
    delayed = (await world.storage.journal.of(outcome.trace))[-1]
    assert delayed.station is Station.DELAYED
    assert fields(delayed)["reply"] == "451 4.3.0 Not now"
    [waiting, report] = await world.waiting()
    assert fields(delayed)["dsn"] == format_trace_id(report.trace)
    stored = await world.storage.spool.open(report.trace)
    octets = await stored.read(0, stored.size)
    assert b"Action: delayed\r\n" in octets
    assert b"Will-Retry-Until: Tue, 24 Nov 2026 17:57:26 +0000\r\n" in octets
    assert b"Content-Type: text/rfc822-headers" in octets
    assert waiting.waited == 10 * SECOND


async def test_when_the_term_ends_the_message_is_returned_with_what_was_said_last(world: World) -> None:
    await world.submit("bob@builder.test")
    carrier = ScriptedCarrier(world.clock)
    carrier.defer()
    schedule = Schedule((10 * SECOND,), 0.0, delayed_notice=0, expire=10 * SECOND)
    await settled(world, carrier, schedule)
    world.clock.advance(10)
    outcome = await settled(world, carrier, schedule)
    returned = (await world.storage.journal.of(outcome.trace))[-1]
    assert fields(returned)["status"] == "5.4.7"
    assert fields(returned)["reply"] == "451 4.3.0 Not now"
    _, _, octets = await report_of(world)
    assert b"Action: failed\r\nStatus: 5.4.7\r\n" in octets


@pytest.mark.parametrize(
    ("ret", "size", "media_type"),
    [
        (None, 100, "message/rfc822"),
        (Ret.FULL, 100, "message/rfc822"),
        (Ret.HEADERS, 100, "text/rfc822-headers"),
        (None, 70_000, "text/rfc822-headers"),
        (Ret.FULL, 70_000, "text/rfc822-headers"),
    ],
)
async def test_ret_and_size_decide_what_comes_back(world: World, ret: Ret | None, size: int, media_type: str) -> None:
    content = b"Subject: long\r\n\r\n" + b"0123456789\r\n" * (size // 12)
    await world.submit("bob@builder.test", envelope=Envelope(ALICE, ret=ret), content=content)
    carrier = ScriptedCarrier(world.clock)
    carrier.fail()
    await settled(world, carrier)
    _, parts, _ = await report_of(world)
    assert parts[2].get_content_type() == media_type
    assert "Subject: long" in parts[2].as_string()


async def test_eight_bit_content_makes_an_eight_bit_report(world: World) -> None:
    await world.submit("bob@builder.test", content="Subject: x\r\n\r\nThé\r\n".encode())
    carrier = ScriptedCarrier(world.clock)
    carrier.fail()
    await settled(world, carrier)
    entry, _, _ = await report_of(world)
    assert entry.envelope.body is BodyType.EIGHT_BIT


async def test_a_reverse_path_that_leads_nowhere_gets_nothing_and_the_log_says_so(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    nowhere = Address("alice", "xn--\u00fc-.test")
    await world.submit("bob@builder.test", envelope=Envelope(nowhere))
    carrier = ScriptedCarrier(world.clock)
    carrier.fail()
    await settled(world, carrier)
    assert await world.waiting() == []
    assert any(record.message == "a report has nowhere to go" for record in caplog.records)


async def test_success_in_a_mailbox_is_reported_as_delivered_to_those_who_asked(world: World) -> None:
    asked, silent = Recipient(BOB, Notify.SUCCESS), Recipient(CAROL)
    reporter, trace = world.reporter(), world.ids()
    header = b"Subject: hi\r\n\r\n"
    report = await reporter.delivered(
        trace=trace, envelope=Envelope(ALICE), recipients=[asked, silent], header=header, received_at=START
    )
    assert report is not None
    assert fields(report.events[0])["recipients"] == ["bob@builder.test"]
    await world.storage.spool.accept(report)
    _, _, octets = await report_of(world)
    assert b"Action: delivered\r\nStatus: 2.1.5\r\n" in octets
    assert b"carol" not in octets
    assert (
        await reporter.delivered(
            trace=trace, envelope=Envelope(ALICE), recipients=[silent], header=header, received_at=START
        )
        is None
    )


async def test_the_journal_has_the_reply_as_the_value_that_the_report_quotes(world: World) -> None:
    await world.submit("bob@builder.test")
    carrier = ScriptedCarrier(world.clock)
    carrier.fail()
    carrier.reply = Reply(550, "5.1.1", ("No such user", "at this host"))
    outcome = await settled(world, carrier)
    failed, returned = [event.details for event in await world.storage.journal.of(outcome.trace)]
    assert isinstance(failed, AttemptFailed) and failed.reply == carrier.reply
    assert isinstance(returned, Returned) and returned.reply == carrier.reply
    _, _, octets = await report_of(world)
    assert b"Diagnostic-Code: smtp; 550 5.1.1 No such user at this host\r\n" in octets


async def test_an_operator_returns_an_entry_with_words(world: World) -> None:
    await world.submit("bob@builder.test")
    [entry] = await world.waiting()
    outcome = await return_entry(
        entry, reporter=world.reporter(), words="the domain builder.test was sold", now=world.clock.now()
    )
    await world.storage.queue.settle([outcome])
    _, parts, _ = await report_of(world)
    assert "the domain builder.test was sold" in str(parts[0].get_payload())
    [event] = await world.storage.journal.of(entry.trace)
    assert fields(event) == {
        "recipients": ["bob@builder.test"],
        "problem": "the domain builder.test was sold",
        "status": "5.0.0",
        "dsn": format_trace_id(outcome.reports[0].trace),
    }


async def test_a_message_whose_octets_are_gone_is_reported_without_them(world: World) -> None:
    reporter = world.reporter()
    about = ReportedMessage(world.ids(), Envelope(ALICE), START)
    report = await reporter.report(Action.FAILED, about, [Concerned(Recipient(BOB), "5.1.1")], NOTHING)
    assert report is not None
    await world.storage.spool.accept(report)
    _, parts, _ = await report_of(world)
    assert len(parts) == 2


async def test_what_a_fault_of_ours_leaves_is_tried_again_but_nothing_is_sent_twice(world: World) -> None:
    await world.submit("bob@builder.test", "carol@builder.test")
    [entry] = await world.waiting()
    carrier, failing = ScriptedCarrier(world.clock), ScriptedCarrier(world.clock)
    failing.fail()
    carrier.results = (carrier.result(entry).results[0], failing.result(entry).results[1])
    outcome = bare_outcome(carrier.result(entry), SCHEDULE)
    await world.storage.queue.settle([outcome])
    [left] = await world.waiting()
    assert [one.address for one in left.recipients] == [CAROL]
    assert left.next_attempt > START


async def test_what_a_fault_of_ours_keeps_waiting_grows_older_all_the_same(world: World) -> None:
    await world.submit("bob@builder.test")
    carrier = ScriptedCarrier(world.clock)
    carrier.defer()
    for ages in (MINUTE, 2 * MINUTE):
        world.clock.advance(60)
        [entry] = await world.waiting()
        await world.storage.queue.settle([bare_outcome(carrier.result(entry), SCHEDULE)])
        [entry] = await world.waiting()
        assert entry.waited == ages


async def test_a_broken_report_ends_neither_the_carrier_nor_the_message(
    world: World, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def broken(*args: object, **named: object) -> None:
        raise RuntimeError("a bug")

    monkeypatch.setattr(Reporter, "report", broken)
    carrier = ScriptedCarrier(world.clock)
    world.dispatcher(carrier)
    await world.submit(Recipient(BOB, Notify.SUCCESS))
    await carrier.attempts.get()
    assert await world.waiting() == [], "it was relayed: it must not be sent again"
    assert any(
        record.message == "an attempt's outcome could not be told" and record.exc_info for record in caplog.records
    )


async def test_what_a_peer_says_is_stored_as_one_printable_line(world: World) -> None:
    await world.submit("bob@builder.test")
    carrier = ScriptedCarrier(world.clock)
    carrier.defer("451 wait\r\nMAIL FROM:<> \x1b[2J \udcff" + "x" * 5000)
    world.dispatcher(carrier)
    result = await carrier.attempts.get()
    [entry] = await world.waiting()
    assert entry.last_error is not None
    assert entry.last_error.startswith("451 wait MAIL FROM:<> ?[2J ?xxx")
    assert len(entry.last_error) < 2100
    [attempt] = await world.storage.journal.of(result.entry.trace)
    assert fields(attempt)["reply"] == entry.last_error


async def test_a_report_whose_octets_are_gone_just_fails(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    carrier, _ = await undeliverable(world)
    carrier.status = "5.3.4"

    async def gone(*_: object) -> None:
        raise StorageError("the disk is gone")

    monkeypatch.setattr(world.storage.spool, "open", gone)
    assert (await settled(world, carrier)).reports == ()


async def test_a_shortened_report_goes_to_those_that_it_failed_for(world: World) -> None:
    await undeliverable(world)
    [entry] = await world.waiting()
    one, two = (Recipient(Address.parse(f"{name}@wonderland.test"), Notify.NEVER) for name in ("one", "two"))
    result = ScriptedCarrier(world.clock).result(replace(entry, recipients=(one, two)))
    failed = RecipientResult(two, Fate.FAILED, "5.3.4", Reply(552, "5.3.4", ("too large",)))
    result = replace(
        result, results=(RecipientResult(one, Fate.RELAYED, "2.0.0", Reply(250, "2.0.0", ("ok",))), failed)
    )
    outcome = await outcome_of(result, schedule=SCHEDULE, reporter=world.reporter(), luck=0.0, now=world.clock.now())
    (report,) = outcome.reports
    assert [recipient.address for recipient in report.entries[0].recipients] == [two.address]
    discard(outcome.reports)


@pytest.mark.parametrize(
    ("address", "remote"), [("192.0.2.1:25", "dns; [192.0.2.1]"), ("[2001:db8::1]:25", "dns; [IPv6:2001:db8::1]")]
)
async def test_a_server_without_a_name_is_named_by_an_address_literal(world: World, address: str, remote: str) -> None:
    await world.submit("bob@builder.test")
    carrier = ScriptedCarrier(world.clock)
    carrier.fail()
    [entry] = await world.waiting()
    result = replace(carrier.result(entry), host=None, address=address)
    outcome = await outcome_of(result, schedule=SCHEDULE, reporter=world.reporter(), luck=0.0, now=world.clock.now())
    await world.storage.queue.settle([outcome])
    discard(outcome.reports)
    assert f"Remote-MTA: {remote}\r\n".encode() in (await report_of(world))[2]
