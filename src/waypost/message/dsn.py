"""Delivery status notifications to senders (RFC 3461, RFC 3464, RFC 6522; RFC 6533 beyond ASCII).

A `Report` says what happened; `compose` writes it as a multipart/report: words for people (`dsn_text.py`), fields for
programs, and the message or its header. The queue decides which reports are wanted, and where they go.
"""

import re
from dataclasses import dataclass, replace

from waypost.message.dsn_fields import (
    ascii_only,
    base64_lines,
    field,
    neutral,
    passes_smtp,
    quoted_printable,
    whole_field,
)
from waypost.message.dsn_text import BEGINNING, WHOLE_MESSAGE, explain
from waypost.message.envelope import Recipient
from waypost.message.headers import HeaderBlock, find_header_end
from waypost.message.received import date_text
from waypost.message.report import Action, Concerned, Report
from waypost.message.trace import TraceId, format_trace_id

__all__ = ["Action", "Concerned", "Dsn", "Report", "compose", "report_id", "shortened"]


@dataclass(frozen=True, slots=True)
class Dsn:
    """A report as a message, and the facts that SMTP must know to send it."""

    octets: bytes
    message_id: str
    eight_bit: bool
    smtputf8: bool


@dataclass(frozen=True, slots=True)
class _Part:
    """One body part: its media type with parameters, its encoding, and its octets."""

    media_type: str
    encoding: str
    octets: bytes

    def written(self) -> bytes:
        head = f"Content-Type: {self.media_type}\r\nContent-Transfer-Encoding: {self.encoding}\r\n\r\n"
        return head.encode() + self.octets


_SUBJECTS = {
    Action.FAILED: "Your message could not be delivered",
    Action.DELAYED: "Your message is delayed; it is still being tried",
    Action.DELIVERED: "Your message was delivered",
    Action.RELAYED: "Your message was passed on",
    Action.EXPANDED: "Your message goes on to several people",
}
_NO_ATOM = re.compile(r"[^A-Za-z0-9-]")
_OWN_BOUNDARY = re.compile(rb'Content-Type: multipart/report; report-type=[a-z-]+;\r\n boundary="(=_[0-9a-z_]+)"\r\n')
_WHOLE = re.compile(rb"\r\nContent-Type: message/rfc822\r\nContent-Transfer-Encoding: [78]bit\r\n\r\n")
_EIGHT_BIT = re.compile(rb"(Content-Transfer-Encoding: )8bit\r\n")
_ATTACHED, _BEGINNING_ATTACHED = (f"{what} is attached.".encode() for what in (WHOLE_MESSAGE, BEGINNING))
_MESSAGE_ID = re.compile(rb"<[!-;=?-~]{1,900}>")


def compose(report: Report) -> Dsn:
    """Write a report as a message, with CRLF line ends and no line that SMTP could not carry."""
    if report.content is not None and not passes_smtp(report.content):
        report = replace(report, content=None)
    to = report.to
    if to.local.isascii() and not to.domain.isascii():
        report = replace(report, to=to.at(to.domain_key))
    # A report needs SMTPUTF8 only for an address outside ASCII: servers on the way back may lack it (RFC 6533 4.5).
    utf8 = not report.to.is_ascii
    status = _status_part(report, utf8)
    parts = [_text_part(explain(report), utf8), status]
    returned = _returned_part(report, utf8)
    if returned is not None:
        parts.append(returned)
    written = [part.written() for part in parts]
    boundary = _boundary(report.trace, written)
    message_id = report_id(report.trace, report.hostname)
    kind = status.media_type.partition("/")[2].partition(";")[0]
    eight_bit = not all(part.isascii() for part in written)
    head = _head(report, message_id) + (
        "MIME-Version: 1.0\r\n"
        f'Content-Type: multipart/report; report-type={kind};\r\n boundary="{boundary}"\r\n'
        f"Content-Transfer-Encoding: {'8bit' if eight_bit else '7bit'}\r\n\r\n"
    )
    body = b"".join(b"--" + boundary.encode() + b"\r\n" + part + b"\r\n" for part in written)
    octets = head.encode() + body + f"--{boundary}--\r\n".encode()
    return Dsn(octets, message_id, eight_bit or utf8, utf8)


def report_id(trace: TraceId, hostname: str) -> str:
    """Return the Message-ID of the report that has this trace id."""
    return f"<{format_trace_id(trace)}@{hostname}>"


def shortened(octets: bytes, message_id: str) -> Dsn | None:
    """Return a report that `compose` wrote under this Message-ID, with only the header of the returned message.

    It is for servers that don't accept the report with the whole message. None when `octets` is not such a report.
    """
    head = octets[: find_header_end(octets) or 0]
    boundary = _OWN_BOUNDARY.search(head)
    if boundary is None or whole_field("Message-ID", message_id).encode() not in head:
        return None
    delimiter = b"\r\n--" + boundary[1]
    text, *others = octets[len(head) :].removesuffix(delimiter + b"--\r\n").split(delimiter)
    returned = _WHOLE.match(others[-1]) if len(others) > 1 else None
    if returned is None:
        return None
    content = others.pop()[returned.end() :]
    header = content[: find_header_end(content)]
    part = _header_part("text/rfc822-headers", header, utf8=False).written()
    if delimiter in part:
        return None
    start, found, end = text.rpartition(_ATTACHED)  # the last occurrence is ours: before it, others may be quoted
    before = delimiter.join([start + _BEGINNING_ATTACHED + end if found else text, *others])
    written = _EIGHT_BIT.sub(rb"\g<1>7bit\r\n", head) + before + delimiter + b"\r\n" + part + delimiter + b"--\r\n"
    return Dsn(written, message_id, eight_bit=False, smtputf8=False) if written.isascii() else None


def _head(report: Report, message_id: str) -> str:
    lines = [
        f"From: Mail Delivery System <postmaster@{report.hostname}>\r\n",
        whole_field("To", f"<{report.to}>"),
        field("Subject", _SUBJECTS[report.action]),
        field("Date", date_text(report.date)),
        whole_field("Message-ID", message_id),
    ]
    original = _MESSAGE_ID.search(HeaderBlock(report.header).get(b"message-id") or b"")
    if original is not None:
        lines += [whole_field(name, original.group().decode()) for name in ("In-Reply-To", "References")]
    lines.append(field("Auto-Submitted", "auto-replied"))  # RFC 3834 section 5
    return "".join(lines)


def _boundary(trace: TraceId, parts: list[bytes]) -> str:
    """Return a delimiter that occurs in no part (RFC 2046 5.1.1)."""
    number, boundary = 0, f"=_{format_trace_id(trace)}"
    while any(boundary.encode() in part for part in parts):
        number += 1
        boundary = f"=_{format_trace_id(trace)}_{number}"
    return boundary


def _text_part(text: str, utf8: bool) -> _Part:
    octets = text.replace("\n", "\r\n").encode()
    if text.isascii() and passes_smtp(octets):
        return _Part("text/plain; charset=us-ascii", "7bit", octets)
    if utf8 and passes_smtp(octets):
        return _Part("text/plain; charset=utf-8", "8bit", octets)
    return _Part("text/plain; charset=utf-8", "quoted-printable", quoted_printable(octets))


def _status_part(report: Report, utf8: bool) -> _Part:
    """The fields for programs; they hold UTF-8 only where an address does (RFC 6533 section 4.1)."""
    wide = not all(_is_ascii(concerned.recipient) for concerned in report.concerned)
    fields = _message_fields(report) + "".join(
        "\r\n" + _recipient_fields(report, concerned, wide) for concerned in report.concerned
    )
    octets = fields.encode()
    if not wide:
        return _Part("message/delivery-status", "7bit", octets)
    if utf8:
        return _Part("message/global-delivery-status", "8bit", octets)
    return _Part("message/global-delivery-status", "quoted-printable", quoted_printable(octets))


def _is_ascii(recipient: Recipient) -> bool:
    original = recipient.original
    return recipient.address.is_ascii and (original is None or neutral(original.address).isascii())


def _message_fields(report: Report) -> str:
    """RFC 3464 2.2."""
    lines = [whole_field("Reporting-MTA", f"dns; {report.hostname}")]
    if report.envelope.envid is not None:
        lines.append(whole_field("Original-Envelope-Id", ascii_only(report.envelope.envid)))
    lines.append(field("Arrival-Date", date_text(report.arrived)))
    lines.append(field("X-Waypost-Trace", format_trace_id(report.about)))
    return "".join(lines)


def _recipient_fields(report: Report, concerned: Concerned, wide: bool) -> str:
    """RFC 3464 2.3, RFC 3461 6.3."""
    recipient, lines = concerned.recipient, []
    if recipient.original is not None:
        kind = _NO_ATOM.sub("", recipient.original.kind) or "unknown"
        lines.append(whole_field("Original-Recipient", f"{kind}; {recipient.original.address}"))
    kind = "rfc822" if recipient.address.is_ascii else "utf-8"
    lines.append(whole_field("Final-Recipient", f"{kind}; {recipient.address}"))
    lines.append(field("Action", report.action.value))
    lines.append(field("Status", concerned.status))
    if report.remote is not None:
        lines.append(whole_field("Remote-MTA", f"dns; {ascii_only(report.remote)}"))
    words = None
    if concerned.reply is not None:
        words = f"smtp; {neutral(str(concerned.reply))}"
    elif concerned.problem is not None:
        words = f"x-waypost; {neutral(concerned.problem)}"
    if words is not None:
        lines.append(field("Diagnostic-Code", words if wide else ascii_only(words)))
    if report.last_attempt is not None:
        lines.append(field("Last-Attempt-Date", date_text(report.last_attempt)))
    if report.retry_until is not None:
        lines.append(field("Will-Retry-Until", date_text(report.retry_until)))
    return "".join(lines)


def _returned_part(report: Report, utf8: bool) -> _Part | None:
    """The message, or only its header where the whole is not wanted or can't be enclosed; None without either."""
    international = report.envelope.smtputf8 and not report.header.isascii()
    content = report.content
    if content:
        if international:
            if utf8:
                return _Part("message/global", "8bit", content)
            return _Part("message/global", "base64", base64_lines(content))
        return _Part("message/rfc822", "7bit" if content.isascii() else "8bit", content)
    if not report.header:
        return None
    media_type = "message/global-headers" if international else "text/rfc822-headers"
    return _header_part(media_type, report.header, utf8=international and utf8)


def _header_part(media_type: str, header: bytes, *, utf8: bool) -> _Part:
    header = header.removesuffix(b"\r\n\r\n") + b"\r\n"
    if not passes_smtp(header):
        return _Part(media_type, "quoted-printable", quoted_printable(header))
    if header.isascii():
        return _Part(media_type, "7bit", header)
    if utf8:
        return _Part(media_type, "8bit", header)
    return _Part(media_type, "quoted-printable", quoted_printable(header))
