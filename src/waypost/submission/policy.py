"""The policy of submission: a client must log in, send from its own addresses, and keep its limits (RFC 6409)."""

import asyncio
from collections.abc import Collection
from functools import partial

from msgspec.structs import replace

from waypost.config.settings import Submission
from waypost.delivery.resolve import AddressBook
from waypost.intake import Admitted, Arrived, Client, Examined, Transaction, admit
from waypost.message.envelope import Envelope, Recipient
from waypost.message.headers import HeaderBlock
from waypost.protocol.reply import Reply
from waypost.protocol.smtp import replies
from waypost.storage import Directory
from waypost.submission.completion import MalformedHeader, complete, prepare, read_originators
from waypost.submission.senders import SenderRule, Senders
from waypost.submission.spending import SpendingLimits

_PRIORITIES = (-4, 4)
"""The least and the greatest priority that a user may ask for: from "non-urgent" to "urgent" of the MIXER policy
(RFC 6710). Priorities beyond them are for operators: such a one is changed to the nearest of these, and the reply says
so."""


_LARGE = 4 * 1024  # octets; a larger header is mended in a thread


class SubmissionPolicy:
    """Implements `intake.Policy` for ports 587 and 465, and `intake.Judge` for the messages that arrive there. The
    engine ensures that the client is logged in."""

    def __init__(
        self,
        *,
        book: AddressBook,
        directory: Directory,
        settings: Submission,
        hostname: str,
        domains: Collection[str] = (),
        senders: SenderRule | None = None,
    ) -> None:
        """`domains` are hosted here, in lower case. `senders` decides which addresses an account may use as senders; by
        default its own, and those of `submission.send_as`. Raises `AddressError` for a sender in the settings that is
        not an address.
        """
        self._book = book
        self._directory = directory
        self._senders = senders or Senders(book, settings.send_as)
        self._budget = SpendingLimits(directory, settings)
        self._hostname = hostname
        self._result_names = (hostname.lower(), *domains)

    def hello(self, client: Client) -> Reply:
        """Accept any name: mostly it is the name of a laptop."""
        return replies.OK

    async def mail(self, client: Client, envelope: Envelope) -> Reply | Transaction:
        """Accept an account's own addresses, and `<>`, which read receipts (RFC 8098) need; their From is checked like
        any other."""
        assert client.account is not None, "the engine asks for a login first"
        account = await self._directory.account(client.account.address)
        if account is None or account.disabled:
            return replies.ACCOUNT_CLOSED
        if not client.account.may_go_on(account):
            return replies.ACCOUNT_CHANGED
        path = envelope.reverse_path
        if path is not None and not await self._senders.may_send_as(account, path):
            return replies.not_your_address(account.address, str(path))
        return self.begin(client, envelope)

    def begin(self, client: Client, envelope: Envelope) -> Reply | Transaction:
        """Return the transaction of a permitted sender; a refusal when its parameters contradict each other."""
        hold, by = envelope.hold_until, envelope.deliver_by
        if hold is not None and by is not None and by.deadline <= hold:
            return replies.syntax("BY asks for delivery before the message may leave (HOLDFOR, HOLDUNTIL)")
        return Transaction(client, envelope, self)

    async def recipient(self, transaction: Transaction, recipient: Recipient) -> Reply | Admitted:
        """Accept recipients anywhere: those here must exist; those elsewhere need a full domain name (RFC 6409 4.2)."""
        if not self._book.hosts(recipient.address):
            domain = recipient.address.domain_key
            return Admitted(recipient) if "." in domain or domain.startswith("[") else replies.NOT_QUALIFIED
        return admit(recipient, await self._book.resolve(recipient.address, transaction.envelope.size or 0))

    async def examine(self, transaction: Transaction, arrived: Arrived) -> Reply | Examined:
        """Mend, check and complete the header, and count the message against the account's limits."""
        account, envelope = transaction.client.account, transaction.envelope
        assert account is not None
        try:
            headers = await self._prepared(arrived.headers, envelope)
            originators = read_originators(headers)
        except MalformedHeader as problem:
            return replies.malformed_message(str(problem))
        for address in dict.fromkeys(originators):
            if not await self._senders.may_send_as(account, address):
                return replies.not_your_address(account.address, str(address))
        refusal = await self._budget.ask(transaction, account.address, len(arrived.admitted), arrived.now)
        if refusal is not None:
            return refusal
        header, message_id = complete(headers, trace=arrived.trace, hostname=self._hostname, now=arrived.now)
        least, greatest = _PRIORITIES
        priority = max(least, min(envelope.priority, greatest))
        if priority != envelope.priority:
            envelope = replace(envelope, priority=priority)
        return Examined(header, envelope, message_id)

    async def _prepared(self, headers: HeaderBlock, envelope: Envelope) -> HeaderBlock:
        """Return the header mended, in a thread when it is large. Raises `MalformedHeader`."""
        work = partial(
            prepare, headers, sender=envelope.reverse_path, smtputf8=envelope.smtputf8, names=self._result_names
        )
        return work() if len(headers.data) < _LARGE else await asyncio.to_thread(work)
