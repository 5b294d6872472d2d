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
    from waypost.journal import Event
    from waypost.message.trace import TraceId
    from waypost.storage import Bus, QueueEntry, Storage

_HANGING = 8  # columns before the further lines of an event


@dataclass(slots=True)
class MessageWay:
    """What is known of one message."""

    trace: TraceId
    events: list[Event]
    waiting: list[QueueEntry]
    reports: list[MessageWay] = field(default_factory=list)


@click.command()
@click.argument("message", metavar="ID|MESSAGE-ID")
@config_option
@json_option
def trace(settings: Settings, message: str, as_json: bool) -> None:
    """Show the whole way of one message: each station with its time and peer, and the next step.

    ID is the 13 characters that the log, the queue and the server's answer name; MESSAGE-ID is a header field.
    """
    from waypost.cli.event_words import words  # noqa: F401  used when the disk may be closed, as is the next
    from waypost.message.trace import format_trace_id, parse_trace_id  # noqa: F401

    if not message.strip():
        raise click.UsageError("The message is empty: name a trace id or a Message-ID.")

    async def work(storage: Storage, bus: Bus) -> list[MessageWay]:
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


async def _follow(storage: Storage, trace: TraceId, seen: frozenset[TraceId] = frozenset()) -> MessageWay:
    """Read a message's way, and those of the reports about it."""
    from waypost.journal import reports_of
    from waypost.storage import Filter

    way = MessageWay(
        trace,
        await storage.journal.of(trace),
        [entry async for entry in storage.queue.entries(Filter(trace=trace), now=now())],
    )
    for report in reports_of(way.events):
        if report not in seen:
            way.reports.append(await _follow(storage, report, seen | {trace}))
    return way


def _json_of(way: MessageWay) -> dict[str, Any]:
    from waypost.journal import fields
    from waypost.message.trace import format_trace_id

    return {
        "trace": format_trace_id(way.trace),
        "events": [
            {"time": iso_time(event.time), "station": str(event.station), "details": fields(event)}
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


def _print(way: MessageWay, indent: str = "") -> None:
    from waypost.cli.event_words import words
    from waypost.message.trace import format_trace_id

    echo(f"{indent}message {format_trace_id(way.trace)}")
    for event in way.events:
        time = f"{local_time(event.time)}.{event.time // 1000 % 1000:03}"
        line = f"{indent}  {time}  {event.station:<10} {words(event.details)}".rstrip()
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
    source = f" from {entry.source}" if entry.source else ""
    return f"for {entry.destination}{source} (entry {entry.id}): {then}{tried}{error}"
