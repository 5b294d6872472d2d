"""What an account may send in an hour and a day, so that a stolen password can't spend its owner's name.

A message is counted before it is stored, durably and for all workers, and the sums say whether it was too much. When it
was, or when the message was not stored after all, exactly what was counted is taken back: attempts that are refused
cost nothing. Two sessions that reach for the last message at once may both be refused; neither gets too much.
"""

import logging

from waypost.config.settings import Submission
from waypost.message.trace import Micros
from waypost.protocol.reply import Reply
from waypost.protocol.smtp import replies
from waypost.storage import Directory, Spending, StorageError

log = logging.getLogger(__name__)


class Budget:
    """Counts what accounts send against the settings."""

    def __init__(self, directory: Directory, settings: Submission) -> None:
        self._directory = directory
        self._settings = settings

    async def spend(self, account: str, recipients: int, now: Micros) -> Reply | None:
        """Count one message; returns the refusal when that was too much, and then nothing was counted.

        Raises `StorageError`.
        """
        hour, day = await self._directory.spend(account, messages=1, recipients=recipients, now=now)
        limit = self._exceeded(hour, day)
        if limit is None:
            return None
        await self.give_back(account, recipients, now)
        log.warning("sending limit reached", extra={"fields": {"account": account, "limit": limit}})
        return replies.spent(limit)

    def _exceeded(self, hour: Spending, day: Spending) -> str | None:
        """Return the name of the first limit that the sums exceed."""
        settings = self._settings
        for spent, limit, name in (
            (hour.messages, settings.messages_per_hour, "messages an hour"),
            (day.messages, settings.messages_per_day, "messages a day"),
            (hour.recipients, settings.recipients_per_hour, "recipients an hour"),
            (day.recipients, settings.recipients_per_day, "recipients a day"),
        ):
            if spent > limit:
                return f"{limit} {name}"
        return None

    async def give_back(self, account: str, recipients: int, now: Micros) -> None:
        """Take back what was counted at `now`: the message was not stored.

        When that fails, too, the account has a little less until its hour is over.
        """
        try:
            await self._directory.spend(account, messages=-1, recipients=-recipients, now=now)
        except StorageError as error:
            fields = {"account": account, "recipients": recipients, "error": str(error)}
            log.warning("a message that was not stored stays counted", extra={"fields": fields})
