"""Journal: what happened to each message, station by station; `waypost trace` reads it.

Events are written in the commit of the deed itself, so the journal never tells of what did not happen.
"""

from typing import Protocol

from waypost.journal import Event
from waypost.message.trace import Micros, TraceId


class Journal(Protocol):
    """Reads the journal."""

    async def of(self, trace: TraceId) -> list[Event]:
        """Return the events of one message, oldest first; empty when it is unknown."""
        ...

    async def find_message_id(self, message_id: str) -> list[TraceId]:
        """Return the messages with this Message-ID header field (`<...>`), oldest first."""
        ...

    async def newest(self) -> TraceId:
        """Return the largest trace id in use, 0 if there is none."""
        ...

    async def expire(self, before: Micros, limit: int = 10_000) -> int:
        """Drop events and Message-IDs older than `before`, up to `limit` of each, except those of messages in the
        queue; return how many, 0 when nothing is left to drop.
        """
        ...
