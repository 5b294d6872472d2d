"""Journal: what happened to each message, station by station; `waypost trace` reads it.

Events are written in the commit of the deed itself, so the journal never tells of what did not happen.
"""

from enum import StrEnum
from typing import Any, Protocol

import msgspec

from waypost.message.trace import Micros, TraceId


class Station(StrEnum):
    """Where on the road an event happened (RFC 5598 roles)."""

    SUBMITTED = "submitted"  # an MSA took it: account, peer, TLS, recipients
    RECEIVED = "received"  # an MX took it: peer, HELO, TLS, recipients
    CHECKED = "checked"  # what checks found while it arrived: `verdicts`, each with method, result and value
    GENERATED = "generated"  # we made it: a DSN
    QUEUED = "queued"  # an entry was made: destination, recipients
    ATTEMPT = "attempt"  # a delivery attempt: host, address, TLS, replies, next attempt
    RELAYED = "relayed"  # a next hop took it
    DELIVERED = "delivered"  # it is in a mailbox
    DELAYED = "delayed"  # the sender was told that it waits
    RETURNED = "returned"  # it was given up; `dsn` names the report's trace id, if one was made
    HELD = "held"  # an operator held or released it, by hand
    DELETED = "deleted"  # an operator deleted it


class Event(msgspec.Struct, frozen=True):
    """One line of a message's way. `details` holds JSON values: peer, reply, tls, recipients, ..."""

    trace: TraceId
    time: Micros
    station: Station
    details: dict[str, Any] = msgspec.field(default_factory=dict)


class Journal(Protocol):
    """Reads the journal."""

    async def of(self, trace: TraceId) -> list[Event]:
        """Return the events of one message, oldest first; empty when it is unknown."""
        ...

    async def find_message_id(self, message_id: str) -> list[TraceId]:
        """Return the messages with this Message-ID header field (`<...>`), oldest first."""
        ...

    async def newest(self) -> TraceId:
        """Return the largest trace id in use, 0 when there is none."""
        ...

    async def expire(self, before: Micros, limit: int = 10_000) -> int:
        """Drop events and Message-IDs older than `before`, up to `limit` of each, except those of messages in the
        queue; return how many, 0 when nothing is left to drop.
        """
        ...
