"""Events as records: what is written comes back, whoever wrote it."""

from typing import Any, get_args, get_type_hints

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from waypost.journal import (
    AttemptFailed,
    Checked,
    Delayed,
    Details,
    Event,
    Generated,
    Held,
    HeldAction,
    Received,
    Relayed,
    Returned,
    Submitted,
    Unknown,
    UnreadableEvent,
    decode,
    encode,
    fields,
)
from waypost.message.reply import Reply
from waypost.message.trace import TraceId, parse_trace_id
from waypost.message.verdict import Verdict

TRACE = TraceId(1_795_539_446_000_000 << 10)
ABOUT = "1k120ye1g1w01"
KINDS: list[type[Details]] = [kind for kind in get_args(Details) if kind is not Unknown]

_TEXT = st.text(st.characters(codec="utf-8"), max_size=40)
_TIME = st.integers(0, (1 << 53) - 1)
_VALUES: dict[Any, st.SearchStrategy[Any]] = {
    str: _TEXT,
    int: _TIME,
    TraceId: st.integers(0, (1 << 62) - 1),
    tuple[str, ...]: st.lists(_TEXT, max_size=3).map(tuple),
    Reply: st.builds(
        Reply,
        st.integers(200, 599),
        st.none() | st.just("5.1.1"),
        st.lists(_TEXT, min_size=1, max_size=3).map(tuple),
    ),
    HeldAction: st.sampled_from(HeldAction),
    tuple[Verdict, ...]: st.lists(
        st.builds(Verdict, _TEXT, _TEXT, st.none() | _TEXT, st.none() | _TEXT), max_size=3
    ).map(tuple),
}


def _values_of(hint: Any) -> st.SearchStrategy[Any]:
    """Return a strategy for the values of a field; each type that a field may have stands in the table above."""
    if hint in _VALUES:
        return _VALUES[hint]
    return st.one_of([st.none() if part is type(None) else _VALUES[part] for part in get_args(hint)])


def _details() -> st.SearchStrategy[Details]:
    known = [
        st.builds(kind, **{name: _values_of(get_type_hints(kind)[name]) for name in kind.__struct_fields__})
        for kind in KINDS
    ]
    values = st.dictionaries(_TEXT, st.none() | st.booleans() | _TIME | _TEXT | st.lists(_TEXT, max_size=2), max_size=4)
    newer = _TEXT.filter(lambda name: name not in {kind.station for kind in KINDS})
    return st.one_of(*known, st.builds(Unknown, station=newer, values=values))


def stored(kind: str, octets: bytes) -> bytes:
    """Return a row with one event."""
    return b'[[1,"%s",%s]]' % (kind.encode(), octets)


def read(kind: str, octets: bytes) -> Event:
    [event] = decode(TRACE, stored(kind, octets))
    return event


@given(_TIME, _details())
def test_each_kind_of_event_comes_back_as_it_was(time: int, details: Details) -> None:
    events = [Event(TRACE, time, details), Event(TRACE, 0, details)]
    octets = encode(events)
    assert decode(TRACE, octets) == decode(TRACE, octets.decode()) == events


@given(_details())
def test_whatever_stands_in_an_event_is_json_for_programs(details: Details) -> None:
    shown = fields(Event(TRACE, 0, details))
    assert msgspec.json.decode(msgspec.json.encode(shown)) == shown


@pytest.mark.parametrize(
    ("kind", "octets", "details"),
    [
        (
            "submitted",
            b'{"account":"a@b.test","peer":"192.0.2.7","helo":"[192.0.2.7]","tls":null,"sender":"a@b.test",'
            b'"recipients":["c@d.test"],"size":10,"message_id":"<1@b.test>"}',
            Submitted(
                account="a@b.test",
                peer="192.0.2.7",
                helo="[192.0.2.7]",
                sender="a@b.test",
                recipients=("c@d.test",),
                size=10,
                message_id="<1@b.test>",
            ),
        ),
        ("received", b'{"peer":"192.0.2.7","recipients":[]}', Received(peer="192.0.2.7", recipients=())),
        (
            "generated",
            b'{"kind":"failed","about":"%s","recipients":["c@d.test"]}' % ABOUT.encode(),
            Generated(kind="failed", about=parse_trace_id(ABOUT), recipients=("c@d.test",)),
        ),
        (
            "attempt",
            b'{"destination":"d.test","host":"mx.d.test","address":"192.0.2.1:25","source":null,"tls":null,'
            b'"recipients":["c@d.test"],"reply":"450 4.7.1 Greylisted  for 5 minutes","status":"4.7.1",'
            b'"next_attempt":1795539506000000}',
            AttemptFailed(
                destination="d.test",
                host="mx.d.test",
                address="192.0.2.1:25",
                recipients=("c@d.test",),
                reply=Reply(450, "4.7.1", ("Greylisted  for 5 minutes",)),
                status="4.7.1",
                next_attempt=1_795_539_506_000_000,
            ),
        ),
        (
            "relayed",
            b'{"destination":"d.test","recipients":["c@d.test"],"reply":"250 Ok"}',
            Relayed(destination="d.test", recipients=("c@d.test",), reply=Reply(250, None, ("Ok",))),
        ),
        ("relayed", b'{"recipients":[],"reply":"250"}', Relayed(recipients=(), reply=Reply(250, None, ("",)))),
        (
            "delayed",
            b'{"recipients":[],"problem":"nobody answers","dsn":"%s"}' % ABOUT.encode(),
            Delayed(recipients=(), problem="nobody answers", dsn=parse_trace_id(ABOUT)),
        ),
        (
            "returned",
            b'{"recipients":[],"reply":"what is no reply","status":"5.0.0","dsn":null}',
            Returned(recipients=(), problem="what is no reply", status="5.0.0"),
        ),
        (
            "checked",
            b'{"verdicts":[{"method":"iprev","result":"pass","value":"mx.there.test"}]}',
            Checked(verdicts=(Verdict("iprev", "pass", "mx.there.test"),)),
        ),
        ("held", b'{"action":"set aside","problem":"why"}', Held(action=HeldAction.SET_ASIDE, problem="why")),
    ],
)
def test_the_rows_of_the_first_version_are_read(kind: str, octets: bytes, details: Details) -> None:
    assert read(kind, octets) == Event(TRACE, 1, details)


def test_the_reply_of_an_old_row_is_shown_as_it_was() -> None:
    for words in ("550 5.1.1 No such user", "550 5.1.1", "421 4.7.1 x", "250 2.0.0-x", "571 Blocked", "250 4.0.0 odd"):
        octets = msgspec.json.encode({"recipients": [], "reply": words})
        assert fields(read("relayed", octets))["reply"] == words


@pytest.mark.parametrize(
    ("kind", "octets"),
    [
        ("verdict", b'{"result":"pass","n":1.5}'),
        ("held", b'{"action":"quarantined"}'),
        ("relayed", b'{"recipients":"everybody"}'),
        ("returned", b'{"recipients":[],"dsn":"not a trace id"}'),
        ("relayed", b'{"recipients":[],"reply":{"code":250}}'),
    ],
)
def test_what_a_newer_version_wrote_is_shown_as_it_is(kind: str, octets: bytes) -> None:
    event = read(kind, octets)
    assert event.details == Unknown(station=kind, values=msgspec.json.decode(octets))
    assert fields(event) == msgspec.json.decode(octets)
    assert encode([event]) == stored(kind, octets), "a copy of the journal loses nothing"


def test_a_field_of_a_newer_version_hides_no_event_that_has_it() -> None:
    event = read("relayed", b'{"recipients":["c@d.test"],"queue_place":7}')
    assert event.details == Relayed(recipients=("c@d.test",))


@pytest.mark.parametrize(
    "octets",
    [b"", b"null", b"[]", b"{", b'{"recipients":[]', b'{"reply":"\xff"}', b"\x00", b'{"reply":"\xff","recipients":[]}'],
)
@pytest.mark.parametrize("kind", ["relayed", "verdict"])
def test_what_nobody_wrote_is_an_error_of_one_kind(kind: str, octets: bytes) -> None:
    with pytest.raises(UnreadableEvent):
        read(kind, octets)


def test_a_new_field_has_a_default_or_was_there_in_the_first_version() -> None:
    required = {
        f"{kind.station}.{name}" for kind in KINDS for name in kind.__struct_fields__ if name not in _optional(kind)
    }
    assert required == {
        "submitted.account",
        "submitted.recipients",
        "received.recipients",
        "checked.verdicts",
        "generated.kind",
        "generated.recipients",
        "queued.destination",
        "queued.recipients",
        "attempt.recipients",
        "relayed.recipients",
        "delivered.recipients",
        "delayed.recipients",
        "returned.recipients",
        "held.action",
        "deleted.destination",
    }


def _optional(kind: type[Details]) -> set[str]:
    return {field.name for field in msgspec.structs.fields(kind) if not field.required}


@pytest.mark.parametrize("octets", [b"", b"{}", b"[1]", b'[["1","relayed",{}]]', b'[[1,"held"]]', b'[[1,"\xff",{}]]'])
def test_rows_of_another_shape_are_an_error_of_the_same_kind(octets: bytes) -> None:
    with pytest.raises(UnreadableEvent):
        decode(TRACE, octets)
