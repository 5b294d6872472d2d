"""One message on its way in, from MAIL to its end: what it is, what is found out and decided about it, and what runs
for it meanwhile.

A policy makes it at MAIL; the session ends it, exactly once. What is decided in between is written in the commit of
the message; without that commit it is written nowhere.
"""

import asyncio
import logging
from collections.abc import Callable, Coroutine
from enum import Enum, auto
from typing import TYPE_CHECKING, Any

import msgspec

from waypost.delivery.plan import Filing
from waypost.delivery.resolve import Reached
from waypost.intake.client import Client
from waypost.intake.content import Content
from waypost.intake.tasks import Patience, TransactionTasks, Work
from waypost.message.envelope import Envelope, Recipient
from waypost.message.folding import folded
from waypost.message.verdict import Verdict
from waypost.protocol.reply import Reply
from waypost.storage import Account, Expense

if TYPE_CHECKING:
    from waypost.intake.policy import Judge


log = logging.getLogger(__name__)


class Outcome(Enum):
    """How a transaction ended."""

    STORED = auto()  # for one recipient at least
    REFUSED = auto()
    RESET = auto()  # RSET, or EHLO
    LOST = auto()  # the connection is gone, or the session was ended, before the message was whole


class Admitted(msgspec.Struct):
    """A recipient that was taken, and where it leads: None for an address elsewhere.

    `refusal` is set where the message is not for this one after all. LMTP answers it so; in SMTP, where one answer is
    for all, it counts when all are refused.
    """

    recipient: Recipient
    reached: Reached | None = None
    refusal: Reply | None = None

    def has_room(self, size: int) -> bool:
        """True unless it leads to mailboxes only, and `size` octets fit into none of them."""
        return self.reached is None or self.reached.has_room(size)


class Transaction:
    """One message of one client. `judge` answers for it at each further step (`intake/policy.py`).

    `envelope` is what MAIL said, without recipients: they are in `admitted`, in order. `tasks` are those of the worker;
    None where nothing is run.
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
        """What the recipients lead to, counted once for each of them."""
        self.content: Content | None = None
        self.verdicts: list[Verdict] = []
        """What was found out, for the journal."""
        self.fields = b""
        """Header fields of ours that go in front, with their line ends."""
        self.filings: dict[int, Filing] = {}
        """Where the message goes in an account, by the account's id; elsewhere it goes into INBOX without flags."""
        self.expense: Expense | None = None
        """What the message costs its sender's account."""
        self.outcome: Outcome | None = None
        """How it ended; None while it goes on."""
        self._tasks = tasks
        self._works: list[Work] = []
        self._taps: list[Callable[[bytes], object]] = []
        self._ends: list[Callable[[Outcome], object]] = []

    # What a policy does with it.

    def admit(self, admitted: Admitted) -> None:
        """Add a recipient that was taken."""
        self.admitted.append(admitted)
        if admitted.reached is not None:
            self.reached_in_all += admitted.reached.size

    def tap(self, take: Callable[[bytes], object]) -> None:
        """Let `take` have the octets of the body as they arrive, in order: what follows the blank line behind the
        header, dots unstuffed and line ends CRLF. They are the very objects that go to storage. Before DATA only.

        It runs in the event loop, so it works on a piece for some microseconds a KiB at most. What it raises is a
        fault of ours: the message is answered 451.
        """
        if self.content is not None:
            raise RuntimeError("a tap comes before the content")
        self._taps.append(take)

    def run(self, work: Coroutine[Any, Any, None], patience: Patience | None = None) -> Work:
        """Run a coroutine while the message arrives, as soon as the worker has a place for it.

        The message waits for it before it is examined, for as long as `patience` lasts; without one, not at all. At the
        end of the transaction it is cancelled. What it raises is a fault of ours: the message is answered 451.
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
        """Put a header field in front of the message, above those that were put there before; it is folded at 78
        (`message/folding.py`). Raises `ValueError` for a name that is no field name (RFC 5322 2.2)."""
        self.fields = folded(name, value) + self.fields

    def file(self, account: Account, filing: Filing) -> None:
        """Say where the message goes in one account, and with which flags, when it is delivered with its commit."""
        self.filings[account.id] = filing

    def spend(self, expense: Expense) -> None:
        """Count this to an account in the message's commit; the message is refused if that is too much."""
        self.expense = expense

    def when_ended(self, told: Callable[[Outcome], object]) -> None:
        """Call `told` once, at the end."""
        self._ends.append(told)

    # What the session does with it.

    @property
    def recipients(self) -> tuple[Recipient, ...]:
        """All recipients that were taken, in order."""
        return tuple(one.recipient for one in self.admitted)

    def open_content(self, content: Content) -> None:
        """The content begins."""
        content.taps = tuple(self._taps)
        self.content = content

    async def settle(self) -> None:
        """Wait for what runs, as long as it may delay the reply. Raises what one of the works raised."""
        for work in self._works:
            await work.wait()
        for work in tuple(self._works):
            if (failure := work.failure) is not None:
                self._works.remove(work)
                raise failure

    def end(self, outcome: Outcome) -> set[asyncio.Task[None]]:
        """End it; a second call does nothing. The content is given back, and what runs is cancelled. Returns the tasks
        that have still to stop, which is at their next turn: `stopped` waits for them.
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
