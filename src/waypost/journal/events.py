"""The kinds of events, one type each: what happened to a message at one station of its way (RFC 5598 roles).

A new kind is a class here, a member of `Details`, and its words in `journal/reading.py` and `cli/trace.py`, which the
type checker asks for. A new field has a default: rows from before lack it. A name means the same in every kind.
"""

from enum import StrEnum
from typing import Any, ClassVar

import msgspec

from waypost.message.reply import Reply
from waypost.message.trace import Micros, TraceId
from waypost.message.verdict import Verdict


class Station(StrEnum):
    """Where on the road an event happened: the name of its kind, in rows and for programs."""

    SUBMITTED = "submitted"
    RECEIVED = "received"
    CHECKED = "checked"
    GENERATED = "generated"
    QUEUED = "queued"
    ATTEMPT = "attempt"
    RELAYED = "relayed"
    DELIVERED = "delivered"
    DELAYED = "delayed"
    RETURNED = "returned"
    HELD = "held"
    DELETED = "deleted"


class HeldAction(StrEnum):
    """What became of an entry that leaves the schedule, or comes back to it."""

    HELD = "held"
    RELEASED = "released"
    SET_ASIDE = "set aside"


class _Kind(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What all kinds have in common: how they are written."""

    of_peer: ClassVar[bool] = False
    """True for what another host did: it is told even of an entry that was deleted meanwhile."""


class _Arrival(_Kind, frozen=True, kw_only=True, omit_defaults=True):
    """A message came in. `sender` is the reverse-path or `<>`; None in rows of an older version. Sizes are octets."""

    peer: str | None = None
    helo: str | None = None
    tls: str | None = None
    sender: str | None = None
    recipients: tuple[str, ...]
    size: int | None = None
    message_id: str | None = None


class Submitted(_Arrival, frozen=True, kw_only=True, omit_defaults=True):
    """An MSA took the message from an account."""

    station: ClassVar[Station] = Station.SUBMITTED

    account: str


class Received(_Arrival, frozen=True, kw_only=True, omit_defaults=True):
    """An MX took the message from another host."""

    station: ClassVar[Station] = Station.RECEIVED


class Checked(_Kind, frozen=True, kw_only=True, omit_defaults=True):
    """What checks found out about the message or its client while it arrived."""

    station: ClassVar[Station] = Station.CHECKED

    verdicts: tuple[Verdict, ...]


class Generated(_Kind, frozen=True, kw_only=True, omit_defaults=True):
    """We made the message: a report of this `kind`, `about` another message."""

    station: ClassVar[Station] = Station.GENERATED

    kind: str
    about: TraceId | None = None
    recipients: tuple[str, ...]


class Queued(_Kind, frozen=True, kw_only=True, omit_defaults=True):
    """An entry was made; nobody tries it before `not_before`."""

    station: ClassVar[Station] = Station.QUEUED

    destination: str
    recipients: tuple[str, ...]
    not_before: Micros | None = None


class _AtServer(_Kind, frozen=True, kw_only=True, omit_defaults=True):
    """A server was spoken to, or was to be: its name, IP address and port, our IP address, the TLS of the connection.

    `note` says what is wrong with the way to it, though it was used; `moved`, why `source` is another one than before.
    """

    of_peer: ClassVar[bool] = True

    destination: str | None = None
    host: str | None = None
    address: str | None = None
    source: str | None = None
    tls: str | None = None
    note: str | None = None
    moved: str | None = None


class AttemptFailed(_AtServer, frozen=True, kw_only=True, omit_defaults=True):
    """A delivery attempt failed for these recipients; `next_attempt` None: they are given up.

    `reply` is what the peer said; `problem` says in plain words what went wrong where no peer spoke.
    """

    station: ClassVar[Station] = Station.ATTEMPT

    recipients: tuple[str, ...]
    reply: Reply | None = None
    problem: str | None = None
    status: str | None = None
    next_attempt: Micros | None = None


class Relayed(_AtServer, frozen=True, kw_only=True, omit_defaults=True):
    """A next hop took the message."""

    station: ClassVar[Station] = Station.RELAYED

    recipients: tuple[str, ...]
    reply: Reply | None = None


class Delivered(_Kind, frozen=True, kw_only=True, omit_defaults=True):
    """The message is in a mailbox."""

    station: ClassVar[Station] = Station.DELIVERED

    recipients: tuple[str, ...]
    mailbox: str | None = None


class Delayed(_Kind, frozen=True, kw_only=True, omit_defaults=True):
    """The sender was told, by the report `dsn`, that the message waits."""

    station: ClassVar[Station] = Station.DELAYED

    recipients: tuple[str, ...]
    reply: Reply | None = None
    problem: str | None = None
    dsn: TraceId | None = None


class Returned(_Kind, frozen=True, kw_only=True, omit_defaults=True):
    """The message was given up for these recipients; `dsn` is the report about it, if one was made."""

    station: ClassVar[Station] = Station.RETURNED

    recipients: tuple[str, ...]
    reply: Reply | None = None
    problem: str | None = None
    status: str | None = None
    dsn: TraceId | None = None


class Held(_Kind, frozen=True, kw_only=True, omit_defaults=True):
    """An entry was held or released by an operator, or set aside for a `problem`."""

    station: ClassVar[Station] = Station.HELD

    action: HeldAction
    problem: str | None = None


class Deleted(_Kind, frozen=True, kw_only=True, omit_defaults=True):
    """An operator deleted the entry for this destination."""

    station: ClassVar[Station] = Station.DELETED

    destination: str


class Unknown(_Kind, frozen=True, kw_only=True, omit_defaults=True):
    """An event that this version can't read as one of its kinds: of a newer version, mostly. It is shown as it is."""

    station: str
    values: dict[str, Any] = msgspec.field(default_factory=dict)


Details = (
    Submitted
    | Received
    | Checked
    | Generated
    | Queued
    | AttemptFailed
    | Relayed
    | Delivered
    | Delayed
    | Returned
    | Held
    | Deleted
    | Unknown
)
"""All kinds of events."""


class Event(msgspec.Struct, frozen=True):
    """One line of a message's way."""

    trace: TraceId
    time: Micros
    details: Details

    @property
    def station(self) -> str:
        """The name of its kind; a `Station`, except for kinds of newer versions."""
        return self.details.station
