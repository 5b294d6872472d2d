"""The policy of port 25 and of LMTP: mail for existing addresses of hosted domains only (RFC 5321 3.6).

Nothing is relayed for strangers, whatever form the address has. Mail goes on to another server in two cases only: to
the addresses elsewhere that the operator wrote into an alias, with the sender's reverse-path (it is not rewritten yet);
and by the route of a domain that is hosted partly elsewhere.
"""

import ipaddress
from collections.abc import Collection

from msgspec.structs import replace

from waypost.delivery.resolve import AddressBook
from waypost.intake import Admitted, Arrived, Client, Examined, Transaction, TransactionTasks, admit
from waypost.message.address import Address, literal_address
from waypost.message.authentication_results import results_in_the_name_of
from waypost.message.envelope import Envelope, Notify, Recipient
from waypost.message.headers import HeaderBlock, message_id_of
from waypost.protocol.reply import Reply
from waypost.protocol.smtp import replies
from waypost.reception.reverse_names import ReverseNames

_POSTMASTER = Address("postmaster", "")


class ReceptionPolicy:
    """Implements `intake.Policy` for ports without a login, and `intake.Judge` for the messages that arrive there."""

    def __init__(
        self,
        *,
        book: AddressBook,
        names: Collection[str] = (),
        tasks: TransactionTasks | None = None,
        reverse_names: ReverseNames | None = None,
    ) -> None:
        """`names` are our host names, in lower case: results of checks (RFC 8601) in these names are removed.
        `reverse_names` looks up clients. For LMTP leave out both: there a trusted server passes on mail that it has
        checked. `tasks` are those of the worker.
        """
        self._book = book
        self._names = names
        self._tasks = tasks
        self._reverse_names = reverse_names

    def hello(self, client: Client) -> Reply:
        """Accept any name (RFC 5321 4.1.4 forbids refusing one that can't be verified)."""
        return replies.OK

    async def mail(self, client: Client, envelope: Envelope) -> Reply | Transaction:
        """Accept any sender."""
        transaction = Transaction(client, envelope, self, self._tasks)
        if self._reverse_names is not None:
            self._reverse_names.look_up(transaction)
        return transaction

    async def recipient(self, transaction: Transaction, recipient: Recipient) -> Reply | Admitted:
        """Accept our own addresses that lead to a mailbox or onward."""
        envelope, address = transaction.envelope, recipient.address
        if _is_postmaster_of(transaction.client, address):
            address = _POSTMASTER
        if not self._book.hosts(address):
            return replies.RELAY_DENIED
        found = await self._book.resolve(address, envelope.size or 0)
        if found.goes_on and envelope.deliver_by is not None and envelope.deliver_by.mode == "R":
            return replies.NO_PROMISE  # a stranger's deadline must not make us send a report to whom he chooses
        return admit(recipient, found)

    async def examine(self, transaction: Transaction, arrived: Arrived) -> Reply | Examined:
        """Keep the header as it came (RFC 5321 6.4: a message in transit is not mended), but remove results of checks
        that a stranger wrote in our name (RFC 8601 section 5).

        Drop the deadline (RFC 2852): mail for mailboxes here is delivered at once, and mail that goes on has no
        deadline, so that a stranger can't choose the time of a report. Drop requests for success reports, too: the
        reverse-path of a stranger may name a victim, who would get a report with the stranger's subject.
        """
        envelope, headers = transaction.envelope, arrived.headers
        if envelope.deliver_by is not None:
            envelope = replace(envelope, deliver_by=None)
        for one in arrived.admitted:
            notify = one.recipient.notify
            if notify is not None and Notify.SUCCESS in notify:  # a sender who asked for success alone gets no report
                one.recipient = replace(one.recipient, notify=notify & ~Notify.SUCCESS)
        if self._reverse_names is not None:
            self._reverse_names.record(transaction)
        return Examined(self._without_forged_results(headers), envelope, message_id_of(headers))

    def _without_forged_results(self, headers: HeaderBlock) -> bytes:
        if not self._names or not headers.count(b"authentication-results"):
            return headers.data
        return headers.without_fields(list(results_in_the_name_of(headers, self._names)))


def _is_postmaster_of(client: Client, address: Address) -> bool:
    """True for postmaster at the IP address of ours to which the client connected (RFC 5321 4.5.1)."""
    if not address.domain.startswith("[") or address.local.lower() != "postmaster":
        return False
    try:
        return literal_address(address.domain) == ipaddress.ip_address(client.peer.local_address)
    except ValueError:  # the listener is not an IP socket
        return False
