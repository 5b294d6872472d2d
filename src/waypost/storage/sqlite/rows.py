"""How values stand in rows: compact JSON arrays for envelopes, recipients and events; Latin-1 text for octets.

What reads them raises `Damaged` for a value that nobody here wrote.

A whole group of rows goes to SQLite as one JSON text (`json_each`), so that one statement writes them all and the
interpreter's lock changes hands once a statement instead of once a row.
"""

from functools import lru_cache
from typing import Any

import msgspec

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
from waypost.message.trace import TraceId
from waypost.storage.errors import Damaged
from waypost.storage.journal import Event, Station

encode = msgspec.json.Encoder().encode
decode = msgspec.json.Decoder().decode
_texts = msgspec.json.Decoder(list[str]).decode

_MOST_ENVELOPES = 500  # remembered

_WRONG = (ValueError, TypeError, LookupError)  # what the readers below say of a value that is none of theirs


def text(value: Any) -> str:
    """Return a JSON value as text."""
    return encode(value).decode()


def latin(data: bytes) -> str:
    """Return octets as text that holds them one to one."""
    return data.decode("latin-1")


def recipients_text(recipients: tuple[Recipient, ...]) -> str:
    """Return recipients as a JSON array of arrays."""
    return text(
        [
            [
                recipient.address.local,
                recipient.address.domain,
                None if recipient.notify is None else int(recipient.notify),
                *((recipient.original.kind, recipient.original.address) if recipient.original else ()),
            ]
            for recipient in recipients
        ]
    )


def recipients_from(value: str) -> tuple[Recipient, ...]:
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


def _address(local: object, domain: object) -> Address:
    if isinstance(local, str) and isinstance(domain, str):
        return Address(local, domain)
    raise TypeError("an address is two texts")


def envelope_text(envelope: Envelope) -> str:
    """Return an envelope without its recipients as a JSON array."""
    path, by = envelope.reverse_path, envelope.deliver_by
    return text(
        [
            [path.local, path.domain] if path else None,
            envelope.body.value,
            envelope.smtputf8,
            envelope.size,
            envelope.ret.value if envelope.ret else None,
            envelope.envid,
            envelope.hold_until,
            [by.deadline, by.mode, by.trace] if by else None,
            envelope.priority,
        ]
    )


@lru_cache(_MOST_ENVELOPES)
def envelope_from(value: str) -> Envelope:  # hot: bench/relay
    """Read what `envelope_text` wrote; who sends much sends under one envelope. Raises `Damaged`."""
    try:
        path, body, smtputf8, size, ret, envid, hold_until, by, priority = decode(value)
        return Envelope(
            reverse_path=_address(*path) if path else None,
            body=BodyType(body),
            smtputf8=smtputf8,
            size=size,
            ret=Ret(ret) if ret else None,
            envid=envid,
            hold_until=hold_until,
            deliver_by=DeliverBy(*by) if by else None,
            priority=priority,
        )
    except _WRONG as error:
        raise Damaged("its envelope can't be read") from error


def events_text(events: list[Event]) -> str:
    """Return events of one message as a JSON array of [time, station, details]."""
    return text([[event.time, event.station.value, event.details] for event in events])


def events_from(trace: TraceId, value: str) -> list[Event]:
    """Read what `events_text` wrote. Raises `Damaged`."""
    try:
        return [Event(trace, time, Station(station), details) for time, station, details in decode(value)]
    except _WRONG as error:
        raise Damaged("its events can't be read") from error


def texts_from(value: str, what: str) -> list[str]:
    """Read a JSON array of texts. Raises `Damaged`, which names `what` it is."""
    try:
        return list(_texts(value))
    except _WRONG as error:
        raise Damaged(f"{what} can't be read") from error
