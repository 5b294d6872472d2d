"""The events of a message's way: one type for each kind, one encoder, one decoder, one reader for people and programs.

The room knows no storage: an engine stores the octets that `encode` makes and gives them back to `decode`.
"""

from waypost.journal.codec import UnreadableEvent, decode, encode
from waypost.journal.events import (
    AttemptFailed,
    Checked,
    Delayed,
    Deleted,
    Delivered,
    Details,
    Event,
    Generated,
    Held,
    HeldAction,
    Queued,
    Received,
    Relayed,
    Returned,
    Station,
    Submitted,
    Unknown,
)
from waypost.journal.reading import fields, phrase, reports_of

__all__ = [
    "AttemptFailed",
    "Checked",
    "Delayed",
    "Deleted",
    "Delivered",
    "Details",
    "Event",
    "Generated",
    "Held",
    "HeldAction",
    "Queued",
    "Received",
    "Relayed",
    "Returned",
    "Station",
    "Submitted",
    "Unknown",
    "UnreadableEvent",
    "decode",
    "encode",
    "fields",
    "phrase",
    "reports_of",
]
