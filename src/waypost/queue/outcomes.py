"""From the result of an attempt to what one commit writes: the entry's change, its events, and its reports.

`judge` is a pure decision; `outcome_of` adds the reports, which need the message's octets. `plain_outcome` is the fast
path for nearly every attempt: the next hop accepted the message, and no report is sent.
"""

import re
from collections.abc import Iterable, Iterator, Sequence

import msgspec
from msgspec import UNSET
from msgspec.structs import replace

from waypost.journal import AttemptFailed, Delayed, Delivered, Event, Queued, Relayed, Returned
from waypost.message.dsn_fields import neutral
from waypost.message.reply import Reply, kept_reply
from waypost.message.report import Action, Concerned
from waypost.message.trace import Micros
from waypost.queue.carrier import AttemptResult, DestinationFailure, Fate, RecipientResult
from waypost.queue.reporter import Attempted, ReportedMessage, Reporter, asked_for
from waypost.queue.schedule import Again, Schedule, after_failure, age
from waypost.storage import Deferral, FailedRound, Lease, NewMessage, Outcome, QueueEntry

TIME_IS_UP = "5.4.7"
"""RFC 3463 X.4.7: delivery time expired."""

_RETURNED = "5.0.0"
_FOR_ITS_CONTENT = re.compile(r"5\.(2\.3|3\.4|6\.\d+)\Z")  # RFC 3463: too large, or of a kind that can't go there
_SUCCESSES = {
    Fate.DELIVERED: Action.DELIVERED,
    Fate.RELAYED: Action.RELAYED,
    Fate.EXPANDED: Action.EXPANDED,
}


class Judgement(msgspec.Struct, frozen=True):
    """The recipients that are done, that are given up, and that are tried again; `again` is None without the last."""

    done: tuple[RecipientResult, ...]
    failed: tuple[RecipientResult, ...]
    deferred: tuple[RecipientResult, ...]
    again: Again | None


def judge(result: AttemptResult, schedule: Schedule, luck: float) -> Judgement:
    """Decide what becomes of each recipient. One without a result is tried again, never lost."""
    results = [*result.results, *_unsaid(result)]
    done = tuple(one for one in results if one.fate not in (Fate.FAILED, Fate.DEFERRED))
    failed = tuple(one for one in results if one.fate is Fate.FAILED)
    deferred = tuple(one for one in results if one.fate is Fate.DEFERRED)
    if not deferred:
        return Judgement(done, failed, (), None)
    after = after_failure(result.entry, result.ended, schedule, luck)
    if isinstance(after, Again):
        return Judgement(done, failed, deferred, after)
    expired = tuple(replace(one, fate=Fate.FAILED, status=TIME_IS_UP) for one in deferred)
    return Judgement(done, failed + expired, (), None)


def _unsaid(result: AttemptResult) -> Iterator[RecipientResult]:
    said = [one.recipient for one in result.results]
    for recipient in result.entry.recipients:
        if recipient in said:
            said.remove(recipient)
        else:
            yield RecipientResult(recipient, Fate.DEFERRED, "4.3.0", problem="the attempt ended without a result")


def plain_outcome(result: AttemptResult, now: Micros) -> Outcome | None:  # hot: bench/relay
    """Return the same as `outcome_of` for an attempt that relayed the message for all recipients, without a requested
    report; None for every other attempt.
    """
    entry = result.entry
    results = result.results
    if result.deliveries or result.forwards or len(results) != len(entry.recipients):
        return None
    attempted = Attempted(dsn_passed_on=result.dsn_passed_on, deadline_passed_on=result.deadline_passed_on)
    for one, recipient in zip(results, entry.recipients, strict=True):
        relayed = one.fate is Fate.RELAYED and one.recipient == recipient
        if not relayed or asked_for(Action.RELAYED, recipient, entry.envelope, attempted):
            return None
    result = _without_control_characters(result)
    told = tuple(_successes(result, result.results, now))
    return Outcome(entry.id, entry.trace, entry.lease, relayed=True, events=told)


async def outcome_of(
    result: AttemptResult, *, schedule: Schedule, reporter: Reporter, luck: float, now: Micros
) -> Outcome:
    """Return what an attempt changes. Raises `StorageError` when a report can't be written."""
    result = _without_control_characters(result)
    judgement = judge(result, schedule, luck)
    reports = _Reports(reporter, result)
    try:
        again = judgement.again
        events = [*_attempts(result, judgement, now), *_successes(result, judgement.done, now)]
        returned = await reports.add(Action.FAILED, judgement.failed) or await reports.shorten(judgement.failed)
        events += _returned(result.entry, judgement.failed, returned, now)
        if again is not None and again.notice:
            told = await reports.add(Action.DELAYED, judgement.deferred, retry_until=again.retry_until)
            if told is not None:
                events += _delayed(result.entry, judgement.deferred, told, now)
        for fate, action in _SUCCESSES.items():
            await reports.add(action, [one for one in judgement.done if one.fate is fate])
    except BaseException:
        discard(reports.made)
        raise
    return Outcome(
        entry=result.entry.id,
        trace=result.entry.trace,
        lease=result.entry.lease,
        relayed=_only_relayed(result, judgement) and not reports.made,
        deferral=None if again is None else _deferral(judgement.deferred, again, result),
        events=tuple(events),
        reports=tuple(reports.made),
        deliveries=result.deliveries,
        forwards=result.forwards,
    )


def _only_relayed(result: AttemptResult, judgement: Judgement) -> bool:
    """True when the next hop accepted the message for all recipients, and nothing of it stays here."""
    rest = judgement.failed or judgement.deferred or result.deliveries or result.forwards
    return not rest and all(one.fate is Fate.RELAYED for one in judgement.done)


def bare_outcome(result: AttemptResult, schedule: Schedule) -> Outcome:
    """Return a minimal outcome for a result whose full outcome can't be made or written, because of a bug of ours.

    Delivered recipients are never tried again; the others are tried again later. It has no events and no reports.
    """
    results = [*result.results, *_unsaid(result)]
    rest = [one for one in results if one.fate in (Fate.FAILED, Fate.DEFERRED)]
    entry = result.entry
    later = Again(
        next_attempt=result.ended + schedule.longest_wait,
        waited=age(entry, result.ended, schedule),
        attempts=entry.attempts + 1,
        notice=False,
        delay_notified=entry.delay_notified,
        retry_until=result.ended,
    )
    return Outcome(
        entry=entry.id,
        trace=entry.trace,
        lease=entry.lease,
        deferral=_bare_deferral(rest, later, result) if rest else None,
        deliveries=result.deliveries,
        forwards=result.forwards,
    )


def failed_round(
    failure: DestinationFailure,
    lease: Lease,
    schedule: Schedule,
    luck: float,
    *,
    look: Micros | None,
    told: bool,
) -> FailedRound:
    """Return the temporary failure of a destination, as storage counts it for all waiting entries. `told`: the journal
    already has the failure of the tried entry.
    """
    result = _without_control_characters(failure.attempt)

    def events(next_attempt: Micros | None) -> list[Event]:
        return [_failed_attempt(result, same, next_attempt, result.ended) for same in _alike(result.results)]

    return FailedRound(
        lease=lease,
        at=result.ended,
        error=neutral(failure.words),
        longest_wait=schedule.longest_wait,
        waits=tuple(schedule.wait(attempt, luck) for attempt in range(1, len(schedule.retry) + 1)),
        look=look,
        told=(lambda _: ()) if told else events,
    )


def put_off(result: AttemptResult, problem: str) -> AttemptResult:
    """Return the rest of a result that storage refuses: relayed recipients are done, the others are tried again.

    It delivers nothing here and forwards nothing.
    """
    results = tuple(
        one if one.fate is Fate.RELAYED else RecipientResult(one.recipient, Fate.DEFERRED, "4.3.0", problem=problem)
        for one in result.results
    )
    return replace(result, results=results, deliveries=(), forwards=())


def relayed_events(result: AttemptResult, now: Micros) -> Iterator[Event]:
    """Yield the journal's events for the recipients that the next hop accepted."""
    result = _without_control_characters(result)
    return _successes(result, [one for one in result.results if one.fate is Fate.RELAYED], now)


async def return_entry(entry: QueueEntry, *, reporter: Reporter, words: str, now: Micros) -> Outcome:
    """Return the outcome of an operator's decision to give an entry up; `words` tell the sender why.

    Raises `StorageError`. The caller settles it, then discards the bodies of its reports.
    """
    problem = neutral(words)
    failed = [RecipientResult(one, Fate.FAILED, _RETURNED, problem=problem) for one in entry.recipients]
    report = await reporter.report(
        Action.FAILED, ReportedMessage.entry(entry), [_concerned(one) for one in failed], Attempted()
    )
    events = _returned(entry, failed, report, now)
    return Outcome(entry.id, entry.trace, None, events=tuple(events), reports=(report,) if report else ())


def discard(reports: Iterable[NewMessage]) -> None:
    """Forget the octets of reports that storage has taken, or will never take."""
    for report in reports:
        report.body.discard()


class _Reports:
    """Collects the reports of one attempt, one for each action."""

    def __init__(self, reporter: Reporter, result: AttemptResult) -> None:
        self._reporter = reporter
        self._result = result
        self.made: list[NewMessage] = []

    async def add(
        self, action: Action, results: Sequence[RecipientResult], *, retry_until: Micros | None = None
    ) -> NewMessage | None:
        """Make the report on these recipients, if it was requested."""
        if not results:
            return None
        result = self._result
        attempted = Attempted(
            remote=_remote(result) if any(one.reply for one in results) else None,
            last_attempt=result.ended,
            retry_until=retry_until,
            dsn_passed_on=result.dsn_passed_on,
            deadline_passed_on=result.deadline_passed_on,
        )
        concerned = [_concerned(one) for one in results]
        report = await self._reporter.report(action, ReportedMessage.entry(result.entry), concerned, attempted)
        if report is not None:
            self.made.append(report)
        return report

    async def shorten(self, failed: Sequence[RecipientResult]) -> NewMessage | None:
        """If our own report failed because of the message that it returns, make one that returns only the header."""
        if not any(_FOR_ITS_CONTENT.match(one.status) for one in failed):
            return None
        report = await self._reporter.shortened(self._result.entry, [one.recipient.address for one in failed])
        if report is not None:
            self.made.append(report)
        return report


def _without_control_characters(result: AttemptResult) -> AttemptResult:
    """Return a result whose texts of peers are one printable line of bounded length, for rows, logs and reports."""
    results = tuple(map(_as_printable, result.results))
    host = None if result.host is None else neutral(result.host)
    if results == result.results and host == result.host:
        return result
    return replace(result, results=results, host=host)


def _as_printable(one: RecipientResult) -> RecipientResult:
    reply = None if one.reply is None else kept_reply(one.reply)
    problem = None if one.problem is None else neutral(one.problem)
    if reply == one.reply and problem == one.problem:
        return one
    return replace(one, reply=reply, problem=problem)


def _concerned(result: RecipientResult) -> Concerned:
    return Concerned(result.recipient, result.status, result.reply, result.problem)


def _remote(result: AttemptResult) -> str | None:
    if result.host is not None or result.address is None:
        return result.host
    address = result.address.rpartition(":")[0].strip("[]")
    return f"[IPv6:{address}]" if ":" in address else f"[{address}]"  # an address literal (RFC 5321 4.1.3)


def _deferral(deferred: Sequence[RecipientResult], again: Again, result: AttemptResult) -> Deferral:
    first = deferred[0]
    return Deferral(
        remaining=tuple(one.recipient for one in deferred),
        next_attempt=again.next_attempt,
        waited=again.waited,
        attempts=again.attempts,
        last_attempt=result.ended,
        last_error=first.words,
        delay_notified=again.delay_notified,
        source=result.entry.source if result.keeps is UNSET else result.keeps,
    )


def _bare_deferral(deferred: Sequence[RecipientResult], again: Again, result: AttemptResult) -> Deferral:
    """Return a deferral without events. So the journal tells no move, and a moved message keeps its former source."""
    kept = replace(result, keeps=result.entry.source) if result.moved is not None else result
    return replace(_deferral(deferred, again, kept), last_error="a fault of this server")


def _attempts(result: AttemptResult, judgement: Judgement, now: Micros) -> Iterator[Event]:
    """One event for each group of recipients that failed alike."""
    again = judgement.again
    for same in _alike(judgement.failed):
        yield _failed_attempt(result, same, None, now)
    for same in _alike(judgement.deferred):
        yield _failed_attempt(result, same, again.next_attempt if again else None, now)


def _failed_attempt(
    result: AttemptResult, same: Sequence[RecipientResult], next_attempt: Micros | None, now: Micros
) -> Event:
    first = same[0]
    failed = AttemptFailed(
        destination=result.entry.destination,
        host=result.host,
        address=result.address,
        source=result.source,
        tls=result.tls,
        note=result.note,
        moved=result.moved,
        recipients=_addresses(same),
        reply=first.reply,
        problem=first.problem,
        status=first.status,
        next_attempt=next_attempt,
    )
    return Event(result.entry.trace, now, failed)


def _successes(result: AttemptResult, done: Sequence[RecipientResult], now: Micros) -> Iterator[Event]:
    trace = result.entry.trace
    for same in _alike(one for one in done if one.fate is Fate.RELAYED):
        relayed = Relayed(
            destination=result.entry.destination,
            host=result.host,
            address=result.address,
            source=result.source,
            tls=result.tls,
            note=result.note,
            moved=result.moved,
            recipients=_addresses(same),
            reply=same[0].reply,
        )
        yield Event(trace, now, relayed)
    mailboxes: dict[str | None, list[RecipientResult]] = {}
    for one in done:
        names: tuple[str | None, ...] = one.mailboxes or ((None,) if one.fate is Fate.DELIVERED else ())
        for name in names:
            mailboxes.setdefault(name, []).append(one)
    for name, results in mailboxes.items():
        yield Event(trace, now, Delivered(recipients=_addresses(results), mailbox=name))
    for forward in result.forwards:
        recipients = tuple(str(recipient.address) for recipient in forward.recipients)
        yield Event(trace, now, Queued(destination=forward.destination, recipients=recipients))


def _returned(
    entry: QueueEntry, failed: Sequence[RecipientResult], report: NewMessage | None, now: Micros
) -> list[Event]:
    dsn = report.trace if report else None
    return [
        Event(
            entry.trace,
            now,
            Returned(
                recipients=_addresses(same),
                reply=same[0].reply,
                problem=same[0].problem,
                status=same[0].status,
                dsn=dsn,
            ),
        )
        for same in _alike(failed)
    ]


def _delayed(
    entry: QueueEntry, deferred: Sequence[RecipientResult], report: NewMessage, now: Micros
) -> Iterator[Event]:
    for same in _alike(deferred):
        delayed = Delayed(recipients=_addresses(same), reply=same[0].reply, problem=same[0].problem, dsn=report.trace)
        yield Event(entry.trace, now, delayed)


def _alike(results: Iterable[RecipientResult]) -> list[list[RecipientResult]]:
    groups: dict[tuple[str, Reply | None, str | None], list[RecipientResult]] = {}
    for one in results:
        groups.setdefault((one.status, one.reply, one.problem), []).append(one)
    return list(groups.values())


def _addresses(results: Sequence[RecipientResult]) -> tuple[str, ...]:
    return tuple([str(one.recipient.address) for one in results])
