"""Events of the journal in words, as `waypost trace` prints them after time and station."""

import json
from typing import assert_never

from waypost.cli.times import local_time
from waypost.config.sizes import rounded_size
from waypost.journal import (
    AttemptFailed,
    Checked,
    Delayed,
    Deleted,
    Delivered,
    Details,
    Generated,
    Held,
    Queued,
    Received,
    Relayed,
    Returned,
    Submitted,
    Unknown,
)
from waypost.message.trace import TraceId, format_trace_id
from waypost.message.verdict import Verdict

Addressed = Submitted | Received | Generated | Queued | AttemptFailed | Relayed | Delivered | Delayed | Returned
"""Events about recipients."""


def words(details: Details) -> str:
    """Return an event in words, without its time and station."""
    match details:
        case Submitted():
            sender = "" if details.sender == details.account else _sender(details)
            return f"by {details.account}{sender} from {_client(details)}; {_content(details)}for {_to(details)}"
        case Received():
            return f"from {_client(details)}{_sender(details)}; {_content(details)}for {_to(details)}"
        case Checked():
            return "; ".join(map(_verdict, details.verdicts))
        case Generated():
            return f"a report ({details.kind}){_about(details.about)} for {_to(details)}"
        case Queued():
            later = details.not_before
            held = f"; held back until {local_time(later)}" if later else ""
            return f"for {details.destination}: {_to(details)}{held}"
        case AttemptFailed():
            then = f"; next attempt {local_time(details.next_attempt)}" if details.next_attempt else ""
            return f"{_to(details)}: {_server(details)}{_said(details)}{_note(details)}{then}"
        case Relayed():
            return f"{_to(details)}: {_server(details)}{details.reply or ''}{_note(details)}"
        case Delivered():
            return f"{_to(details)} in the mailbox of {details.mailbox}" if details.mailbox else _to(details)
        case Delayed():
            return f"{_to(details)}: the sender is told that it waits{_report(details.dsn)}; {_said(details)}"
        case Returned():
            return f"{_to(details)}: given up{_report(details.dsn)}; {_said(details)}"
        case Held():
            by = f", since {details.problem}" if details.problem else " by an operator"
            return f"{details.action.value}{by}"
        case Deleted():
            return f"by an operator, for {details.destination}"
        case Unknown():
            return "; ".join(f"{name}: {_plain(value)}" for name, value in details.values.items())
        case _:
            assert_never(details)


def _verdict(verdict: Verdict) -> str:
    about = verdict.value or verdict.reason
    return f"{verdict.method}={verdict.result}" + (f" ({about})" if about else "")


def _plain(value: object) -> str:
    """Return a value that this version knows nothing of."""
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _to(details: Addressed) -> str:
    return ", ".join(details.recipients)


def _sender(details: Submitted | Received) -> str:
    """Return the reverse-path; it is unknown of messages that an older version took."""
    return f", sender {details.sender}" if details.sender else ""


def _client(details: Submitted | Received) -> str:
    helo = f" ({details.helo})" if details.helo else ""
    return f"{details.peer}{helo} over {details.tls or 'plain text'}"


def _content(details: Submitted | Received) -> str:
    size = f"{rounded_size(details.size)}, " if details.size is not None else ""
    message_id = f"{details.message_id}, " if details.message_id else ""
    return size + message_id


def _server(details: AttemptFailed | Relayed) -> str:
    if not details.host and not details.address:
        return ""
    address = f" [{details.address}]" if details.address else ""
    source = f" from {details.source}" if details.source else ""
    connected = details.source or details.tls or details.reply
    over = f" over {details.tls or 'plain text'}" if connected else ""
    return f"{details.host or ''}{address}{source}{over}: ".lstrip()


def _said(details: AttemptFailed | Delayed | Returned) -> str:
    status = "" if isinstance(details, Delayed) else details.status
    return str(details.reply or details.problem or status or "")


def _note(details: AttemptFailed | Relayed) -> str:
    note = f"; {details.note}" if details.note else ""
    return note + (f"; from another source, since {details.moved}" if details.moved else "")


def _about(about: TraceId | None) -> str:
    return f" about {format_trace_id(about)}" if about else ""


def _report(dsn: TraceId | None) -> str:
    return f" by report {format_trace_id(dsn)}" if dsn else ", and nobody is told"
