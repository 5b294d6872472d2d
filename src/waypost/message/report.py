"""The contents of a delivery status notification as values (RFC 3464); `dsn.py` writes it."""

from dataclasses import dataclass
from enum import StrEnum

from waypost.message.address import Address
from waypost.message.envelope import Envelope, Recipient
from waypost.message.reply import Reply
from waypost.message.trace import Micros, TraceId


class Action(StrEnum):
    """What became of the message (RFC 3464 2.3.3)."""

    FAILED = "failed"
    DELAYED = "delayed"
    DELIVERED = "delivered"
    RELAYED = "relayed"
    EXPANDED = "expanded"


@dataclass(frozen=True, slots=True)
class Concerned:
    """One recipient of a report: its RFC 3463 status, and what the peer said or, where none spoke, the problem."""

    recipient: Recipient
    status: str
    reply: Reply | None = None
    problem: str | None = None


@dataclass(frozen=True, slots=True)
class Report:
    """Everything that a report tells; its recipients share one action.

    `to` is the reverse-path of the message; `arrived` is when the message came to us; `remote` the name or
    `[address]` of the server that was spoken to; `header` the message's header block, `content` the whole message
    where that is returned.
    """

    action: Action
    trace: TraceId
    date: Micros
    hostname: str
    to: Address
    about: TraceId
    envelope: Envelope
    arrived: Micros
    concerned: tuple[Concerned, ...]
    header: bytes
    content: bytes | None = None
    remote: str | None = None
    last_attempt: Micros | None = None
    retry_until: Micros | None = None
