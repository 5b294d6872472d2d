"""Trace fields that came with a message, and ours: no stranger's words stand in a field that we write (RFC 5321 4.4).

Fields are put in front of a header. So its first line must be a field of its own, and a Return-Path or Delivered-To
that is in the place of ours goes where the message is delivered here. A message that is only relayed keeps all of its
fields, as RFC 5321 4.4 asks.
"""

from collections.abc import Collection

from waypost.message.headers import Field, HeaderBlock

_ORPHAN = b"X-Orphaned-Continuation:"
_OURS = frozenset({b"return-path", b"delivered-to"})


def begun_by_a_field(header: bytes) -> bytes:
    """Return a header whose first line continues nothing.

    A line that begins with white space continues the field before it (RFC 5322 2.2.3), and before the first line there
    will be ours. It gets a name, so that no octet is lost and all fields behind it are still found.
    """
    return _ORPHAN + header if header[:1] in (b" ", b"\t") else header


def without_delivery_fields(headers: HeaderBlock, header: bytes, addresses: Collection[str]) -> bytes:
    """Return `header` as it is delivered: without Return-Path, and without the Delivered-To of these addresses, which
    are in lower case: ours will say the same (RFC 9228). `headers` are the fields that came.
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
