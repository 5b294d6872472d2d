"""Trace fields that came with a message: they must not become part of the fields that we write (RFC 5321 4.4).

Our fields are put before the header. So its first line must not continue them, and a Return-Path or Delivered-To that
looks like ours is removed from a message that is delivered here. A message that is only relayed keeps all its fields,
as RFC 5321 4.4 demands.
"""

from collections.abc import Collection

from waypost.message.headers import Field, HeaderBlock

_ORPHAN = b"X-Orphaned-Continuation:"
_OURS = frozenset({b"return-path", b"delivered-to"})


def begun_by_a_field(header: bytes) -> bytes:
    """Return a header whose first line begins a field.

    A line that begins with white space continues the field before it (RFC 5322 2.2.3), which would be one of ours. Such
    a line gets a field name, so that no octet is lost and all fields after it are still found.
    """
    return _ORPHAN + header if header[:1] in (b" ", b"\t") else header


def without_delivery_fields(headers: HeaderBlock, header: bytes, addresses: Collection[str]) -> bytes:
    """Return `header` for delivery: without Return-Path, and without Delivered-To fields of these addresses (in lower
    case), since we write our own (RFC 9228). `headers` are the fields that came.
    """
    if not any(field.name in _OURS for field in headers.fields):  # as in almost all messages
        return header
    block = headers if headers.data is header else HeaderBlock(header)
    return block.without_fields([field for field in block.fields if _is_in_the_place_of_ours(block, field, addresses)])


def _is_in_the_place_of_ours(block: HeaderBlock, field: Field, addresses: Collection[str]) -> bool:
    if field.name == b"return-path":
        return True
    if field.name != b"delivered-to":
        return False
    return block.value(field).strip(b"<> \t").decode("utf-8", "replace").lower() in addresses
