"""`waypost trace`: the whole way of one message, station by station, and of the reports that were made about it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import click

from waypost.cli.frame import config_option, fail, json_option, print_json, run_with_storage
from waypost.cli.terminal import echo, echo_wrapped
from waypost.cli.times import iso_time, local_time, now, span_text
from waypost.counting import counted

if TYPE_CHECKING:
    from waypost.config.settings import Settings
    from waypost.message.trace import TraceId
    from waypost.storage import Bus, Event, QueueEntry, Storage

_HANGING = 8  # columns before the further lines of an event
_TIMES = ("next_attempt", "not_before")  # details that are times


@dataclass(slots=True)
class Way:
    """What is known of one message."""

    trace: TraceId
    events: list[Event]
    waiting: list[QueueEntry]
    reports: list[Way] = field(default_factory=list)


@click.command()
@click.argument("message", metavar="ID|MESSAGE-ID")
@config_option
@json_option
def trace(settings: Settings, message: str, as_json: bool) -> None:
    """Tell the whole way of one message: every station, when, with whom, and what comes next.

    ID is the 13 characters that the log, the queue and the server's answer name; MESSAGE-ID is a header field.
    """
    from waypost.message.trace import format_trace_id, parse_trace_id  # noqa: F401  used when the disk may be closed

    async def work(storage: Storage, bus: Bus) -> list[Way]:
        return [await _follow(storage, found) for found in await _find(storage, message)]

    ways = [way for way in run_with_storage(settings, work) if way.events or way.waiting]
    if not ways:
        fail(f"nothing is known of {message}: no trace id, and no Message-ID, of a message of the last weeks")
    if as_json:
        first, *others = [_json_of(way) for way in ways]
        print_json({**first, "others": others} if others else first)
        return
    for number, way in enumerate(ways):
        if number:
            echo()
        _print(way)


async def _find(storage: Storage, message: str) -> list[TraceId]:
    """Return the messages that are meant."""
    from waypost.message.trace import parse_trace_id

    try:
        return [parse_trace_id(message)]
    except ValueError:
        given = message.strip()
        return await storage.journal.find_message_id(given if given.startswith("<") else f"<{given}>")


async def _follow(storage: Storage, trace: TraceId, seen: frozenset[TraceId] = frozenset()) -> Way:
    """Read a message's way, and those of the reports about it."""
    from waypost.message.trace import parse_trace_id
    from waypost.storage import Filter

    way = Way(
        trace,
        await storage.journal.of(trace),
        [entry async for entry in storage.queue.entries(Filter(trace=trace), now=now())],
    )
    reports = dict.fromkeys(event.details["dsn"] for event in way.events if event.details.get("dsn"))
    for report in map(parse_trace_id, reports):
        if report not in seen:
            way.reports.append(await _follow(storage, report, seen | {trace}))
    return way


def _json_of(way: Way) -> dict[str, Any]:
    from waypost.message.trace import format_trace_id

    return {
        "trace": format_trace_id(way.trace),
        "events": [
            {"time": iso_time(event.time), "station": event.station.value, "details": _with_times(event.details)}
            for event in way.events
        ],
        "waiting": [
            {
                "id": entry.id,
                "destination": entry.destination,
                "state": entry.state.value,
                "recipients": [str(recipient.address) for recipient in entry.recipients],
                "next_attempt": iso_time(entry.next_attempt),
                "attempts": entry.attempts,
                "last_error": entry.last_error,
            }
            for entry in way.waiting
        ],
        "reports": [_json_of(report) for report in way.reports],
    }


def _with_times(details: dict[str, Any]) -> dict[str, Any]:
    return {
        name: iso_time(value) if name in _TIMES and isinstance(value, int) else value for name, value in details.items()
    }


def _print(way: Way, indent: str = "") -> None:
    from waypost.message.trace import format_trace_id

    echo(f"{indent}message {format_trace_id(way.trace)}")
    for event in way.events:
        time = f"{local_time(event.time)}.{event.time // 1000 % 1000:03}"
        line = f"{indent}  {time}  {event.station.value:<10} {_words(event)}".rstrip()
        echo_wrapped(line, hanging=len(indent) + _HANGING)
    when = now()
    for entry in way.waiting:
        line = f"{indent}  {'':<23}  {'waits':<10} {_waiting(entry, when)}"
        echo_wrapped(line, hanging=len(indent) + _HANGING)
    for report in way.reports:
        echo(f"{indent}  the report about it:")
        _print(report, indent + "    ")


def _waiting(entry: QueueEntry, when: int) -> str:
    if entry.state == "held":
        then = "held; `waypost queue release` lets it go"
    else:
        due = "now" if entry.next_attempt <= when else f"in {span_text(entry.next_attempt - when)}"
        then = f"next attempt {due}, at {local_time(entry.next_attempt)}"
    tried = f"; {counted(entry.attempts, 'attempt')}"
    error = f", the last one: {entry.last_error}" if entry.last_error else ""
    return f"for {entry.destination} (entry {entry.id}): {then}{tried}{error}"


def _words(event: Event) -> str:
    """Return an event in words, without its time and station."""
    details = event.details
    to = ", ".join(details.get("recipients") or ())
    match event.station.value:
        case "submitted":
            sender = "" if details.get("sender") == details.get("account") else _sender(details)
            return f"by {details.get('account')}{sender} from {_client(details)}; {_content(details)}for {to}"
        case "received":
            return f"from {_client(details)}{_sender(details)}; {_content(details)}for {to}"
        case "checked":
            return "; ".join(map(_verdict, details.get("verdicts") or ()))
        case "generated":
            about = f" about {details['about']}" if details.get("about") else ""
            return f"a report ({details.get('kind')}){about} for {to}"
        case "queued":
            later = details.get("not_before")
            return f"for {details.get('destination')}: {to}" + (
                f"; held back until {local_time(later)}" if later else ""
            )
        case "attempt":
            next_attempt = details.get("next_attempt")
            then = f"; next attempt {local_time(next_attempt)}" if next_attempt else ""
            return f"{to}: {_server(details)}{_said(details)}{_note(details)}{then}"
        case "relayed":
            return f"{to}: {_server(details)}{_said(details)}{_note(details)}"
        case "delivered":
            return f"{to} in the mailbox of {details['mailbox']}" if details.get("mailbox") else to
        case "delayed":
            return f"{to}: the sender is told that it waits{_report(details)}; {_said(details)}"
        case "returned":
            return f"{to}: given up{_report(details)}; {_said(details)}"
        case "held":
            by = f", since {details['problem']}" if details.get("problem") else " by an operator"
            return f"{details.get('action')}{by}"
        case "deleted":
            return f"by an operator, for {details.get('destination')}"


def _verdict(verdict: dict[str, str]) -> str:
    about = verdict.get("value") or verdict.get("reason")
    return f"{verdict.get('method')}={verdict.get('result')}" + (f" ({about})" if about else "")


def _sender(details: dict[str, Any]) -> str:
    """Return the reverse-path; it is unknown of messages that an older version took."""
    return f", sender {details['sender']}" if details.get("sender") else ""


def _client(details: dict[str, Any]) -> str:
    helo = f" ({details['helo']})" if details.get("helo") else ""
    return f"{details.get('peer')}{helo} over {details.get('tls') or 'plain text'}"


def _content(details: dict[str, Any]) -> str:
    from waypost.config.sizes import rounded_size

    size = f"{rounded_size(details['size'])}, " if details.get("size") is not None else ""
    message_id = f"{details['message_id']}, " if details.get("message_id") else ""
    return size + message_id


def _server(details: dict[str, Any]) -> str:
    if not details.get("host") and not details.get("address"):
        return ""
    address = f" [{details['address']}]" if details.get("address") else ""
    source = f" from {details['source']}" if details.get("source") else ""
    connected = details.get("source") or details.get("tls") or details.get("reply")
    over = f" over {details.get('tls') or 'plain text'}" if connected else ""
    return f"{details.get('host') or ''}{address}{source}{over}: ".lstrip()


def _said(details: dict[str, Any]) -> str:
    return str(details.get("reply") or details.get("problem") or details.get("status") or "")


def _note(details: dict[str, Any]) -> str:
    return f"; {details['note']}" if details.get("note") else ""


def _report(details: dict[str, Any]) -> str:
    return f" by report {details['dsn']}" if details.get("dsn") else ", and nobody is told"
