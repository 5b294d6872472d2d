"""Limits what an account may send in an hour and a day, so that a stolen password can't ruin the host's reputation.

A message is counted for all workers in its own commit, or refused there (`storage/spending.py`): a message that is not
stored does not count, and no account exceeds its limit. After a refusal, the account's sums are read before the next
commit, so that a flood of refused messages writes nothing.
"""

import logging

from waypost.config.settings import Submission
from waypost.intake import Transaction, TransactionEnd
from waypost.message.trace import Micros
from waypost.protocol.reply import Reply
from waypost.protocol.smtp import replies
from waypost.storage import Directory, Expense

log = logging.getLogger(__name__)


class SpendingLimits:
    """Counts messages against the limits of the settings, and remembers the accounts that were refused."""

    def __init__(self, directory: Directory, settings: Submission) -> None:
        self._directory = directory
        self._settings = settings
        self._refused: set[str] = set()  # accounts whose last message was not stored

    async def ask(self, transaction: Transaction, account: str, recipients: int, now: Micros) -> Reply | None:
        """Record in a message's transaction what it counts; return a refusal if the limit is known to be reached.

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

    def _remember(self, account: str, outcome: TransactionEnd) -> None:
        if outcome is TransactionEnd.STORED:
            self._refused.discard(account)
        else:
            self._refused.add(account)
