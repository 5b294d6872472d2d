"""Reports to senders: which events are reported, and the report as a message (RFC 3461 sections 4.1, 5.2 and 6).

A report has the null reverse-path and is never reported on itself, so that no bounce is ever bounced. It is an
ordinary new message, written in the commit of the outcome that it tells of.
"""

import asyncio
import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import msgspec

from waypost.journal import Event, Generated, Queued
from waypost.message.address import Address, AddressError
from waypost.message.dsn import Dsn, compose, report_id, shortened
from waypost.message.envelope import BodyType, Envelope, Notify, Recipient, Ret
from waypost.message.headers import find_header_end
from waypost.message.report import Action, Concerned, Report
from waypost.message.trace import Micros, TraceId, format_trace_id
from waypost.storage import NewEntry, NewMessage, QueueEntry, Spool, StorageError

log = logging.getLogger(__name__)

_MOST_HEADER = 64 * 1024  # octets of a header that a report returns
_MOST_AROUND = 1024 * 1024  # octets of a report around what it returns
_MANY = 50  # recipients: a report on this many is written in a thread
_LARGE = 16 * 1024  # octets of a header: a report with a larger one is written in a thread
_UNSAID = Notify.FAILURE | Notify.DELAY  # the default without NOTIFY (RFC 3461 4.1)


@dataclass(frozen=True, slots=True)
class ReportedMessage:
    """The message that a report is about."""

    trace: TraceId
    envelope: Envelope
    arrived: Micros

    @staticmethod
    def entry(entry: QueueEntry) -> "ReportedMessage":
        """Return it for a queue entry."""
        return ReportedMessage(entry.trace, entry.envelope, entry.queued_at)


class Attempted(msgspec.Struct, frozen=True):
    """What is known of the last attempt: the server, when it was, and until when the queue goes on.

    `dsn_passed_on` and `deadline_passed_on`: the next hop reports success, or watches the deadline, itself.
    """

    remote: str | None = None
    last_attempt: Micros | None = None
    retry_until: Micros | None = None
    dsn_passed_on: bool = False
    deadline_passed_on: bool = False


def asked_for(action: Action, recipient: Recipient, envelope: Envelope, attempted: Attempted) -> bool:
    """True when the sender requested this report, and we must send it (RFC 3461 4.1 and 5.2)."""
    if envelope.reverse_path is None:
        return False
    notify = _UNSAID if recipient.notify is None else recipient.notify
    if action is Action.FAILED:
        return Notify.FAILURE in notify
    if action is Action.DELAYED:
        return Notify.DELAY in notify
    if action is not Action.RELAYED:
        return Notify.SUCCESS in notify
    if Notify.SUCCESS in notify and not attempted.dsn_passed_on:
        return True
    # RFC 2852 4.1.4: report each hop if a trace was requested, and the hop after which no server watches the deadline.
    by = envelope.deliver_by
    return by is not None and notify != Notify.NEVER and (by.trace or not attempted.deadline_passed_on)


class Reporter:
    """Makes reports. `destination_of` gives the queue's destination of an address, `ids` the report's trace id."""

    def __init__(
        self,
        *,
        spool: Spool,
        ids: Callable[[], TraceId],
        hostname: str,
        destination_of: Callable[[Address], str],
        now: Callable[[], Micros],
        return_full_below: int,
    ) -> None:
        self._spool = spool
        self._ids = ids
        self._hostname = hostname
        self._destination_of = destination_of
        self._now = now
        self._return_full_below = return_full_below

    async def delivered(
        self,
        *,
        trace: TraceId,
        envelope: Envelope,
        recipients: Sequence[Recipient],
        header: bytes,
        received_at: Micros,
        action: Action = Action.DELIVERED,
    ) -> NewMessage | None:
        """Return the success report of a message that is put into mailboxes as it is accepted, or goes on to the
        members of a group (`action` EXPANDED); None when no recipient's NOTIFY asks for it. `header` is the message's
        header block. Raises `StorageError`.
        """
        concerned = [Concerned(recipient, "2.1.5") for recipient in recipients]
        about = ReportedMessage(trace, envelope, received_at)
        wanted = self._wanted(action, about, concerned, Attempted())
        return await self._write(action, about, wanted, Attempted(), header, None) if wanted else None

    async def report(
        self, action: Action, about: ReportedMessage, concerned: Sequence[Concerned], attempted: Attempted
    ) -> NewMessage | None:
        """Return the report on a stored message to those who asked for it; None when nobody did, or when there is
        nobody to send it to. Raises `StorageError`.
        """
        wanted = self._wanted(action, about, concerned, attempted)
        if not wanted:
            return None
        header, content = await self._original(action, about)
        return await self._write(action, about, wanted, attempted, header, content)

    @staticmethod
    def _wanted(
        action: Action, about: ReportedMessage, concerned: Sequence[Concerned], attempted: Attempted
    ) -> list[Concerned]:
        return [one for one in concerned if asked_for(action, one.recipient, about.envelope, attempted)]

    async def _original(self, action: Action, about: ReportedMessage) -> tuple[bytes, bytes | None]:
        """Return the header of the message, and the whole of it where that is returned (RFC 3461 4.3 and 6.2)."""
        try:
            stored = await self._spool.open(about.trace)
            full = action is Action.FAILED and about.envelope.ret is not Ret.HEADERS
            if full and stored.size <= self._return_full_below:
                content = await stored.read(0, stored.size)
                return content[: find_header_end(content) or len(content)], content
            start = await stored.read(0, _MOST_HEADER)
            return start[: find_header_end(start) or start.rfind(b"\r\n") + 2], None
        except StorageError as error:
            # The report matters more than the message in it: the sender gets it without the message.
            fields = {"trace": format_trace_id(about.trace), "error": str(error)}
            log.warning("a report returns nothing of its message", extra={"fields": fields})
            return b"", None

    async def _write(
        self,
        action: Action,
        about: ReportedMessage,
        concerned: Sequence[Concerned],
        attempted: Attempted,
        header: bytes,
        content: bytes | None,
    ) -> NewMessage | None:
        to = about.envelope.reverse_path
        destination = self._destination(to, about)
        if to is None or destination is None:
            return None
        report = Report(
            action=action,
            trace=self._ids(),
            date=self._now(),
            hostname=self._hostname,
            to=to,
            about=about.trace,
            envelope=about.envelope,
            arrived=about.arrived,
            concerned=tuple(concerned),
            header=header,
            content=content,
            remote=attempted.remote,
            last_attempt=attempted.last_attempt,
            retry_until=attempted.retry_until,
        )
        told = Generated(
            kind=report.action.value,
            about=report.about,
            recipients=tuple(str(one.recipient.address) for one in report.concerned),
        )
        large = len(concerned) >= _MANY or len(header) >= _LARGE
        dsn = await asyncio.to_thread(_composed, report) if large else _composed(report)
        return await self._message(dsn, report.trace, (to,), destination, told)

    async def shortened(self, entry: QueueEntry, to: Sequence[Address]) -> NewMessage | None:
        """Return a report anew, for these of its recipients, with only the header of the message that it returns.

        None when the entry is no report of ours that returns more, or can't be read. Raises `StorageError` when it
        can't be written.
        """
        if entry.envelope.reverse_path is not None or entry.size > self._return_full_below + _MOST_AROUND:
            return None
        try:
            stored = await self._spool.open(entry.trace)
            octets = await stored.read(0, stored.size)
        except StorageError as error:  # the report has failed in any case
            fields = {"trace": format_trace_id(entry.trace), "error": str(error)}
            log.warning("a report can't be shortened", extra={"fields": fields})
            return None
        dsn = await asyncio.to_thread(shortened, octets, report_id(entry.trace, self._hostname))
        if dsn is None:
            return None
        told = Generated(kind="shortened", about=entry.trace, recipients=tuple(map(str, to)))
        return await self._message(dsn, self._ids(), to, entry.destination, told)

    async def _message(
        self, dsn: Dsn, trace: TraceId, to: Sequence[Address], destination: str, told: Generated
    ) -> NewMessage:
        """Return a report as a message with one entry."""
        now = self._now()
        body = self._spool.new_body()
        try:
            await body.write(dsn.octets)
        except BaseException:
            body.discard()
            raise
        return NewMessage(
            trace=trace,
            received_at=now,
            envelope=Envelope(
                None, body=BodyType.EIGHT_BIT if dsn.eight_bit else BodyType.SEVEN_BIT, smtputf8=dsn.smtputf8
            ),
            head=b"",
            body=body,
            message_id=dsn.message_id,
            # RFC 3461 6.1: no reports on reports.
            entries=(NewEntry(destination, tuple(Recipient(one, Notify.NEVER) for one in to), now),),
            events=(
                Event(trace, now, told),
                Event(trace, now, Queued(destination=destination, recipients=tuple(map(str, to)))),
            ),
        )

    def _destination(self, to: Address | None, about: ReportedMessage) -> str | None:
        """Return where a report goes; None, with a line in the log, when its address leads nowhere."""
        if to is None:
            return None
        try:
            destination = self._destination_of(to)
        except AddressError as error:
            problem = str(error)
        else:
            if destination:
                return destination
            problem = "it has no domain"
        fields = {"trace": format_trace_id(about.trace), "reverse_path": str(to), "problem": problem}
        log.warning("a report has nowhere to go", extra={"fields": fields})
        return None


def _composed(report: Report) -> Dsn:
    """Write a report; if a bug of ours prevents that, write it without its message: the sender must still get it."""
    try:
        return compose(report)
    except Exception:
        fields = {"trace": format_trace_id(report.about)}
        log.exception("a report returns nothing of its message, by a fault of ours", extra={"fields": fields})
        return compose(replace(report, header=b"", content=None))
