"""One entry over one connection: its content from the spool, its recipients in as few transactions as the server
allows (RFC 9422, RFC 5321 4.5.3.1.10), and a result for each of them."""

import logging
from collections.abc import AsyncIterator, Callable, Sequence

import msgspec

from waypost.message.envelope import Recipient
from waypost.message.trace import Micros, format_trace_id
from waypost.protocol.smtp.client_events import RecipientOutcome
from waypost.protocol.smtp.outgoing import ContentFacts, ContentScanner
from waypost.queue.carrier import AttemptResult, Fate, RecipientResult
from waypost.storage import QueueEntry, Spool, StorageError
from waypost.transport.broken_tls import BrokenTls
from waypost.transport.connection import OutboundConnection
from waypost.transport.regulator import Signal
from waypost.transport.results import attempt_result, insists_on_tls, result_of, too_many

log = logging.getLogger(__name__)

STREAM_ABOVE = 1_048_576  # octets; a larger message is never held whole
_PIECE = 262_144  # octets; large enough that the spool reads them in another thread
_RECIPIENTS = 100  # of one transaction: what every server takes (RFC 5321 4.5.3.1.8)
_MOST_RECIPIENTS = 1000  # however many a server would take

_NEXT_TIME = "the server takes no more recipients over one connection; the others have their turn next time"
UNREADABLE = "the message can't be read from our disk"


class OutgoingContent(msgspec.Struct, frozen=True):
    """A message as it goes out: whole, or by its facts with a way to read it."""

    data: bytes | ContentFacts
    pieces: Callable[[], AsyncIterator[bytes]]


class Sent(msgspec.Struct, frozen=True):
    """The result of an entry, and what it says of the destination (None: nothing)."""

    result: AttemptResult
    signal: Signal | None


class Sender:
    """Sends entries. A server that requires TLS is removed from `broken`. `stream_above` is for tests."""

    def __init__(
        self, *, spool: Spool, now: Callable[[], Micros], broken: BrokenTls, stream_above: int = STREAM_ABOVE
    ) -> None:
        self._broken = broken
        self._spool = spool
        self._now = now
        self._stream_above = stream_above

    async def send(self, connection: OutboundConnection, entry: QueueEntry) -> Sent | None:  # hot: bench/relay
        """Send an entry; every recipient has a result.

        None when a connection that had served before ended before this message's turn: another one may take it.
        """
        started = self._now()
        outcomes: list[RecipientOutcome] = []
        waiting = entry.recipients
        at_once = _at_once(connection)
        dsn = True
        served = connection.carried > 0
        trouble: list[RecipientResult] = []
        unreadable = False
        try:
            content = await self._load(entry)
            while waiting:
                if outcomes and _takes_no_more(connection):
                    trouble = [RecipientResult(one, Fate.DEFERRED, "4.5.3", problem=_NEXT_TIME) for one in waiting]
                    break
                ended = await connection.transact(entry.envelope, waiting[:at_once], content.data, content.pieces)
                if ended.untried and served and not outcomes:
                    return None
                dsn = dsn and ended.dsn
                settled, again = _divide(ended.outcomes)
                outcomes += settled
                waiting = again + waiting[at_once:]
                if again:
                    at_once = len(settled)
        except StorageError as error:
            fields = {"trace": format_trace_id(entry.trace), "entry": entry.id, "error": str(error)}
            log.error("a message that is to be relayed can't be read", extra={"fields": fields})
            trouble = [RecipientResult(one, Fate.DEFERRED, "4.3.0", problem=UNREADABLE) for one in waiting]
            unreadable = True
        declined_tls = connection.declined_tls
        results = [result_of(outcome, declined_tls=declined_tls) for outcome in outcomes]
        if declined_tls and any(map(insists_on_tls, outcomes)):
            self._broken.forget(connection.server)
            connection.retire()
        result = attempt_result(
            entry,
            connection,
            results + trouble,
            started=started,
            ended=self._now(),
            dsn=dsn and not unreadable,
        )
        return Sent(result, None if unreadable else _signal(results, connection))

    async def _load(self, entry: QueueEntry) -> OutgoingContent:
        """Read a message, or of a large one its facts. Raises `StorageError`, before anything is sent."""
        message = await self._spool.open(entry.trace, entry.hint)
        if message.size <= self._stream_above:
            pieces = [piece async for piece in message.chunks(self._stream_above)]
            return OutgoingContent(pieces[0] if len(pieces) == 1 else b"".join(pieces), message.chunks)
        scanner = ContentScanner()
        async for piece in message.chunks(_PIECE):
            scanner.feed(piece)
        return OutgoingContent(scanner.facts(), lambda: message.chunks(_PIECE))


def _takes_no_more(connection: OutboundConnection) -> bool:
    """True when the server takes no further transaction over this connection (RFC 9422 4.1)."""
    most = connection.capabilities.mail_max
    return most is not None and connection.carried >= most and not connection.over


def _at_once(connection: OutboundConnection) -> int:
    offered = connection.capabilities.rcpt_max
    return min(offered, _MOST_RECIPIENTS) if offered is not None else _RECIPIENTS


def _divide(outcomes: tuple[RecipientOutcome, ...]) -> tuple[Sequence[RecipientOutcome], tuple[Recipient, ...]]:
    """Part those with a fate from the recipients that were too many, which go in a further transaction.

    Only while others get through, so that it comes to an end.
    """
    if all(outcome.reply.positive for outcome in outcomes) or not any(outcome.reply.positive for outcome in outcomes):
        return outcomes, ()
    settled = [outcome for outcome in outcomes if not too_many(outcome)]
    return settled, tuple(outcome.recipient for outcome in outcomes if too_many(outcome))


def _signal(results: list[RecipientResult], connection: OutboundConnection) -> Signal:
    if any(result.fate is Fate.RELAYED for result in results):
        return Signal.TAKEN
    return Signal.DROPPED if connection.over else Signal.ANSWERED
