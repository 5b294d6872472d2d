"""What an attempt came to, in the words of the queue: replies of peers and trouble of our own become results.

A peer's reply is kept as it was said, as a value; where no peer spoke, a problem in plain words stands in its place.
Every reply that a message or a destination meets passes `said` below: whoever classifies replies does it there.
"""

import re
from collections.abc import Sequence

from msgspec.structs import replace

from waypost.message.reply import kept_reply
from waypost.message.trace import Micros
from waypost.protocol.reply import Reply
from waypost.protocol.smtp.client_events import RecipientOutcome
from waypost.queue.carrier import AttemptResult, DestinationFailure, Fate, RecipientResult
from waypost.storage import QueueEntry
from waypost.transport.connection import OutboundConnection
from waypost.transport.connector import NobodyAnswers
from waypost.transport.next_hops import NoNextHop

_TLS_WANTED = frozenset({"7.10", "7.11"})  # of the registry (RFC 5248): encryption needed, or for this login
_NAMES_TLS = re.compile(
    r"\b(?:start ?)?(?:tls|ssl)\b|encrypt|(?:clear|plain)[ -]?text|\bsecure (?:connection|channel|session|transport)",
    re.IGNORECASE,
)

_TOO_MANY = frozenset({(452, None), (452, "4.5.3"), (552, None), (552, "5.5.3")})


def too_many(outcome: RecipientOutcome) -> bool:
    """True when a recipient may have been refused only for coming after too many others (RFC 5321 4.5.3.1.10)."""
    reply = outcome.reply
    return not outcome.local and (reply.code, reply.enhanced) in _TOO_MANY


def insists_on_tls(outcome: RecipientOutcome) -> bool:
    """True when a server refuses because the session has no TLS (RFC 3207 section 4), for ever or for the moment."""
    reply = outcome.reply
    if outcome.local or reply.positive:
        return False
    if reply.code == 530 or _NAMES_TLS.search(reply.text) is not None:
        return True
    return reply.enhanced is not None and reply.enhanced[2:] in _TLS_WANTED


def result_of(outcome: RecipientOutcome, *, declined_tls: bool = False) -> RecipientResult:  # hot: bench/relay
    """Return the result of one recipient. `declined_tls`: the session does without the TLS that the server offers."""
    reply = outcome.reply
    if reply.positive:
        fate = Fate.RELAYED
    elif reply.temporary or (reply.code == 552 and reply.enhanced == "5.5.3"):
        fate = Fate.DEFERRED  # a 552 for too many recipients is no permanent failure either
    elif declined_tls and insists_on_tls(outcome):
        fate = Fate.DEFERRED  # with TLS it is another request (RFC 5321 4.2.1)
    else:
        fate = Fate.FAILED
    if outcome.local:
        return RecipientResult(outcome.recipient, fate, _status(reply, fate), problem=reply.text)
    return RecipientResult(outcome.recipient, fate, _status(reply, fate), reply=said(reply))


def _status(reply: Reply, fate: Fate) -> str:
    if reply.enhanced is not None:
        return "4" + reply.enhanced[1:] if fate is Fate.DEFERRED else reply.enhanced
    return {Fate.RELAYED: "2.0.0", Fate.DEFERRED: "4.0.0"}.get(fate, "5.0.0")


def said(reply: Reply) -> Reply:  # hot: bench/relay
    """Return a peer's reply as results hold it: printable, and of bounded length."""
    return kept_reply(reply)


def attempt_result(
    entry: QueueEntry,
    connection: OutboundConnection,
    results: Sequence[RecipientResult],
    *,
    started: Micros,
    ended: Micros,
    dsn: bool = False,
) -> AttemptResult:  # hot: bench/relay
    """Return the result of an entry that went over a connection. `dsn`: the next hop got the DSN parameters."""
    deliver_by = entry.envelope.deliver_by
    return AttemptResult(
        entry=entry,
        started=started,
        ended=ended,
        results=tuple(results),
        host=connection.server.name,
        address=connection.endpoint,
        source=connection.source,
        tls=str(connection.tls) if connection.tls is not None else None,
        dsn_passed_on=dsn,
        deadline_passed_on=deliver_by is not None and connection.capabilities.offers("DELIVERBY"),
        note=connection.server.note,
    )


def deferred(entry: QueueEntry, status: str, problem: str) -> tuple[RecipientResult, ...]:
    """Return the results of an entry that trouble of our own held up."""
    return tuple(RecipientResult(recipient, Fate.DEFERRED, status, problem=problem) for recipient in entry.recipients)


def stopped(entry: QueueEntry, source: str | None, now: Micros) -> AttemptResult:
    """Return the result of an entry whose source is left alone at its destination for a while, by the regulator."""
    words = f"{source} has been refused here lately, and is left alone for a while"
    return AttemptResult(entry, now, now, deferred(entry, "4.4.0", words))


def nobody_answered(entry: QueueEntry, failure: NobodyAnswers, *, started: Micros, ended: Micros) -> DestinationFailure:
    """Return the failure of a destination that has no server which takes a connection; `entry` was to go over it."""
    server = failure.server
    return _destination_failure(
        AttemptResult(
            entry=entry,
            started=started,
            ended=ended,
            results=(),
            host=server.name if server is not None else None,
            address=server.endpoint if server is not None else None,
            source=failure.source,
            tls=str(failure.tls) if failure.tls is not None else None,
            note=server.note if server is not None else None,
        ),
        failure.status,
        reply=said(failure.reply) if failure.reply is not None else None,
        problem=str(failure) if failure.reply is None else None,
        permanent=failure.permanent,
    )


def no_way(entry: QueueEntry, failure: NoNextHop, *, started: Micros, ended: Micros) -> DestinationFailure:
    """Return the failure of a destination that has no way; `entry` was to go there."""
    attempt = AttemptResult(entry=entry, started=started, ended=ended, results=())
    return _destination_failure(attempt, failure.status, problem=str(failure), permanent=failure.permanent)


def pushed_back(result: AttemptResult) -> DestinationFailure | None:
    """Return the failure of a destination whose server deferred everybody and ended the connection.

    None where somebody was not deferred, or where each reply is about one recipient: it says nothing of others.
    """
    if any(one.fate is not Fate.DEFERRED for one in result.results):
        return None
    why = next((one for one in result.results if one.reply is None or one.reply.code == 421), None)
    return None if why is None else DestinationFailure(result, why.status, why.reply, why.problem)


def of_one_source(failure: DestinationFailure) -> DestinationFailure:
    """Return a failure that holds for one of our sources only: that a host takes no mail (521) is then about us."""
    if not failure.permanent:
        return failure
    status = "4" + failure.status[1:]
    results = tuple(replace(one, fate=Fate.DEFERRED, status=status) for one in failure.attempt.results)
    attempt = replace(failure.attempt, results=results)
    return replace(failure, attempt=attempt, status=status, permanent=False)


def _destination_failure(
    attempt: AttemptResult, status: str, *, reply: Reply | None = None, problem: str | None, permanent: bool
) -> DestinationFailure:
    fate = Fate.FAILED if permanent else Fate.DEFERRED
    results = tuple(
        RecipientResult(recipient, fate, status, reply=reply, problem=problem) for recipient in attempt.entry.recipients
    )
    return DestinationFailure(replace(attempt, results=results), status, reply, problem, permanent)
