"""What people and programs read of events: each kind has its words, and each field its form."""

from typing import Any, get_args, get_type_hints

import pytest

from waypost.cli.event_words import words
from waypost.journal import AttemptFailed, Details, Event, HeldAction, Returned, Unknown, fields, phrase, reports_of
from waypost.message.reply import Reply
from waypost.message.trace import TraceId, format_trace_id, iso_time
from waypost.message.verdict import Verdict

TRACE = TraceId(1_795_539_446_000_000 << 10)
TIME = 1_795_539_446_000_000
SAMPLES: dict[Any, Any] = {
    str: "word",
    int: TIME,
    TraceId: TRACE,
    tuple[str, ...]: ("bob@builder.test",),
    tuple[Verdict, ...]: (Verdict("iprev", "pass", "mx.there.test"),),
    Reply: Reply(550, "5.1.1", ("No such user", "here")),
    HeldAction: HeldAction.HELD,
}


def full(kind: Any) -> Details:
    """Return an event of a kind whose every field has a value."""
    if kind is Unknown:
        return Unknown(station="verdict", values={"result": "pass", "domains": ["a.test"]})
    hints = get_type_hints(kind)
    values = {}
    for name in kind.__struct_fields__:
        parts = [hints[name]] if hints[name] in SAMPLES else get_args(hints[name])
        values[name] = SAMPLES[next(part for part in parts if part in SAMPLES)]
    made: Details = kind(**values)
    return made


@pytest.mark.parametrize("kind", get_args(Details))
def test_each_kind_has_a_phrase_and_words(kind: Any) -> None:
    details = full(kind)
    assert phrase(details) and words(details)


@pytest.mark.parametrize("kind", get_args(Details))
def test_times_trace_ids_and_replies_have_one_form_in_each_kind(kind: Any) -> None:
    if kind is Unknown:
        return
    shown, hints = fields(Event(TRACE, TIME, full(kind))), get_type_hints(kind)
    for name in kind.__struct_fields__:
        types = {hints[name], *get_args(hints[name])}
        if Reply in types:
            assert shown[name] == "550 5.1.1 No such user here"
        elif TraceId in types:
            assert shown[name] == format_trace_id(TRACE)
        elif int in types and name != "size":
            assert shown[name] == iso_time(TIME)
        elif tuple[str, ...] in types:
            assert shown[name] == ["bob@builder.test"]


def test_what_has_no_value_is_null_and_what_does_not_apply_is_not_there() -> None:
    failed = AttemptFailed(destination="d.test", recipients=("c@d.test",), problem="no mail server answered")
    assert fields(Event(TRACE, TIME, failed)) == {
        "destination": "d.test",
        "host": None,
        "address": None,
        "source": None,
        "tls": None,
        "recipients": ["c@d.test"],
        "problem": "no mail server answered",
        "status": None,
        "next_attempt": None,
    }


def test_an_event_of_a_newer_version_is_told_by_its_values() -> None:
    told = words(Unknown(station="verdict", values={"result": "pass", "domains": ["a.test"], "score": 1.5}))
    assert told == 'result: pass; domains: ["a.test"]; score: 1.5'


def test_each_report_is_followed_once() -> None:
    returned = Returned(recipients=(), dsn=TraceId(7))
    events = [Event(TRACE, TIME, details) for details in (returned, Returned(recipients=()), returned)]
    assert reports_of(events) == [TraceId(7)]
