"""Writing what an attempt changed: the entry, its events, the reports it caused, and the mailboxes it reached."""

from collections.abc import Sequence

from waypost.message.trace import TraceId
from waypost.storage import notices
from waypost.storage.bus import Notice
from waypost.storage.queue import Lease, Outcome
from waypost.storage.sqlite.commit.batch import Batch
from waypost.storage.sqlite.commit.operation import Operation
from waypost.storage.sqlite.rows import recipients_text


def settlings(outcomes: Sequence[Outcome]) -> list[Operation]:  # hot: bench/relay
    """Return the operations that write outcomes: one for all that only change their entry, and one for each other.

    So an outcome that can't be written, because a mailbox is gone, spoils none but itself.
    """
    alone = [outcome for outcome in outcomes if outcome.reports or outcome.deliveries or outcome.forwards]
    plain = [outcome for outcome in outcomes if not (outcome.reports or outcome.deliveries or outcome.forwards)]
    operations = [settling(outcome) for outcome in alone]
    if plain:
        operations.append(Operation(lambda batch: _settle_all(batch, plain), patient=True))
    return operations


def _settle_all(batch: Batch, outcomes: Sequence[Outcome]) -> list[Lease]:
    lost: list[Lease] = []
    for outcome in outcomes:
        lost += settle_rows(batch, outcome) or ()
    return lost


def settling(outcome: Outcome) -> Operation:
    """Return the operation that writes an outcome; its result is that of `settle_rows`."""

    def published(late: list[Lease] | None) -> Sequence[Notice]:
        return notices.of_outcome(outcome) if late is None else ()

    return Operation(lambda batch: settle_rows(batch, outcome), published, messages=outcome.reports)


def settle_rows(batch: Batch, outcome: Outcome) -> list[Lease] | None:
    """Add the rows: first what keeps the message alive, then what lets it go.

    Returns None, or for an outcome that came too late its lease, if that was lost.
    """
    late = _too_late(batch, outcome)
    if late is not None:
        batch.events(outcome.late_events)
        return late
    for report in outcome.reports:
        batch.message(report)
    if outcome.deliveries or outcome.forwards:
        _pass_on(batch, outcome)
    deferral = outcome.deferral
    if deferral is None:
        batch.delete_entry(outcome.entry)
    else:
        batch.update_entry(
            [
                outcome.entry,
                recipients_text(deferral.remaining),
                deferral.next_attempt,
                deferral.waited,
                deferral.attempts,
                deferral.last_attempt,
                deferral.last_error,
                int(deferral.delay_notified),
                deferral.source,
            ]
        )
    batch.events(outcome.events)
    return None


def _too_late(batch: Batch, outcome: Outcome) -> list[Lease] | None:
    """Not None when the entry was deleted or settled by somebody else while this attempt was on its way, or another
    owner attempts it now: nothing may be delivered or reported a second time, or against the operator's word."""
    if outcome.relayed:
        return None
    if outcome.lease is not None and not batch.holds(outcome.lease):
        return [outcome.lease]
    passes_on = outcome.reports or outcome.deliveries or outcome.forwards
    return [] if passes_on and not batch.has_entry(outcome.entry) else None


def _pass_on(batch: Batch, outcome: Outcome) -> None:
    size, received = _message_of(batch, outcome.trace)
    batch.deliveries(outcome.trace, outcome.deliveries, size, received)
    batch.entries(outcome.trace, outcome.forwards, received)
    batch.add_refs(outcome.trace, len(outcome.deliveries) + len(outcome.forwards))


def _message_of(batch: Batch, trace: TraceId) -> tuple[int, int]:
    """Return a message's size and time of arrival; it is there, since its entry is."""
    row = batch.connection.execute(
        "SELECT length + length(head), received_at FROM message WHERE id = ?", (trace,)
    ).fetchone()
    return int(row[0]), int(row[1])
