"""What an attempt came to, in the words of the queue: replies of peers and trouble of our own become results.

A peer's reply is kept as it was said; where no peer spoke, a problem in plain words stands in its place.
"""

import re
from collections.abc import Sequence

from waypost.message.trace import Micros
from waypost.protocol.reply import Reply
from waypost.protocol.smtp.client_events import RecipientOutcome
from waypost.queue.carrier import AttemptResult, Fate, RecipientResult
from waypost.storage import QueueEntry
from waypost.transport.connection import Connection
from waypost.transport.connector import NobodyAnswers
from waypost.transport.ways import NoWay

_MOST_WORDS = 2000  # characters of a reply that are kept, for each recipient

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
    return RecipientResult(outcome.recipient, fate, _status(reply, fate), reply=_words(reply))


def _status(reply: Reply, fate: Fate) -> str:
    if reply.enhanced is not None:
        return "4" + reply.enhanced[1:] if fate is Fate.DEFERRED else reply.enhanced
    return {Fate.RELAYED: "2.0.0", Fate.DEFERRED: "4.0.0"}.get(fate, "5.0.0")


def _words(reply: Reply) -> str:
    words = str(reply)
    return words if len(words) <= _MOST_WORDS else words[: _MOST_WORDS - 1] + "…"


def attempt_result(
    entry: QueueEntry,
    connection: Connection,
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


def nobody_answered(entry: QueueEntry, failure: NobodyAnswers, *, started: Micros, ended: Micros) -> AttemptResult:
    """Return the result of an entry whose destination has no server that takes a connection."""
    fate = Fate.FAILED if failure.permanent else Fate.DEFERRED
    reply = _words(failure.reply) if failure.reply is not None else None
    problem = None if reply is not None else str(failure)
    server = failure.server
    return AttemptResult(
        entry=entry,
        started=started,
        ended=ended,
        results=tuple(
            RecipientResult(recipient, fate, failure.status, reply=reply, problem=problem)
            for recipient in entry.recipients
        ),
        host=server.name if server is not None else None,
        address=server.endpoint if server is not None else None,
        source=failure.source,
        tls=str(failure.tls) if failure.tls is not None else None,
        whole_destination=True,
        note=server.note if server is not None else None,
    )


def no_way(entry: QueueEntry, failure: NoWay, *, started: Micros, ended: Micros) -> AttemptResult:
    """Return the result of an entry whose destination has no way."""
    fate = Fate.FAILED if failure.permanent else Fate.DEFERRED
    return AttemptResult(
        entry=entry,
        started=started,
        ended=ended,
        results=tuple(
            RecipientResult(recipient, fate, failure.status, problem=str(failure)) for recipient in entry.recipients
        ),
        whole_destination=True,
    )
