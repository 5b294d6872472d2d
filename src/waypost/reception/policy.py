"""The policy of port 25 and of LMTP: mail for hosted domains only, and only for who exists (RFC 5321 3.6).

Nothing is relayed for anybody here, whatever form the address has. What leaves again are an alias's addresses
elsewhere, as the operator wrote them, with the sender's reverse-path (it is not rewritten yet), and what a route of a
domain hosted partly elsewhere takes.
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
    """Implements `intake.Policy` for ports without a login, and `intake.Judge` for what comes there."""

    def __init__(
        self,
        *,
        book: AddressBook,
        names: Collection[str] = (),
        tasks: TransactionTasks | None = None,
        reverse_names: ReverseNames | None = None,
    ) -> None:
        """`names` are ours, in lower case: results of checks (RFC 8601) in them are taken away. None are given for
        LMTP, where a server of the same house hands over what it has checked; nor are `reverse_names`, by which clients
        are looked up. `tasks` are those of the worker.
        """
        self._book = book
        self._names = names
        self._tasks = tasks
        self._reverse_names = reverse_names

    def hello(self, client: Client) -> Reply:
        """Any name does (RFC 5321 4.1.4 forbids to refuse one that can't be verified)."""
        return replies.OK

    async def mail(self, client: Client, envelope: Envelope) -> Reply | Transaction:
        """Any sender may write to us."""
        transaction = Transaction(client, envelope, self, self._tasks)
        if self._reverse_names is not None:
            self._reverse_names.look_up(transaction)
        return transaction

    async def recipient(self, transaction: Transaction, recipient: Recipient) -> Reply | Admitted:
        """Take addresses of ours that lead to somebody."""
        envelope, address = transaction.envelope, recipient.address
        if _is_postmaster_of(transaction.client, address):
            address = _POSTMASTER
        if not self._book.hosts(address):
            return replies.RELAY_DENIED
        found = await self._book.resolve(address, envelope.size or 0)
        if found.goes_on and envelope.deliver_by is not None and envelope.deliver_by.mode == "R":
            return replies.NO_PROMISE  # a stranger's deadline must not make us return mail to whom he names
        return admit(recipient, found)

    async def examine(self, transaction: Transaction, arrived: Arrived) -> Reply | Examined:
        """Take the header as it came (RFC 5321 6.4: a message in transit is not mended), without what strangers say in
        our name of their own checks (RFC 8601 section 5).

        A deadline (RFC 2852) has done its work: what ends in mailboxes here is delivered at once, and what goes on
        does so without one, so that no stranger sets the time of a report to whom he names. Nor does anybody hear of
        success: the reverse-path is a stranger's word, and the report would carry his subject to whom he names.
        """
        envelope, headers = transaction.envelope, arrived.headers
        if envelope.deliver_by is not None:
            envelope = replace(envelope, deliver_by=None)
        for one in arrived.admitted:
            notify = one.recipient.notify
            if notify is not None and Notify.SUCCESS in notify:  # whoever asked for nothing else hears nothing
                one.recipient = replace(one.recipient, notify=notify & ~Notify.SUCCESS)
        if self._reverse_names is not None:
            self._reverse_names.record(transaction)
        return Examined(self._without_forged_results(headers), envelope, message_id_of(headers))

    def _without_forged_results(self, headers: HeaderBlock) -> bytes:
        if not self._names or not headers.count(b"authentication-results"):
            return headers.data
        return headers.without_fields(list(results_in_the_name_of(headers, self._names)))


def _is_postmaster_of(client: Client, address: Address) -> bool:
    """True for postmaster at the very IP address that the client reached us by (RFC 5321 4.5.1)."""
    if not address.domain.startswith("[") or address.local.lower() != "postmaster":
        return False
    try:
        return literal_address(address.domain) == ipaddress.ip_address(client.peer.local_address)
    except ValueError:  # a listener that is no IP socket
        return False
