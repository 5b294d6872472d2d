"""One message on its way in, from MAIL to its end: its data, the results of checks, the decisions, and its tasks.

A policy makes it at MAIL; the session ends it, exactly once. Its decisions are written in the commit of the message;
without that commit they are not written at all.
"""

import asyncio
import logging
from collections.abc import Callable, Coroutine
from enum import Enum, auto
from typing import TYPE_CHECKING, Any

import msgspec

from waypost.delivery.plan import Filing
from waypost.delivery.resolve import Resolution
from waypost.intake.client import Client
from waypost.intake.content import ArrivingContent
from waypost.intake.tasks import ReplyDelay, TransactionTasks, Work
from waypost.message.envelope import Envelope, Recipient
from waypost.message.folding import folded
from waypost.message.verdict import Verdict
from waypost.protocol.reply import Reply
from waypost.storage import Account, Expense

if TYPE_CHECKING:
    from waypost.intake.policy import Judge


log = logging.getLogger(__name__)


class TransactionEnd(Enum):
    """How a transaction ended."""

    STORED = auto()  # for one recipient at least
    REFUSED = auto()
    RESET = auto()  # RSET, or EHLO
    LOST = auto()  # the connection is gone, or the session was ended, before the message was whole


class Admitted(msgspec.Struct):
    """A recipient that was accepted at RCPT, and where it leads: None for an address elsewhere.

    `refusal` is set when the message is refused for this recipient after all. In LMTP it is the reply for this
    recipient; in SMTP, where one reply is for all, it counts only when all are refused.
    """

    recipient: Recipient
    reached: Resolution | None = None
    refusal: Reply | None = None

    def has_room(self, size: int) -> bool:
        """True unless it leads to mailboxes only, and `size` octets fit into none of them."""
        return self.reached is None or self.reached.has_room(size)


class Transaction:
    """One message of one client. `judge` decides on it at each further step (`intake/policy.py`).

    `envelope` is that of MAIL, without recipients: they are in `admitted`, in order. `tasks` are those of the worker;
    None where the transaction runs no tasks.
    """

    __slots__ = (
        "_ends",
        "_taps",
        "_tasks",
        "_works",
        "admitted",
        "client",
        "content",
        "envelope",
        "expense",
        "fields",
        "filings",
        "judge",
        "outcome",
        "reached_in_all",
        "verdicts",
    )

    def __init__(
        self, client: Client, envelope: Envelope, judge: "Judge", tasks: TransactionTasks | None = None
    ) -> None:
        self.client = client
        self.envelope = envelope
        self.judge = judge
        self.admitted: list[Admitted] = []
        self.reached_in_all = 0
        """How many mailboxes and addresses the recipients lead to, summed over the recipients."""
        self.content: ArrivingContent | None = None
        self.verdicts: list[Verdict] = []
        """The results of checks, for the journal."""
        self.fields = b""
        """Our header fields, with their line ends; they are put before the header."""
        self.filings: dict[int, Filing] = {}
        """The mailbox and flags of the message by account id. In other accounts it goes into INBOX without flags."""
        self.expense: Expense | None = None
        """What the message counts against the sending limits of its account."""
        self.outcome: TransactionEnd | None = None
        """How the transaction ended; None before its end."""
        self._tasks = tasks
        self._works: list[Work] = []
        self._taps: list[Callable[[bytes], object]] = []
        self._ends: list[Callable[[TransactionEnd], object]] = []

    # What a policy does with it.

    def admit(self, admitted: Admitted) -> None:
        """Add a recipient that was accepted."""
        self.admitted.append(admitted)
        if admitted.reached is not None:
            self.reached_in_all += admitted.reached.size

    def tap(self, take: Callable[[bytes], object]) -> None:
        """Call `take` with the octets of the body as they arrive, in order: everything after the blank line that ends
        the header, dots unstuffed and line ends CRLF. They are the same objects that go to storage. Before DATA only.

        `take` runs in the event loop, so it must not need more than some microseconds a KiB. An exception of it is a
        bug of ours: the message is answered 451.
        """
        if self.content is not None:
            raise RuntimeError("a tap comes before the content")
        self._taps.append(take)

    def run(self, work: Coroutine[Any, Any, None], patience: ReplyDelay | None = None) -> Work:
        """Run a coroutine while the message arrives, as soon as the worker has a place for it.

        Before the message is examined, it waits for the coroutine as long as `patience` lasts; with None it does not
        wait. The end of the transaction cancels the coroutine. An exception of it is a bug of ours: the message is
        answered 451.
        """
        if self._tasks is None or self.outcome is not None:
            work.close()
            raise RuntimeError("this transaction runs no tasks" if self._tasks is None else "the transaction is over")
        piece = self._tasks.run(work, self.client.peer.address, patience)
        self._works.append(piece)
        return piece

    def record(self, verdict: Verdict) -> None:
        """Write a verdict into the journal, in the message's commit."""
        self.verdicts.append(verdict)

    def prepend(self, name: str, value: str) -> None:
        """Put a header field before the message, above those that were put there earlier; it is folded at 78 octets
        (`message/folding.py`). Raises `ValueError` for a name that is not a field name (RFC 5322 2.2)."""
        self.fields = folded(name, value) + self.fields

    def file(self, account: Account, filing: Filing) -> None:
        """Choose the mailbox and the flags of the message in one account, for a delivery in the message's commit."""
        self.filings[account.id] = filing

    def spend(self, expense: Expense) -> None:
        """Count this against an account's limits in the message's commit; if it is too much, the message is refused."""
        self.expense = expense

    def when_ended(self, told: Callable[[TransactionEnd], object]) -> None:
        """Call `told` once, at the end."""
        self._ends.append(told)

    # What the session does with it.

    @property
    def recipients(self) -> tuple[Recipient, ...]:
        """All recipients that were accepted, in order."""
        return tuple(one.recipient for one in self.admitted)

    def open_content(self, content: ArrivingContent) -> None:
        """The content begins."""
        content.taps = tuple(self._taps)
        self.content = content

    async def settle(self) -> None:
        """Wait for the tasks, as long as they may delay the reply. Raises the exception of a task that failed."""
        for work in self._works:
            await work.wait()
        for work in tuple(self._works):
            if (failure := work.failure) is not None:
                self._works.remove(work)
                raise failure

    def end(self, outcome: TransactionEnd) -> set[asyncio.Task[None]]:
        """End the transaction; a second call does nothing. The content is discarded and the tasks are cancelled.

        Returns the tasks that have not stopped yet; they stop at their next turn of the event loop, and `stopped` waits
        for them.
        """
        if self.outcome is not None:
            return set()
        self.outcome = outcome
        if self.content is not None:
            self.content.discard()
        stopping: set[asyncio.Task[None]] = set()
        if self._works:
            works, self._works = self._works, []
            for work in works:
                work.cancel()
            stopping.update(work.task for work in works if work.task is not None and not work.task.done())
        for told in self._ends:
            try:
                told(outcome)
            except Exception:
                log.exception("the end of a transaction could not be told", extra={"fields": self.client.facts})
        return stopping
