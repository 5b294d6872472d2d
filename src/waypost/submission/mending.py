"""Mends mistakes in a header that a person or a script has written (RFC 6409 section 8).

A mistake is mended only when its meaning is beyond doubt: a line of a mailbox file before the header, an address list
that breaks the grammar of RFC 5322 but has one reading, text outside ASCII in a message without SMTPUTF8. Everything
else is refused with a reason. In a signed message, only the mailbox file's line is removed. The check whether the
account may send as the author comes later, on the mended header.
"""

import re

from waypost.message.address_list import (
    AddressList,
    AddressListError,
    Form,
    addresses_in,
    mailboxes_of,
    parse_address_list,
)
from waypost.message.address_writing import write_address_list
from waypost.message.encoded_words import encode_text
from waypost.message.headers import Field, HeaderBlock
from waypost.submission.fields import ORIGINATORS, FieldKind, kind_of, signature_of
from waypost.submission.structured import encode_comments, encode_parameters, encode_phrases

_BYTE_ORDER_MARK = b"\xef\xbb\xbf"
_MAILBOX_LINE = re.compile(rb">?From [^\r\n]*\r\n(?![ \t])")
_MOST_AUTHORS = 100
_LONGEST_AUTHORS = 16 * 1024  # octets of all originator fields
_LONGEST_MENDED = 64 * 1024  # octets of a header in which text is encoded


class MalformedHeader(Exception):
    """The header breaks RFC 5322; the message says in plain words what is wrong."""


def without_mailbox_line(headers: HeaderBlock) -> HeaderBlock:
    """Return the header without a line `From a@x Tue Nov 24 ...`, which begins a message in a mailbox file (RFC 4155),
    and without the byte order mark that some editors put first.

    Raises `MalformedHeader` for any other line that is not a field.
    """
    if not headers.problems:
        return headers
    if headers.data.startswith(_BYTE_ORDER_MARK):
        headers = HeaderBlock(headers.data.removeprefix(_BYTE_ORDER_MARK))
    line = _MAILBOX_LINE.match(headers.data)
    if line is not None and not (headers.fields and headers.fields[0].start == 0):
        headers = HeaderBlock(headers.data[line.end() :])
    if headers.problems:
        first = headers.problems[0]
        raise MalformedHeader(first[0].upper() + first[1:])
    return headers


def mend(headers: HeaderBlock, *, smtputf8: bool) -> HeaderBlock:
    """Return the header with its mistakes mended; the same object when it has no mistakes.

    Raises `MalformedHeader`.
    """
    plain = headers.data.isascii()
    _check_length(headers, plain=plain or smtputf8)
    changes: list[tuple[Field, bytes]] = []
    for field in headers.fields:
        if field.name in ORIGINATORS:
            written = _originator(headers, field, smtputf8=smtputf8)
        elif plain or headers.data[field.start : field.end].isascii():
            continue
        else:
            written = _in_ascii(headers, field, smtputf8=smtputf8)
        if written is not None:
            changes.append((field, written))
    return _changed(headers, changes) if changes else headers


def _check_length(headers: HeaderBlock, *, plain: bool) -> None:
    """Bound the work of reading, checking and encoding. Raises `MalformedHeader` for a header that is too long."""
    if not plain and len(headers.data) > _LONGEST_MENDED:
        raise MalformedHeader("The header is long and has characters outside ASCII: encode them (RFC 2047)")
    octets = sum(field.end - field.start for field in headers.fields if field.name in ORIGINATORS)
    if octets > _LONGEST_AUTHORS:
        raise MalformedHeader(f"The fields that say who sends are longer than {_LONGEST_AUTHORS} octets")


def _changed(headers: HeaderBlock, changes: list[tuple[Field, bytes]]) -> HeaderBlock:
    signature = signature_of(headers)
    if signature is not None:
        field = changes[0][0]
        raise MalformedHeader(
            f"{_shown_name(headers, field)}: {_what_is_wrong(headers, field)}, and nothing is mended in a signed "
            f"message ({signature}): write the field right before signing"
        )
    pieces, position = [], 0
    for field, written in changes:
        end = b"\r\n" if headers.data[field.start : field.end].endswith(b"\r\n") else b""
        pieces += [headers.data[position : field.start], written, end]
        position = field.end
    pieces.append(headers.data[position:])
    return HeaderBlock(b"".join(pieces))


def _what_is_wrong(headers: HeaderBlock, field: Field) -> str:
    if headers.data[field.start : field.end].isascii():
        return "this is not written as RFC 5322 wants it"
    return "there are characters outside ASCII, which are to be encoded (RFC 2047)"


def _shown_name(headers: HeaderBlock, field: Field) -> str:
    return headers.data[field.start : field.value_start].decode().partition(":")[0].strip()[:60]


def _originator(headers: HeaderBlock, field: Field, *, smtputf8: bool) -> bytes | None:
    """Return an originator field written anew; None when it may stay as it is."""
    shown = _shown_name(headers, field)
    value = headers.value(field)
    ascii_ = value.isascii()
    if not ascii_:
        _check_utf8(shown, value)
    try:
        if value.count(b"@") > 2 * _MOST_AUTHORS:
            raise AddressListError(f"it has more than {_MOST_AUTHORS} addresses")
        parts = parse_address_list(value)
        if len(addresses_in(parts)) > _MOST_AUTHORS:
            raise AddressListError(f"it has more than {_MOST_AUTHORS} addresses")
        form = max(part.form for part in parts)
        if form is Form.PLAIN and (ascii_ or smtputf8):
            return None
        if form is Form.ODD and ascii_ and signature_of(headers) is not None and value.count(b"@") == _ats(parts):
            return None  # it is valid, and no mail program reads another address in it
        return _written(headers, field, parts, smtputf8=smtputf8)
    except AddressListError as error:
        raise MalformedHeader(f"{shown}: can't be read: {error}") from None


def _ats(parts: AddressList) -> int:
    return sum(address.count("@") for address in addresses_in(parts))


def _written(headers: HeaderBlock, field: Field, parts: AddressList, *, smtputf8: bool) -> bytes:
    """Return an address list written anew with the same meaning. Raises `AddressListError`, `MalformedHeader`."""
    shown = _shown_name(headers, field)
    if not smtputf8:
        for address in addresses_in(parts):
            if not address.isascii():
                raise MalformedHeader(
                    f"{shown}: the address {address[:60]} has characters outside ASCII: the mail program has to say "
                    "SMTPUTF8 in MAIL FROM"
                )
    written = write_address_list(headers.data[field.start : field.value_start], parts, utf8=smtputf8)
    value = written[field.value_start - field.start :].replace(b"\r\n", b"")
    if mailboxes_of(value) != addresses_in(parts):
        raise AddressListError("it can't be written without doubt")
    return written


def _in_ascii(headers: HeaderBlock, field: Field, *, smtputf8: bool) -> bytes | None:
    """Return a field whose text outside ASCII is encoded; None where it may stay (SMTPUTF8)."""
    shown = _shown_name(headers, field)
    value = headers.value(field)
    _check_utf8(shown, value)
    if smtputf8:
        return None
    name = headers.data[field.start : field.value_start]
    kind = kind_of(field.name)
    if kind is FieldKind.PEOPLE:
        try:
            return _written(headers, field, parse_address_list(value), smtputf8=False)
        except AddressListError as error:
            words = f"has characters outside ASCII, and can't be mended: {error}; encode them (RFC 2047)"
            raise MalformedHeader(f"{shown}: {words}") from None
    encode = _ENCODERS.get(kind)
    written = encode(name, value) if encode is not None else None
    if written is None:
        raise MalformedHeader(f"{shown}: has characters outside ASCII where none may stand: write this field in ASCII")
    return written


_ENCODERS = {
    FieldKind.TEXT: encode_text,
    FieldKind.PHRASES: encode_phrases,
    FieldKind.PARAMETERS: encode_parameters,
    FieldKind.STRUCTURED: encode_comments,
}


def _check_utf8(shown: str, value: bytes) -> None:
    try:
        value.decode()
    except UnicodeDecodeError:
        raise MalformedHeader(
            f"{shown}: is not UTF-8: write the message in UTF-8 (iconv -t UTF-8 changes the charset of a file), or "
            "encode the field (RFC 2047)"
        ) from None
