"""What a message counts against its account's limits, and the limits themselves. Values only."""

import msgspec

from waypost.storage.directory import Spending


class LimitReached(Exception):
    """A message was not stored: its account may send no more now. `limit` names it: `200 messages an hour`."""

    def __init__(self, limit: str) -> None:
        super().__init__(limit)
        self.limit = limit


class Expense(msgspec.Struct, frozen=True):
    """One message in an account's name, its number of recipients, and what the account may send in an hour and a day.

    It is counted in the commit of its message, for all workers, or the message is not stored.
    """

    account: str
    recipients: int
    messages_per_hour: int
    messages_per_day: int
    recipients_per_hour: int
    recipients_per_day: int

    def exceeded(self, hour: Spending, day: Spending) -> str | None:
        """Return the first limit that this message would exceed, given the sums so far; None when there is room."""
        for spent, limit, name in (
            (hour.messages + 1, self.messages_per_hour, "messages an hour"),
            (day.messages + 1, self.messages_per_day, "messages a day"),
            (hour.recipients + self.recipients, self.recipients_per_hour, "recipients an hour"),
            (day.recipients + self.recipients, self.recipients_per_day, "recipients a day"),
        ):
            if spent > limit:
                return f"{limit} {name}"
        return None
