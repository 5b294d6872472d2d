"""How values stand in rows: compact JSON arrays for envelopes, recipients and events; Latin-1 text for octets.

What reads them raises `Damaged` for a value that nobody here wrote. They are asked for as octets (CAST AS BLOB): a
flipped bit in a text would else be an error of the whole statement.

A whole group of rows goes to SQLite as one JSON text (`json_each`), so that one statement writes them all and the
interpreter's lock changes hands once a statement instead of once a row.
"""

from functools import lru_cache
from typing import Any, Literal

import msgspec

from waypost.journal import Event, UnreadableEvent
from waypost.journal import decode as decode_events
from waypost.message.address import Address
from waypost.message.envelope import (
    BodyType,
    DeliverBy,
    Envelope,
    Notify,
    OriginalRecipient,
    Recipient,
    Ret,
)
from waypost.message.trace import Micros, TraceId
from waypost.storage.errors import Damaged
from waypost.storage.outage import Point

encode = msgspec.json.Encoder().encode
decode = msgspec.json.Decoder().decode
_points = msgspec.json.Decoder(tuple[Point, ...]).decode
_texts = msgspec.json.Decoder(list[str]).decode

_MOST_ENVELOPES = 500  # remembered
_MOST_OUTAGES = 500  # ... of destinations

_WRONG = (ValueError, TypeError, LookupError)  # raised by the readers below for a value of another kind


def text(value: Any) -> str:
    """Return a JSON value as text."""
    return encode(value).decode()


def latin1_text(data: bytes) -> str:
    """Return octets as text that holds them one to one."""
    return data.decode("latin-1")


def recipients_text(recipients: tuple[Recipient, ...]) -> str:
    """Return recipients as a JSON array of arrays."""
    return text(
        [
            [
                _local(recipient.address),
                recipient.address.domain,
                None if recipient.notify is None else int(recipient.notify),
                *((recipient.original.kind, recipient.original.address) if recipient.original else ()),
            ]
            for recipient in recipients
        ]
    )


def recipients_from(value: str | bytes) -> tuple[Recipient, ...]:
    """Read what `recipients_text` wrote. Raises `Damaged`."""
    try:
        return tuple(
            Recipient(
                _address(row[0], row[1]),
                None if row[2] is None else Notify(row[2]),
                OriginalRecipient(row[3], row[4]) if len(row) > 3 else None,
            )
            for row in decode(value)
        )
    except _WRONG as error:
        raise Damaged("its recipients can't be read") from error


def _local(address: Address) -> str | tuple[str]:
    """Return a local part as it stands in a row: as an array of one where it must go on in quotes."""
    return (address.local,) if address.quoted else address.local


def _address(local: object, domain: object) -> Address:
    if isinstance(local, list | tuple):
        (quoted,) = local
        if isinstance(quoted, str) and isinstance(domain, str):
            return Address(quoted, domain, True)
    if isinstance(local, str) and isinstance(domain, str):
        return Address(local, domain)
    raise TypeError("an address is two texts")


class StoredEnvelope(msgspec.Struct, array_like=True):
    """An envelope without its recipients as it stands in a row: an array in this order.

    A new field comes last and has a default, which is what rows from before it say.
    """

    reverse_path: tuple[str | tuple[str], str] | None
    body: BodyType
    smtputf8: bool
    size: int | None
    ret: Ret | None
    envid: str | None
    hold_until: Micros | None
    deliver_by: tuple[Micros, Literal["R", "N"], bool] | None
    priority: int


_stored_envelope = msgspec.json.Decoder(StoredEnvelope).decode
DELIVER_BY = StoredEnvelope.__struct_fields__.index("deliver_by")
"""Where an envelope's row says by when it is to be delivered, for statements that ask for it: an array, of which the
time is the first."""


def envelope_text(envelope: Envelope) -> str:
    """Return an envelope without its recipients as a JSON array."""
    path, by = envelope.reverse_path, envelope.deliver_by
    return text(
        StoredEnvelope(
            reverse_path=(_local(path), path.domain) if path else None,
            body=envelope.body,
            smtputf8=envelope.smtputf8,
            size=envelope.size,
            ret=envelope.ret,
            envid=envelope.envid,
            hold_until=envelope.hold_until,
            deliver_by=(by.deadline, by.mode, by.trace) if by else None,
            priority=envelope.priority,
        )
    )


@lru_cache(_MOST_ENVELOPES)
def envelope_from(value: str | bytes) -> Envelope:  # hot: bench/relay
    """Read what `envelope_text` wrote; who sends much sends under one envelope. Raises `Damaged`."""
    try:
        stored = _stored_envelope(value)
    except _WRONG as error:
        raise Damaged("its envelope can't be read") from error
    return Envelope(
        reverse_path=_address(*stored.reverse_path) if stored.reverse_path else None,
        body=stored.body,
        smtputf8=stored.smtputf8,
        size=stored.size,
        ret=stored.ret,
        envid=stored.envid,
        hold_until=stored.hold_until,
        deliver_by=DeliverBy(*stored.deliver_by) if stored.deliver_by else None,
        priority=stored.priority,
    )


def events_from(trace: TraceId, value: str | bytes) -> list[Event]:
    """Read the events of a message. Raises `Damaged`."""
    try:
        return decode_events(trace, value)
    except UnreadableEvent as error:
        raise Damaged("its events can't be read") from error


@lru_cache(_MOST_OUTAGES)
def points_from(value: str | None) -> tuple[Point, ...]:
    """Read the failed rounds of a destination; none where they can't be read: then its entries only live longer."""
    try:
        return _points(value) if value else ()
    except _WRONG:
        return ()


def points_text(points: tuple[Point, ...]) -> str:
    """Return failed rounds as a JSON array of arrays."""
    return text(points)


def texts_from(value: str | bytes, what: str) -> list[str]:
    """Read a JSON array of texts. Raises `Damaged`, which names `what` it is."""
    try:
        return list(_texts(value))
    except _WRONG as error:
        raise Damaged(f"{what} can't be read") from error
