"""The carrier of queue entries for mailboxes here: held messages whose time has come (RFC 4865), and reports.

Addresses are resolved again, because accounts and aliases may have changed while the entry waited. The mailbox rows are
written in the commit of the outcome, so a message is in its mailbox or in the queue, and never in both.
"""

import asyncio
import logging
from collections.abc import Callable

from msgspec.structs import replace

from waypost.delivery.plan import Planner
from waypost.delivery.resolve import AddressBook, Resolution
from waypost.message.envelope import Recipient
from waypost.message.trace import Micros, format_trace_id
from waypost.queue.carrier import AttemptResult, CarryResult, EntrySource, Fate, RecipientResult
from waypost.storage import Damaged, QueueEntry, StorageError

log = logging.getLogger(__name__)

_AT_ONCE = 8  # deliveries that share a commit
_REST = 30_000_000  # microseconds, when storage is in trouble


class LocalDelivery:
    """Puts the messages of entries into the mailboxes of their recipients."""

    def __init__(self, book: AddressBook, planner: Planner, *, hostname: str, now: Callable[[], Micros]) -> None:
        self._book = book
        self._planner = planner
        self._hostname = hostname
        self._now = now

    async def carry(self, destination: str, source: EntrySource) -> CarryResult:
        """Deliver all due entries; rest for a while when storage is in trouble."""
        fine = await asyncio.gather(*(self._deliver_all(source) for _ in range(_AT_ONCE)))
        return CarryResult() if all(fine) else CarryResult(self._now() + _REST)

    async def _deliver_all(self, source: EntrySource) -> bool:
        while (entry := await source.take(0)) is not None:
            try:
                result = await self.deliver(entry)
            except StorageError as error:
                source.give_back(entry)
                fields = {"trace": format_trace_id(entry.trace), "error": str(error)}
                log.warning("a delivery must wait for storage", extra={"fields": fields})
                return False
            except Exception:
                fields = {"trace": format_trace_id(entry.trace), "entry": str(entry.id)}
                log.exception("a bug in a delivery", extra={"fields": fields})
                result = self._failed(entry)
            await source.report(result)
        return True

    def _failed(self, entry: QueueEntry) -> AttemptResult:
        """Return the result of an attempt that a bug of ours ended: it defers this entry, and no other."""
        problem = "something went wrong on our side"
        results = (RecipientResult(one, Fate.DEFERRED, "4.3.0", problem=problem) for one in entry.recipients)
        now = self._now()
        return AttemptResult(entry, started=now, ended=now, results=tuple(results), host=self._hostname)

    async def deliver(self, entry: QueueEntry) -> AttemptResult:
        """Return the result of delivering an entry; its mailbox rows are written with it. Raises `StorageError`."""
        started = self._now()
        results: list[RecipientResult] = []
        reached: list[tuple[Recipient, Resolution | None]] = []
        for recipient in entry.recipients:
            try:
                found = await self._book.resolve(recipient.address, entry.size)
            except Damaged as error:  # a person must mend it; mail for others must not wait for that
                fields = {"trace": format_trace_id(entry.trace), "recipient": str(recipient.address)}
                log.error("recipient not resolved", extra={"fields": {**fields, "error": str(error)}})
                problem = "the address can't be looked up on this server for the moment"
                results.append(RecipientResult(recipient, Fate.DEFERRED, "4.3.0", problem=problem))
                continue
            results.append(_result(recipient, found))
            if found.somebody:
                reached.append((recipient, found))
        # The entry is due, by its time or by an operator's command: nothing holds it any more.
        plan = self._planner.arrange(reached, replace(entry.envelope, hold_until=None), self._now())
        return AttemptResult(
            entry=entry,
            started=started,
            ended=self._now(),
            results=tuple(results),
            host=self._hostname,
            deliveries=plan.deliveries,
            forwards=plan.entries,
        )


def _result(recipient: Recipient, found: Resolution) -> RecipientResult:
    mailboxes = tuple(account.address for account in found.accounts)
    if found.somebody and found.group and (found.forwards or found.full):
        return RecipientResult(recipient, Fate.EXPANDED, "2.1.5", mailboxes=mailboxes)
    if found.accounts:
        return RecipientResult(recipient, Fate.DELIVERED, "2.1.5", mailboxes=mailboxes)
    if found.forwards:
        return RecipientResult(recipient, Fate.FORWARDED, "2.1.5")
    if found.full:
        return RecipientResult(recipient, Fate.DEFERRED, "4.2.2", problem="the mailbox is full")
    if found.disabled:
        return RecipientResult(recipient, Fate.FAILED, "5.2.1", problem="the mailbox is closed")
    return RecipientResult(recipient, Fate.FAILED, "5.1.1", problem="there is no such user here")
