"""A queue entry and the queue's figures, for tables and for JSON."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from waypost.cli.terminal import printable
from waypost.cli.times import iso_time, local_time, span_text
from waypost.counting import counted

if TYPE_CHECKING:
    from waypost.cli.queue.way_out import WayOut
    from waypost.message.envelope import Recipient
    from waypost.message.trace import Micros
    from waypost.storage import QueueEntry, QueueStats

COLUMNS = ("entry", "trace", "age", "next", "sender", "destination", "recipients", "attempts", "last error")
_WIDEST_ERROR = 100
_RECIPIENTS = 2


def row_of(entry: QueueEntry, now: Micros) -> tuple[object, ...]:
    """Return the cells under `COLUMNS`."""
    from waypost.message.trace import format_trace_id
    from waypost.storage.queue import reverse_path_text

    recipients = [str(recipient.address) for recipient in entry.recipients]
    more = f" and {len(recipients) - _RECIPIENTS} more" if len(recipients) > _RECIPIENTS else ""
    error = entry.last_error or ""
    return (
        entry.id,
        format_trace_id(entry.trace),
        span_text(now - entry.queued_at),
        next_text(entry, now),
        reverse_path_text(entry.envelope.reverse_path) if entry.damage is None else "?",
        entry.destination,
        ", ".join(recipients[:_RECIPIENTS]) + more,
        entry.attempts,
        error if len(error) <= _WIDEST_ERROR else error[: _WIDEST_ERROR - 1] + "…",
    )


def paragraph_of(entry: QueueEntry, now: Micros) -> list[str]:
    """Return the contents of a row as lines for a narrow terminal."""
    number, trace, age, when, sender, destination, recipients, attempts, error = map(str, row_of(entry, now))
    tried = counted(int(attempts), "attempt")
    due = "next attempt now" if when == "now" else "held" if when == "held" else f"next attempt {when}"
    return [
        f"entry {number}  {trace}  {age} old, {due}, {tried}",
        f"{sender} to {recipients}, by {destination}",
        *([error] if error else []),
    ]


def next_text(entry: QueueEntry, now: Micros) -> str:
    """Return when an entry is tried next: `now`, `in 5m00s` or `held`."""
    if entry.state == "held":
        return "held"
    return "now" if entry.next_attempt <= now else f"in {span_text(entry.next_attempt - now)}"


def lines_of(entry: QueueEntry, now: Micros, way: WayOut) -> list[tuple[str, str]]:
    """Return everything about an entry, as names and values that are safe on a terminal."""
    from waypost.cli.frame import time_text
    from waypost.config.sizes import rounded_size
    from waypost.message.trace import format_trace_id
    from waypost.storage.queue import reverse_path_text

    envelope = entry.envelope
    held = "held; `waypost queue release` lets it go" if entry.state == "held" else "ready"
    last = "never" if entry.last_attempt is None else local_time(entry.last_attempt)
    lines = [
        ("entry", str(entry.id)),
        ("message", format_trace_id(entry.trace)),
        ("state", held),
        ("damage", entry.damage or ""),
        ("sender", reverse_path_text(envelope.reverse_path) if entry.damage is None else ""),
        ("account", entry.account or ""),
        ("destination", entry.destination),
        *(("recipient", _recipient_text(recipient)) for recipient in entry.recipients),
        ("source", way.source_text(entry)),
        ("receiver", way.receiver or ""),
        *(("pace", text) for text in way.pace_texts(now)),
        ("size", rounded_size(entry.size)),
        ("priority", str(entry.priority) if entry.priority else ""),
        ("queued", f"{local_time(entry.queued_at)}, {span_text(now - entry.queued_at)} ago"),
        ("attempts", f"{entry.attempts}, the last one: {last}"),
        ("last error", entry.last_error or ""),
        ("next attempt", f"{local_time(entry.next_attempt)}, {next_text(entry, now)}"),
        ("waited", f"{span_text(entry.waited)} count for its expiry"),
        ("delay", "the sender was told of it" if entry.delay_notified else ""),
        ("returns", f"RET={envelope.ret}" if envelope.ret else ""),
        ("envelope id", envelope.envid or ""),
        ("held back until", time_text(envelope.hold_until) if envelope.hold_until else ""),
        ("deliver by", time_text(envelope.deliver_by.deadline) if envelope.deliver_by else ""),
    ]
    return [(name, printable(value)) for name, value in lines if value]


def _recipient_text(recipient: Recipient) -> str:
    notify = "" if recipient.notify is None else f"  NOTIFY={_notify_text(recipient)}"
    original = f"  ORCPT={recipient.original.kind};{recipient.original.address}" if recipient.original else ""
    return f"{recipient.address}{notify}{original}"


def _notify_text(recipient: Recipient) -> str | None:
    if recipient.notify is None:
        return None
    return ",".join(str(flag.name) for flag in recipient.notify) or "NEVER"


def json_of(entry: QueueEntry) -> dict[str, Any]:
    """Return an entry for JSON; times are ISO 8601 in UTC, `waited` is seconds. `source` is null before the first
    attempt, and where the system chooses it."""
    from waypost.message.trace import format_trace_id
    from waypost.storage.queue import reverse_path_text

    return {
        "id": entry.id,
        "trace": format_trace_id(entry.trace),
        "destination": entry.destination,
        "state": entry.state.value,
        "damage": entry.damage,
        "sender": reverse_path_text(entry.envelope.reverse_path) if entry.damage is None else None,
        "account": entry.account,
        "source": entry.source,
        "recipients": [
            {"address": str(recipient.address), "notify": _notify_text(recipient)} for recipient in entry.recipients
        ],
        "size": entry.size,
        "priority": entry.priority,
        "queued": iso_time(entry.queued_at),
        "next_attempt": iso_time(entry.next_attempt),
        "last_attempt": None if entry.last_attempt is None else iso_time(entry.last_attempt),
        "attempts": entry.attempts,
        "waited": entry.waited // 1_000_000,
        "delay_notified": entry.delay_notified,
        "last_error": entry.last_error,
    }


def json_of_stats(stats: QueueStats) -> dict[str, Any]:
    """Return the queue's figures for JSON."""
    return {
        "entries": stats.entries,
        "held": stats.held,
        "due": stats.due,
        "destinations": stats.destinations,
        "oldest": None if stats.oldest is None else iso_time(stats.oldest),
        "largest": [
            {
                "destination": each.destination,
                "entries": each.entries,
                "held": each.held,
                "oldest": iso_time(each.oldest),
                "next_attempt": None if each.next_attempt is None else iso_time(each.next_attempt),
                "last_error": each.last_error,
            }
            for each in stats.largest
        ],
    }
