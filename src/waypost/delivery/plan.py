"""From recipients to storage: which mailboxes take a message at once, and which destinations it waits for."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from waypost.delivery.resolve import AddressBook, Reached
from waypost.message.address import Address
from waypost.message.envelope import Envelope, Recipient
from waypost.message.trace import Micros
from waypost.storage import Account, MailboxDelivery, NewEntry


@dataclass(frozen=True, slots=True)
class Plan:
    """What one commit writes for the recipients of a message.

    `delivered` tells which recipient went into which accounts (for the journal and for success reports).
    """

    deliveries: tuple[MailboxDelivery, ...] = ()
    entries: tuple[NewEntry, ...] = ()
    delivered: tuple[tuple[Recipient, Account], ...] = ()


class Planner:
    """Plans over the address book."""

    def __init__(self, book: AddressBook) -> None:
        self._book = book

    async def plan(self, recipients: Sequence[Recipient], envelope: Envelope, now: Micros) -> Plan:
        """Return where a message goes; recipients that lead to nobody are left out.

        A message that is to be held (RFC 4865) waits in the queue for its local recipients too.
        """
        reached = [
            (recipient, await self._book.resolve(recipient.address) if self._hosted(recipient) else None)
            for recipient in recipients
        ]
        return self.arrange(reached, envelope, now)

    def _hosted(self, recipient: Recipient) -> bool:
        return self._book.hosts(recipient.address)

    def arrange(self, reached: Sequence[tuple[Recipient, Reached | None]], envelope: Envelope, now: Micros) -> Plan:
        """Return where a message goes for recipients whose way is known; None stands for an address elsewhere."""
        path = envelope.reverse_path
        return_path = f"Return-Path: <{path or ''}>\r\n".encode()
        held = envelope.hold_until is not None and envelope.hold_until > now
        boxes: dict[int, MailboxDelivery] = {}
        waiting: dict[str, list[Recipient]] = {}
        delivered: list[tuple[Recipient, Account]] = []
        for recipient, found in reached:
            if found is None or (held and found.somebody):
                self._wait(waiting, recipient)
                continue
            for account in found.accounts:
                if account.inbox not in boxes:
                    # RFC 9228: the address by which it came, so that loops and subaddresses can be told.
                    head = return_path + f"Delivered-To: {account.address}\r\n".encode()
                    boxes[account.inbox] = MailboxDelivery(account.inbox, head)
                delivered.append((recipient, account))
            for target in found.forwards:
                self._wait(waiting, replace(recipient, address=target))
        next_attempt = envelope.hold_until if held and envelope.hold_until is not None else now
        entries = tuple(
            NewEntry(destination, tuple(waiting_for), next_attempt, envelope.priority)
            for destination, waiting_for in waiting.items()
        )
        return Plan(tuple(boxes.values()), entries, tuple(delivered))

    @staticmethod
    def _wait(waiting: dict[str, list[Recipient]], recipient: Recipient) -> None:
        waiting.setdefault(destination_of(recipient.address), []).append(recipient)


def destination_of(address: Address) -> str:
    """Return the queue's destination for an address: its domain key."""
    return address.domain_key
