"""From an envelope and its content to the one commit that makes a message ours, and the reply that says so.

Every message from submission, port 25 or LMTP goes through here. Loops are refused, a Received field is put before the
header, the recipients become mailbox rows and queue entries, and the reply waits until all of this is durable.
"""

import asyncio
import logging
from collections.abc import Callable
from typing import Any

from waypost.config.settings import Limits
from waypost.delivery.plan import DeliveryPlan, Planner
from waypost.intake.arrival_events import arrival_events
from waypost.intake.client import Client
from waypost.intake.policy import Arrived, Examined
from waypost.intake.trace_fields import begun_by_a_field, without_delivery_fields
from waypost.intake.transaction import Admitted, Transaction
from waypost.message.address import Address
from waypost.message.envelope import BodyType, Envelope
from waypost.message.headers import HeaderBlock
from waypost.message.received import Hop, count_received, passed_here, received_field, with_protocol
from waypost.message.report import Action
from waypost.message.trace import Micros, TraceId, format_trace_id
from waypost.protocol.lines import is_clean
from waypost.protocol.reply import Reply
from waypost.protocol.smtp import replies
from waypost.queue.reporter import Reporter
from waypost.storage import AccountChanged, LimitReached, NewMessage, Spool
from waypost.storage.queue import reverse_path_text

log = logging.getLogger(__name__)

_LARGE = 16 * 1024  # octets
_MOST_PASSES = 5
"""A message that this host has received this often before is in a loop. A legitimate one may pass once by submission
and once by reception on the same host; an alias elsewhere that leads back adds two more."""


class Acceptance:
    """Accepts messages, one at a time for each session. `ids` makes trace ids."""

    def __init__(
        self,
        *,
        spool: Spool,
        planner: Planner,
        reporter: Reporter,
        ids: Callable[[], TraceId],
        hostname: str,
        limits: Limits,
        now: Callable[[], Micros],
    ) -> None:
        self._spool = spool
        self._planner = planner
        self._reporter = reporter
        self._ids = ids
        self._hostname = hostname
        self._limits = limits
        self._now = now

    async def accept(self, transaction: Transaction) -> Reply:  # hot: bench/accept
        """Accept or refuse a message, whose content is whole, for all its recipients together. Raises `StorageFull`,
        `StorageError`.

        RCPT has checked quotas against the declared size. If the real size is larger, the quota is soft: the message is
        refused only when no recipient has room, since one reply counts for all (RFC 5321 4.2.5).
        """
        content = transaction.content
        assert content is not None
        if not any(one.has_room(content.size) for one in transaction.admitted):
            return self._refused(transaction, replies.MAILBOX_FULL)
        return await self._take(transaction, tuple(transaction.admitted), lmtp=False)

    async def accept_each(self, transaction: Transaction) -> list[Reply]:
        """LMTP: accept a message for the recipients that have room and that the policy does not refuse (RFC 2033 4.2).

        Returns one reply for each recipient, in order. Raises `StorageFull`, `StorageError`.
        """
        content = transaction.content
        assert content is not None
        for one in transaction.admitted:
            if not one.has_room(content.size):
                one.refusal = replies.MAILBOX_FULL
        taken = tuple(one for one in transaction.admitted if one.refusal is None)
        if taken:
            reply = await self._take(transaction, taken, lmtp=True)
        else:
            reply = self._refused(transaction, replies.MAILBOX_FULL)
        return [one.refusal or reply for one in transaction.admitted]

    async def _take(self, transaction: Transaction, admitted: tuple[Admitted, ...], *, lmtp: bool) -> Reply:
        content, envelope = transaction.content, transaction.envelope
        assert content is not None
        headers = await _fields(begun_by_a_field(content.header or b""))
        refusal = self._refusal(headers, envelope)
        if refusal is not None:
            return self._refused(transaction, refusal)
        await transaction.settle()
        trace, now = self._ids(), self._now()
        examined = await transaction.judge.examine(transaction, Arrived(headers, admitted, trace, now))
        if isinstance(examined, Reply):
            return self._refused(transaction, examined)
        refusals = [one.refusal for one in admitted if one.refusal is not None]
        if len(refusals) == len(admitted):
            return self._refused(transaction, refusals[0])
        if refusals and lmtp:
            admitted = tuple(one for one in admitted if one.refusal is None)
        try:
            await self._store(transaction, admitted, headers, examined, trace, now, lmtp=lmtp)
        except AccountChanged:
            return self._refused(transaction, replies.ACCOUNT_CHANGED)
        except LimitReached as reached:
            fields = {**transaction.client.facts, "limit": reached.limit}
            log.warning("sending limit reached", extra={"fields": fields})
            return self._refused(transaction, replies.spent(reached.limit))
        # Write the log line after the reply: the client must not wait for the log.
        asyncio.get_running_loop().call_soon(
            _tell, "message accepted", _facts(transaction, len(admitted), trace, examined)
        )
        shown = format_trace_id(trace)
        if examined.envelope.priority != envelope.priority:
            return replies.queued_with_priority(examined.envelope.priority, shown)
        return replies.queued(shown)

    def _refusal(self, headers: HeaderBlock, envelope: Envelope) -> Reply | None:
        """Return the refusal of a message that is refused on every port and protocol; None when it is not refused."""
        if envelope.body is BodyType.BINARY and not is_clean(headers.data):
            # RFC 3030 allows a body without lines, but not a header: a bare LF there would hide a field from us.
            return replies.CONTENT_BARE_LINE_END
        received = count_received(headers)
        if received > self._limits.received_headers:
            return replies.LOOP
        if received >= _MOST_PASSES and passed_here(headers, self._hostname) >= _MOST_PASSES:
            return replies.LOOP
        return None

    @staticmethod
    def _refused(transaction: Transaction, reply: Reply) -> Reply:
        fields = {
            **transaction.client.facts,
            "sender": reverse_path_text(transaction.envelope.reverse_path),
            "size": transaction.content.size if transaction.content is not None else 0,
            "reply": str(reply),
        }
        log.info("message refused", extra={"fields": fields})
        return reply

    async def _store(
        self,
        transaction: Transaction,
        admitted: tuple[Admitted, ...],
        headers: HeaderBlock,
        examined: Examined,
        trace: TraceId,
        now: Micros,
        *,
        lmtp: bool,
    ) -> None:
        """Write the message, all decisions on it, and the reports that its delivery causes."""
        client, envelope, content = transaction.client, examined.envelope, transaction.content
        assert content is not None
        pairs = [(one.recipient, one.reached) for one in admitted]
        plan = self._planner.arrange(pairs, envelope, now, transaction.filings)
        header = examined.header
        if plan.local:
            header = without_delivery_fields(headers, header, _delivered_to(admitted, plan))
        only = admitted[0].recipient.address if len(admitted) == 1 else None
        received = self._received(client, envelope, trace, now, only, lmtp=lmtp)
        message = NewMessage(
            trace=trace,
            received_at=now,
            envelope=envelope,
            head=transaction.fields + received + header,
            body=content.body,
            message_id=examined.message_id,
            account=client.account.address if client.account else None,
            deliveries=plan.deliveries,
            entries=plan.entries,
            events=tuple(arrival_events(transaction, admitted, examined.message_id, plan, trace, now)),
            expense=transaction.expense,
            login=client.account.as_it_is if client.account else None,
        )
        if plan.succeeded or plan.expanded:
            await self._store_with_reports(message, plan)
        else:
            await self._spool.accept(message)

    async def _store_with_reports(self, message: NewMessage, plan: DeliveryPlan) -> None:
        """Write the message and the success reports that its delivery causes (RFC 3461 5.2.3)."""
        reports: list[NewMessage] = []
        try:
            for action, recipients in ((Action.DELIVERED, plan.succeeded), (Action.EXPANDED, plan.expanded)):
                report = await self._reporter.delivered(
                    trace=message.trace,
                    envelope=message.envelope,
                    recipients=recipients,
                    header=message.head,
                    received_at=message.received_at,
                    action=action,
                )
                if report is not None:
                    reports.append(report)
            await self._spool.accept(message, reports)
        finally:
            for report in reports:
                report.body.discard()

    def _received(
        self, client: Client, envelope: Envelope, trace: TraceId, now: Micros, only: Address | None, *, lmtp: bool
    ) -> bytes:
        protocol = with_protocol(
            extended=client.extended,
            tls=client.peer.tls is not None,
            authenticated=client.authenticated,
            lmtp=lmtp,
            utf8=envelope.smtputf8,
        )
        hop = Hop(
            helo=client.helo,
            peer=client.peer.address,
            hostname=self._hostname,
            protocol=protocol,
            tls=client.tls,
            hide_peer=client.account is not None,
            name=client.name,
        )
        return received_field(hop, trace, now, only)


async def _fields(header: bytes) -> HeaderBlock:
    """Return the fields of a header. A large one may have tens of thousands, so a thread reads it."""
    return HeaderBlock(header) if len(header) < _LARGE else await asyncio.to_thread(HeaderBlock, header)


def _delivered_to(admitted: tuple[Admitted, ...], plan: DeliveryPlan) -> set[str]:
    """Return the addresses, in lower case, for which a message is delivered here."""
    return {str(one.recipient.address).lower() for one in admitted} | {account.address for _, account in plan.delivered}


def _facts(transaction: Transaction, recipients: int, trace: TraceId, examined: Examined) -> dict[str, Any]:
    """Return the fields of the log line on an acceptance."""
    assert transaction.content is not None
    return {
        "trace": format_trace_id(trace),
        **transaction.client.facts,
        "sender": reverse_path_text(transaction.envelope.reverse_path),
        "recipients": recipients,
        "size": transaction.content.size,
        "message_id": examined.message_id,
    }


def _tell(words: str, fields: dict[str, Any]) -> None:
    log.info(words, extra={"fields": fields})
