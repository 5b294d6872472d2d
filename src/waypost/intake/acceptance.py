"""From an envelope and its content to the one commit that makes a message ours, and the reply that says so.

Whatever comes by submission, by port 25 or by LMTP goes through here: loops are ended, the Received field is put in
front, the recipients become mailbox rows and queue entries, and nothing is answered before all of it is durable.
"""

import asyncio
import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from waypost.config.settings import Limits
from waypost.delivery.plan import Plan, Planner
from waypost.delivery.resolve import Reached
from waypost.intake.client import Client
from waypost.intake.content import Content
from waypost.intake.policy import Examined, Policy
from waypost.intake.trace_fields import begun_by_a_field, without_delivery_fields
from waypost.message.envelope import BodyType, Envelope
from waypost.message.headers import HeaderBlock
from waypost.message.received import Hop, count_received, passed_here, received_field, with_protocol
from waypost.message.report import Action
from waypost.message.trace import Micros, TraceId, format_trace_id
from waypost.protocol.lines import is_clean
from waypost.protocol.reply import Reply
from waypost.protocol.smtp import replies
from waypost.queue.reporter import Reporter
from waypost.storage import AccountChanged, Event, NewMessage, Spool, Station
from waypost.storage.queue import reverse_path_text

log = logging.getLogger(__name__)

_LARGE = 16 * 1024  # octets
_MOST_PASSES = 5
"""A message that this very host has seen so often goes in circles. Once is submission and once is reception on one
host; an alias elsewhere that leads back adds two more."""


@dataclass(slots=True)
class Arrival:
    """A message that has arrived whole. `reached` says where each recipient of the envelope leads."""

    client: Client
    envelope: Envelope
    reached: Sequence[Reached | None]
    content: Content


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

    async def accept(self, arrival: Arrival, policy: Policy) -> Reply:  # hot: bench/accept
        """Take a message for all its recipients, or for none. Raises `StorageFull`, `StorageError`.

        RCPT has looked at the declared size. Where the real one is larger, a quota is soft: only when no recipient
        has room is the message refused, since one answer counts for all (RFC 5321 4.2.5).
        """
        size = arrival.content.size
        if all(found is not None and not found.has_room(size) for found in arrival.reached):
            return self._refused(arrival, replies.MAILBOX_FULL)
        return await self._take(arrival, policy, lmtp=False)

    async def accept_each(self, arrival: Arrival, policy: Policy) -> list[Reply]:
        """LMTP: take a message for those recipients who have room (RFC 2033 4.2); one reply for each, in order.

        Raises `StorageFull`, `StorageError`.
        """
        size, envelope = arrival.content.size, arrival.envelope
        fits = [found is None or found.has_room(size) for found in arrival.reached]
        if not any(fits):
            return [self._refused(arrival, replies.MAILBOX_FULL)] * len(fits)
        taken = [
            pair for pair, fit in zip(zip(envelope.recipients, arrival.reached, strict=True), fits, strict=True) if fit
        ]
        for_those = Arrival(
            arrival.client,
            envelope.to(tuple(recipient for recipient, _ in taken)),
            [found for _, found in taken],
            arrival.content,
        )
        reply = await self._take(for_those, policy, lmtp=True)
        return [reply if fit else replies.MAILBOX_FULL for fit in fits]

    async def _take(self, arrival: Arrival, policy: Policy, *, lmtp: bool) -> Reply:
        client, envelope = arrival.client, arrival.envelope
        headers = await _fields(begun_by_a_field(arrival.content.header or b""))
        refusal = self._refusal(headers, envelope)
        if refusal is not None:
            return self._refused(arrival, refusal)
        trace, now = self._ids(), self._now()
        examined = await policy.examine(client, envelope, headers, trace, now)
        if isinstance(examined, Reply):
            return self._refused(arrival, examined)
        try:
            await self._store(arrival, headers, examined, trace, now, lmtp=lmtp)
        except AccountChanged:
            await policy.withdraw(client, envelope, now)
            return self._refused(arrival, replies.ACCOUNT_CHANGED)
        except BaseException:
            await policy.withdraw(client, envelope, now)
            raise
        # The client waits for its answer, and the log is not what it waits for.
        asyncio.get_running_loop().call_soon(_tell, "message accepted", _facts(arrival, trace, examined))
        shown = format_trace_id(trace)
        if examined.envelope.priority != envelope.priority:
            return replies.queued_with_priority(examined.envelope.priority, shown)
        return replies.queued(shown)

    def _refusal(self, headers: HeaderBlock, envelope: Envelope) -> Reply | None:
        """Return why no way in takes this message, if there is a reason."""
        if envelope.body is BodyType.BINARY and not is_clean(headers.data):
            # RFC 3030 frees the body of lines, not the header: a bare LF there would hide a field from us.
            return replies.CONTENT_BARE_LINE_END
        received = count_received(headers)
        if received > self._limits.received_headers:
            return replies.LOOP
        if received >= _MOST_PASSES and passed_here(headers, self._hostname) >= _MOST_PASSES:
            return replies.LOOP
        return None

    @staticmethod
    def _refused(arrival: Arrival, reply: Reply) -> Reply:
        fields = {
            **arrival.client.facts,
            "sender": reverse_path_text(arrival.envelope.reverse_path),
            "size": arrival.content.size,
            "reply": str(reply),
        }
        log.info("message refused", extra={"fields": fields})
        return reply

    async def _store(
        self, arrival: Arrival, headers: HeaderBlock, examined: Examined, trace: TraceId, now: Micros, *, lmtp: bool
    ) -> None:
        """Write the message, with the reports that its delivery causes."""
        client, envelope = arrival.client, examined.envelope
        pairs = tuple(zip(envelope.recipients, arrival.reached, strict=True))
        plan = self._planner.arrange(pairs, envelope, now)
        header = examined.header
        if plan.local:
            header = without_delivery_fields(headers, header, _delivered_to(envelope, plan))
        message = NewMessage(
            trace=trace,
            received_at=now,
            envelope=envelope.to(()),
            head=self._received(client, envelope, trace, now, lmtp=lmtp) + header,
            body=arrival.content.body,
            message_id=examined.message_id,
            account=client.account.address if client.account else None,
            deliveries=plan.deliveries,
            entries=plan.entries,
            events=tuple(_events(arrival, examined, plan, trace, now)),
            login=client.account.as_it_is if client.account else None,
        )
        if plan.succeeded or plan.expanded:
            await self._store_with_reports(message, plan)
        else:
            await self._spool.accept(message)

    async def _store_with_reports(self, message: NewMessage, plan: Plan) -> None:
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

    def _received(self, client: Client, envelope: Envelope, trace: TraceId, now: Micros, *, lmtp: bool) -> bytes:
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
        )
        only = envelope.recipients[0].address if len(envelope.recipients) == 1 else None
        return received_field(hop, trace, now, only)


async def _fields(header: bytes) -> HeaderBlock:
    """Return the fields of a header. A large one has tens of thousands, and is read beside the loop."""
    return HeaderBlock(header) if len(header) < _LARGE else await asyncio.to_thread(HeaderBlock, header)


def _delivered_to(envelope: Envelope, plan: Plan) -> set[str]:
    """Return the addresses under which a message is delivered here, in lower case."""
    return {str(one.address).lower() for one in envelope.recipients} | {
        account.address for _, account in plan.delivered
    }


def _events(arrival: Arrival, examined: Examined, plan: Plan, trace: TraceId, now: Micros) -> list[Event]:
    """Return what the journal tells of the acceptance."""
    client, envelope = arrival.client, arrival.envelope
    details: dict[str, Any] = {"account": client.account.address} if client.account else {}
    details |= {
        "peer": client.peer.address,
        "helo": client.helo,
        "tls": client.tls,
        "sender": reverse_path_text(envelope.reverse_path),
        "recipients": [str(recipient.address) for recipient in envelope.recipients],
        "size": arrival.content.size,
        "message_id": examined.message_id,
    }
    events = [Event(trace, now, Station.SUBMITTED if client.account else Station.RECEIVED, details)]
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


def _facts(arrival: Arrival, trace: TraceId, examined: Examined) -> dict[str, Any]:
    """Return the line of the log on an acceptance."""
    return {
        "trace": format_trace_id(trace),
        **arrival.client.facts,
        "sender": reverse_path_text(arrival.envelope.reverse_path),
        "recipients": len(arrival.envelope.recipients),
        "size": arrival.content.size,
        "message_id": examined.message_id,
    }


def _tell(words: str, fields: dict[str, Any]) -> None:
    log.info(words, extra={"fields": fields})
