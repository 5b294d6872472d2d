"""A submitted message's header: what is checked, what is added and what is removed (RFC 6409 8, RFC 5322 3.6).

`prepare` and `complete`, in this order, make all changes to the submitter's header, before the message could be signed;
in between, `read_originators` reads the authors from the prepared header. The header is edited as octets: correct parts
do not change. Lines of more than 998 octets (RFC 5322 2.1.1) are accepted: mail programs have sent them for decades,
RFC 5321 4.5.3.1 asks for no limits without need, and breaking such a line would change what the sender signed.
"""

from collections import Counter
from collections.abc import Collection

from waypost.message.address import Address, AddressError
from waypost.message.address_list import AddressListError, holds_an_at, mailboxes_of
from waypost.message.headers import HeaderBlock, message_id_of
from waypost.message.received import date_text
from waypost.message.trace import Micros, TraceId, format_trace_id
from waypost.submission.fields import signature_of
from waypost.submission.mending import MalformedHeader, mend, without_mailbox_line
from waypost.submission.trust import forged_results

__all__ = ["MalformedHeader", "complete", "prepare", "read_originators"]

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
"""The fields that a message may have once at most (RFC 5322 3.6). Bcc is one, too, but is removed anyway."""

_TAKEN_AWAY = frozenset({b"bcc", b"resent-bcc", b"return-path"})
"""Bcc recipients stay secret (RFC 5322 3.6.3); Return-Path is added only at final delivery (RFC 5321 4.4)."""


def prepare(headers: HeaderBlock, *, sender: Address | None, smtputf8: bool, names: Collection[str]) -> HeaderBlock:
    """Return the header mended, with a From field, and without the fields that a submitter must not write.

    `sender` is that of the envelope; a message without From gets it as From. `names`, in lower case, are the host and
    domains in whose name only we may write results of checks (RFC 8601). Raises `MalformedHeader`.
    """
    headers = without_mailbox_line(headers)
    _check_counts(headers)
    removed = set(forged_results(headers, names))
    for field in headers.fields:
        if field.name in _TAKEN_AWAY or (field.name == b"from" and not headers.value(field)):
            removed.add(field)
    if removed:
        headers = HeaderBlock(headers.without_fields(sorted(removed, key=lambda field: field.start)))
    if not headers.count(b"from"):
        headers = HeaderBlock(_from_field(headers, sender) + headers.data)
    return mend(headers, smtputf8=smtputf8)


def _check_counts(headers: HeaderBlock) -> None:
    counts = Counter(field.name for field in headers.fields)
    for name, shown in _ONCE.items():
        if counts[name] > 1:
            raise MalformedHeader(f"There is more than one {shown}: field")


def _from_field(headers: HeaderBlock, sender: Address | None) -> bytes:
    """Return a From field with the envelope's sender, for a script that wrote no From."""
    if sender is None:
        raise MalformedHeader("There is no From: field, and MAIL FROM:<> names nobody for it")
    if signature_of(headers) is not None:
        raise MalformedHeader("There is no From: field, and nothing is added to a signed message")
    address = sender if sender.domain.isascii() else sender.at(sender.domain_key)
    return f"From: {address}\r\n".encode()


def read_originators(headers: HeaderBlock) -> list[Address]:
    """Return the addresses in From, Sender, Resent-From and Resent-Sender of a prepared header.

    Raises `MalformedHeader`.
    """
    _check_counts(headers)
    resent = [
        address
        for name, shown in ((b"resent-from", "Resent-From"), (b"resent-sender", "Resent-Sender"))
        for value in headers.get_all(name)
        for address in _addresses(value, shown)
    ]
    authors = _addresses(headers.get(b"from") or b"", "From")
    sender = headers.get(b"sender")
    if sender is None:
        if not authors:
            raise MalformedHeader("From: names nobody (an empty group), so Sender: must say who sends (RFC 6854)")
        if len(authors) > 1:
            raise MalformedHeader(
                "From: has several addresses, so Sender: must say which of them sends (RFC 5322 3.6.2)"
            )
        return authors + resent
    senders = _addresses(sender, "Sender")
    if len(senders) != 1:
        raise MalformedHeader("Sender: has more than one address" if senders else "Sender: has no address")
    return authors + senders + resent


def _addresses(value: bytes, shown: str) -> list[Address]:
    try:
        texts = mailboxes_of(value)
        if not texts:
            _check_empty_groups(value)
    except AddressListError as error:
        raise MalformedHeader(f"{shown}: can't be read: {error}") from None
    try:
        return [Address.parse(text) for text in texts]
    except AddressError:
        wrong = next(text for text in texts if not _is_address(text))
        raise MalformedHeader(f"{shown}: {wrong[:60]!r} is not an address") from None


def _check_empty_groups(value: bytes) -> None:
    """Refuse `"ceo@there.test":;` as an author: mail programs show the name, and it has no address beside it."""
    if holds_an_at(value):
        raise AddressListError("the name of an empty group holds an @")


def _is_address(text: str) -> bool:
    try:
        Address.parse(text)
    except AddressError:
        return False
    return True


def complete(headers: HeaderBlock, *, trace: TraceId, hostname: str, now: Micros) -> tuple[bytes, str | None]:
    """Return a prepared header with Date and Message-ID added where they were missing, and the Message-ID."""
    added, message_id = b"", message_id_of(headers)
    if not headers.count(b"date"):
        added += f"Date: {date_text(now)}\r\n".encode()
    if not headers.count(b"message-id"):
        message_id = f"<{format_trace_id(trace)}@{hostname}>"
        added += f"Message-ID: {message_id}\r\n".encode()
    return added + headers.data, message_id
