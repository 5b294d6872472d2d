"""Events for programs and for the log: flat fields with the names and forms that others rely on, and a phrase each."""

from collections.abc import Iterable
from typing import Any, assert_never

from msgspec import to_builtins

from waypost.journal.events import (
    AttemptFailed,
    Checked,
    Delayed,
    Deleted,
    Delivered,
    Details,
    Event,
    Generated,
    Held,
    HeldAction,
    Queued,
    Received,
    Relayed,
    Returned,
    Submitted,
    Unknown,
)
from waypost.message.reply import Reply
from waypost.message.trace import TraceId, format_trace_id, iso_time

_TIMES = frozenset({"next_attempt", "not_before"})
_TRACES = frozenset({"about", "dsn"})
_SPARSE = frozenset({"moved", "not_before", "note", "problem", "reply"})
"""Fields that stand only where they have a value; the others are null without one."""


def fields(event: Event) -> dict[str, Any]:
    """Return the details of an event as JSON values: replies as one line, trace ids as people see them, times as
    RFC 3339."""
    details = event.details
    if type(details) is Unknown:
        return dict(details.values)
    shown: dict[str, Any] = {}
    for name in details.__struct_fields__:
        value = getattr(details, name)
        if value is None:
            if name not in _SPARSE:
                shown[name] = None
        elif name in _TIMES:
            shown[name] = iso_time(value)
        elif name in _TRACES:
            shown[name] = format_trace_id(value)
        elif type(value) is Reply:
            shown[name] = str(value)
        elif type(value) is tuple:
            shown[name] = [to_builtins(one) for one in value]
        elif type(value) is HeldAction:
            shown[name] = value.value
        else:
            shown[name] = value
    return shown


def phrase(details: Details) -> str:
    """Return what the log says of a kind of event."""
    match details:
        case Submitted() | Received():
            return "message accepted"
        case Checked():
            return "message checked"
        case Generated():
            return "report made"
        case Queued():
            return "message queued"
        case AttemptFailed():
            return "delivery failed"
        case Relayed():
            return "message relayed"
        case Delivered():
            return "message delivered"
        case Delayed():
            return "sender told of a delay"
        case Returned():
            return "message returned"
        case Held():
            return f"queue entry {details.action.value}"
        case Deleted():
            return "queue entry deleted"
        case Unknown():
            return f"event {details.station}"
        case _:
            assert_never(details)


def reports_of(events: Iterable[Event]) -> list[TraceId]:
    """Return the reports that events name, each once."""
    named = (event.details.dsn for event in events if isinstance(event.details, Delayed | Returned))
    return list(dict.fromkeys(report for report in named if report is not None))
