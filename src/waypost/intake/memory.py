"""Limits the memory of arriving messages in one worker: headers that are held back, bodies that are not on disk yet.

Each message has its own limit; this is the limit for all of them together. Past it, bodies go to disk early, and a
message with a large header is refused with 452 (docs/decisions/0031).
"""


class ArrivingMemory:
    """Counts octets. `limit` is for all messages together; a body over `per_message` octets goes to disk."""

    __slots__ = ("limit", "per_message", "used")

    def __init__(self, limit: int, per_message: int) -> None:
        self.limit = limit
        self.per_message = per_message
        self.used = 0

    @property
    def scarce(self) -> bool:
        """True past the limit."""
        return self.used > self.limit
