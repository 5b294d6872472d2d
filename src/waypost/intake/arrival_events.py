"""What the journal tells of a message that was accepted: how it came, what checks found, and where it goes."""

from collections.abc import Sequence
from typing import Any

from waypost.delivery.plan import Plan
from waypost.intake.transaction import Admitted, Transaction
from waypost.intake.verdict import Verdict
from waypost.message.trace import Micros, TraceId
from waypost.storage import Event, Station
from waypost.storage.queue import reverse_path_text


def arrival_events(
    transaction: Transaction,
    admitted: Sequence[Admitted],
    message_id: str | None,
    plan: Plan,
    trace: TraceId,
    now: Micros,
) -> list[Event]:
    """Return the events of an acceptance, for the recipients that the message is taken for."""
    client, content = transaction.client, transaction.content
    details: dict[str, Any] = {"account": client.account.address} if client.account else {}
    details |= {
        "peer": client.peer.address,
        "helo": client.helo,
        "tls": client.tls,
        "sender": reverse_path_text(transaction.envelope.reverse_path),
        "recipients": [str(one.recipient.address) for one in admitted],
        "size": content.size if content is not None else 0,
        "message_id": message_id,
    }
    events = [Event(trace, now, Station.SUBMITTED if client.account else Station.RECEIVED, details)]
    if transaction.verdicts:
        verdicts = [_verdict(verdict) for verdict in transaction.verdicts]
        events.append(Event(trace, now, Station.CHECKED, {"verdicts": verdicts}))
    boxes: dict[str, list[str]] = {}
    for recipient, account in plan.delivered:
        boxes.setdefault(account.address, []).append(str(recipient.address))
    for mailbox, recipients in boxes.items():
        events.append(Event(trace, now, Station.DELIVERED, {"recipients": recipients, "mailbox": mailbox}))
    for entry in plan.entries:
        queued: dict[str, Any] = {
            "destination": entry.destination,
            "recipients": [str(recipient.address) for recipient in entry.recipients],
        }
        if entry.next_attempt > now:
            queued["not_before"] = entry.next_attempt
        events.append(Event(trace, now, Station.QUEUED, queued))
    return events


def _verdict(verdict: Verdict) -> dict[str, str]:
    """Return a verdict as the journal keeps it; what it does not have is left out."""
    told = {"method": verdict.method, "result": verdict.result, "value": verdict.value, "reason": verdict.reason}
    return {name: text for name, text in told.items() if text is not None}
