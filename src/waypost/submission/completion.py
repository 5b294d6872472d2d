"""A submitted message's header: what must be right, what is added and what is taken away (RFC 6409 8, RFC 5322 3.6).

The header is edited as octets: fields are put in front, fields are left out, and nothing else changes. Lines of more
than 998 octets (RFC 5322 2.1.1) are taken as they are: every program has sent them for decades, RFC 5321 4.5.3.1 asks
for no limits where none are needed, and breaking them would change what the sender signed.
"""

from collections import Counter

from waypost.message.address import Address, AddressError
from waypost.message.address_list import AddressListError, mailboxes_of
from waypost.message.headers import HeaderBlock, message_id_of
from waypost.message.received import date_text
from waypost.message.trace import Micros, TraceId, format_trace_id

_ONCE = {
    b"date": "Date",
    b"from": "From",
    b"sender": "Sender",
    b"reply-to": "Reply-To",
    b"to": "To",
    b"cc": "Cc",
    b"message-id": "Message-ID",
    b"in-reply-to": "In-Reply-To",
    b"references": "References",
    b"subject": "Subject",
}
"""The fields of which a message has one at most (RFC 5322 3.6). Bcc is one, too, but goes anyway."""

_TAKEN_AWAY = frozenset({b"bcc", b"resent-bcc", b"return-path"})
"""Who got a blind copy is told to nobody (RFC 5322 3.6.3); Return-Path is for who delivers (RFC 5321 4.4)."""


class Malformed(Exception):
    """The header is not what RFC 5322 asks for; the message says in plain words what is wrong."""


def read_originators(headers: HeaderBlock, *, smtputf8: bool) -> list[Address]:
    """Check the header of a submitted message, and return whom it says to be from: all of From, and Sender.

    Raises `Malformed`.
    """
    if headers.problems:
        first = headers.problems[0]
        raise Malformed(first[0].upper() + first[1:])
    if not headers.data.isascii():
        _check_utf8(headers.data, smtputf8)
    counts = Counter(field.name for field in headers.fields)
    for name, shown in _ONCE.items():
        if counts[name] > 1:
            raise Malformed(f"There is more than one {shown}: field")
    if not counts[b"from"]:
        raise Malformed("There is no From: field")
    authors = _addresses(headers, b"from", "From")
    if not counts[b"sender"]:
        if len(authors) > 1:
            raise Malformed("From: has several addresses, so Sender: must say which of them sends (RFC 5322 3.6.2)")
        return authors
    senders = _addresses(headers, b"sender", "Sender")
    if len(senders) > 1:
        raise Malformed("Sender: has more than one address")
    return authors + senders


def _check_utf8(data: bytes, smtputf8: bool) -> None:
    if not smtputf8:
        raise Malformed("The header has characters outside ASCII: encode them (RFC 2047), or say SMTPUTF8 in MAIL")
    try:
        data.decode()
    except UnicodeDecodeError:
        raise Malformed("The header is not UTF-8") from None


def _addresses(headers: HeaderBlock, name: bytes, shown: str) -> list[Address]:
    try:
        texts = mailboxes_of(headers.get(name) or b"")
    except AddressListError as error:
        raise Malformed(f"{shown}: can't be read: {error}") from None
    if not texts:
        raise Malformed(f"{shown}: has no address")
    try:
        return [Address.parse(text) for text in texts]
    except AddressError:
        wrong = next(text for text in texts if not _is_address(text))
        raise Malformed(f"{shown}: has what is no address: {wrong[:60]!r}") from None


def _is_address(text: str) -> bool:
    try:
        Address.parse(text)
    except AddressError:
        return False
    return True


def complete(headers: HeaderBlock, *, trace: TraceId, hostname: str, now: Micros) -> tuple[bytes, str | None]:
    """Return the header with Date and Message-ID, without Bcc and Return-Path; and the Message-ID."""
    added, message_id = b"", message_id_of(headers)
    if not headers.count(b"date"):
        added += f"Date: {date_text(now)}\r\n".encode()
    if not headers.count(b"message-id"):
        message_id = f"<{format_trace_id(trace)}@{hostname}>"
        added += f"Message-ID: {message_id}\r\n".encode()
    return added + headers.without(_TAKEN_AWAY), message_id
