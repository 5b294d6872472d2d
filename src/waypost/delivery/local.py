"""Delivery of queue entries whose domain is hosted here: messages that were held until their time (RFC 4865)."""

from collections.abc import Callable

from waypost.delivery.plan import Planner
from waypost.delivery.resolve import AddressBook, Reached
from waypost.message.envelope import Recipient
from waypost.message.trace import Micros
from waypost.queue.carrier import AttemptResult, Fate, RecipientResult
from waypost.storage import QueueEntry


class LocalDelivery:
    """Puts the message of an entry into the mailboxes of its recipients."""

    def __init__(self, book: AddressBook, planner: Planner, *, hostname: str, now: Callable[[], Micros]) -> None:
        self._book = book
        self._planner = planner
        self._hostname = hostname
        self._now = now

    async def deliver(self, entry: QueueEntry) -> AttemptResult:
        """Return the result of delivering an entry; its mailbox rows are written with it."""
        started = self._now()
        results: list[RecipientResult] = []
        reached: list[tuple[Recipient, Reached | None]] = []
        for recipient in entry.recipients:
            found = await self._book.resolve(recipient.address, entry.size)
            results.append(self._result(recipient, found))
            if found.somebody:
                reached.append((recipient, found))
        plan = self._planner.arrange(reached, entry.envelope, self._now())
        return AttemptResult(
            entry=entry,
            started=started,
            ended=self._now(),
            results=tuple(results),
            host=self._hostname,
            deliveries=plan.deliveries,
            forwards=plan.entries,
        )

    @staticmethod
    def _result(recipient: Recipient, found: Reached) -> RecipientResult:
        if found.accounts:
            return RecipientResult(recipient, Fate.DELIVERED, "2.1.5")
        if found.forwards:
            return RecipientResult(recipient, Fate.RELAYED, "2.1.5")
        if found.full:
            return RecipientResult(recipient, Fate.DEFERRED, "4.2.2", problem="the mailbox is full")
        if found.disabled:
            return RecipientResult(recipient, Fate.FAILED, "5.2.1", problem="the mailbox is closed")
        return RecipientResult(recipient, Fate.FAILED, "5.1.1", problem="there is no such user here")
