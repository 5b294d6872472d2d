"""What an account may send in an hour and a day, so that a stolen password can't spend its owner's name.

A message is counted in its own commit, for all workers, or refused there (`storage/spending.py`): what is not stored
costs nothing, and nobody gets too much. An account that was refused is asked for its sums before the next commit, so
that a flood of refused messages writes nothing.
"""

import logging

from waypost.config.settings import Submission
from waypost.intake import Outcome, Transaction
from waypost.message.trace import Micros
from waypost.protocol.reply import Reply
from waypost.protocol.smtp import replies
from waypost.storage import Directory, Expense

log = logging.getLogger(__name__)


class Budget:
    """Says what messages cost by the settings, and remembers whose were refused."""

    def __init__(self, directory: Directory, settings: Submission) -> None:
        self._directory = directory
        self._settings = settings
        self._refused: set[str] = set()  # accounts whose last message was not stored

    async def ask(self, transaction: Transaction, account: str, recipients: int, now: Micros) -> Reply | None:
        """Put what one message costs into its transaction; returns the refusal when that is known to be too much.

        Raises `StorageError`.
        """
        settings = self._settings
        expense = Expense(
            account,
            recipients,
            settings.messages_per_hour,
            settings.messages_per_day,
            settings.recipients_per_hour,
            settings.recipients_per_day,
        )
        if account in self._refused:
            exceeded = expense.exceeded(*await self._directory.spent(account, now))
            if exceeded is not None:
                log.warning("sending limit reached", extra={"fields": {"account": account, "limit": exceeded}})
                return replies.spent(exceeded)
        transaction.spend(expense)
        transaction.when_ended(lambda outcome: self._remember(account, outcome))
        return None

    def _remember(self, account: str, outcome: Outcome) -> None:
        if outcome is Outcome.STORED:
            self._refused.discard(account)
        else:
            self._refused.add(account)
