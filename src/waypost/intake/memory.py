"""Memory for content that arrives, in one worker: headers that are held back, and bodies that are not on disk yet.

Each message has a limit of its own; this is the limit of all of them together. Past it bodies go to disk early, and a
message with a large header is answered 452 (docs/decisions/0031).
"""


class ArrivingMemory:
    """Counts octets. `limit` is of all messages together; a body holds at most `per_message` before it goes to disk."""

    __slots__ = ("limit", "per_message", "used")

    def __init__(self, limit: int, per_message: int) -> None:
        self.limit = limit
        self.per_message = per_message
        self.used = 0

    @property
    def scarce(self) -> bool:
        """True past the limit."""
        return self.used > self.limit
