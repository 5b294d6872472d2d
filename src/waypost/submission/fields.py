"""Kinds of header fields: they decide where and how text of a submitted message may be encoded (RFC 2047 section 5)."""

import re
from enum import Enum, auto

from waypost.message.content_fields import parse_content_type
from waypost.message.headers import HeaderBlock

ORIGINATORS = {b"from": "From", b"sender": "Sender", b"resent-from": "Resent-From", b"resent-sender": "Resent-Sender"}
"""The originator fields, of the message and of its resending (RFC 5322 3.6.2 and 3.6.6)."""

_PEOPLE = frozenset(
    {
        *ORIGINATORS,
        *(b"to", b"cc", b"reply-to", b"resent-to", b"resent-cc", b"resent-reply-to", b"errors-to"),
        *(b"disposition-notification-to", b"return-receipt-to", b"mail-followup-to", b"mail-reply-to"),
    }
)
_STRUCTURED = frozenset(
    {
        *(b"date", b"resent-date", b"message-id", b"resent-message-id", b"in-reply-to", b"references"),
        *(b"mime-version", b"content-transfer-encoding", b"content-id"),
        *(b"content-language", b"content-location", b"content-base", b"content-md5", b"content-features"),
        *(b"delivered-to", b"auto-submitted", b"precedence", b"importance", b"priority", b"expires"),
        *(b"authentication-results", b"received-spf", b"dkim-signature", b"domainkey-signature", b"autocrypt"),
        *(b"list-help", b"list-subscribe", b"list-unsubscribe", b"list-unsubscribe-post"),
        *(b"list-post", b"list-owner", b"list-archive", b"supersedes", b"obsoletes", b"message-context"),
    }
)
_PHRASES = frozenset({b"keywords", b"list-id"})
_PARAMETERS = frozenset({b"content-type", b"content-disposition"})
_SIGNATURES = frozenset({b"dkim-signature", b"domainkey-signature", b"arc-message-signature"})
_PKCS7 = re.compile(r"application/(?:x-)?pkcs7-mime\Z")


class FieldKind(Enum):
    """The kind of a field's value: which parts of it are text."""

    PEOPLE = auto()  # an address list: names and comments are text
    PHRASES = auto()  # names, with commas between them or an identifier after them
    PARAMETERS = auto()  # a value with parameters, which have their own encoding (RFC 2231)
    STRUCTURED = auto()  # only comments are text
    CLOSED = auto()  # nothing in it is text
    TEXT = auto()


def kind_of(name: bytes) -> FieldKind:
    """Return the kind of a field, by its lower-case name. An unknown field is text (RFC 2047 section 5 (1))."""
    if name in _PEOPLE:
        return FieldKind.PEOPLE
    if name in _PARAMETERS:
        return FieldKind.PARAMETERS
    if name in _PHRASES:
        return FieldKind.PHRASES
    if name in _STRUCTURED:
        return FieldKind.STRUCTURED
    return FieldKind.CLOSED if name == b"received" or name.startswith(b"arc-") else FieldKind.TEXT


def signature_of(headers: HeaderBlock) -> str | None:
    """Return the field by which the message is signed, in words for people; None when it is not signed.

    A signed part deeper inside does not count: its signature covers that part alone (RFC 1847 2.1).
    """
    for field in headers.fields:
        if field.name in _SIGNATURES:
            return headers.data[field.start : field.value_start].decode().partition(":")[0].strip()
    kind = parse_content_type(headers.get(b"content-type") or b"")
    if kind is not None and (kind.value == "multipart/signed" or _PKCS7.match(kind.value)):
        return f"Content-Type: {kind.value}"
    return None
