"""The journal's events of an accepted message: how it came, what checks found, and where it goes."""

from collections.abc import Sequence

from waypost.delivery.plan import DeliveryPlan
from waypost.intake.transaction import Admitted, Transaction
from waypost.journal import Checked, Delivered, Event, Queued, Received, Submitted
from waypost.message.trace import Micros, TraceId
from waypost.storage.queue import reverse_path_text


def arrival_events(
    transaction: Transaction,
    admitted: Sequence[Admitted],
    message_id: str | None,
    plan: DeliveryPlan,
    trace: TraceId,
    now: Micros,
) -> list[Event]:  # hot: bench/accept
    """Return the events of an acceptance, for the recipients for which the message was accepted."""
    events = [Event(trace, now, _arrived(transaction, admitted, message_id))]
    if transaction.verdicts:
        events.append(Event(trace, now, Checked(verdicts=tuple(transaction.verdicts))))
    boxes: dict[str, list[str]] = {}
    for recipient, account in plan.delivered:
        boxes.setdefault(account.address, []).append(str(recipient.address))
    for mailbox, recipients in boxes.items():
        events.append(Event(trace, now, Delivered(recipients=tuple(recipients), mailbox=mailbox)))
    for entry in plan.entries:
        queued = Queued(
            destination=entry.destination,
            recipients=tuple([str(recipient.address) for recipient in entry.recipients]),
            not_before=entry.next_attempt if entry.next_attempt > now else None,
        )
        events.append(Event(trace, now, queued))
    return events


def _arrived(transaction: Transaction, admitted: Sequence[Admitted], message_id: str | None) -> Submitted | Received:
    client, content = transaction.client, transaction.content
    recipients = tuple([str(one.recipient.address) for one in admitted])
    sender = reverse_path_text(transaction.envelope.reverse_path)
    size = content.size if content is not None else 0
    if client.account is None:
        return Received(
            peer=client.peer.address,
            helo=client.helo,
            tls=client.tls,
            sender=sender,
            recipients=recipients,
            size=size,
            message_id=message_id,
        )
    return Submitted(
        account=client.account.address,
        peer=client.peer.address,
        helo=client.helo,
        tls=client.tls,
        sender=sender,
        recipients=recipients,
        size=size,
        message_id=message_id,
    )
