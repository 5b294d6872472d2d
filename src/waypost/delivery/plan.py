"""Plans what storage writes for recipients: deliveries to mailboxes at once, and queue entries by destination."""

from collections.abc import Mapping, Sequence
from types import MappingProxyType

import msgspec
from msgspec.structs import replace

from waypost.delivery.resolve import LOCAL_DESTINATION, AddressBook, Resolution
from waypost.message.address import Address
from waypost.message.envelope import Envelope, Notify, OriginalRecipient, Recipient
from waypost.message.trace import Micros
from waypost.storage import Account, MailboxDelivery, NewEntry

__all__ = ["LOCAL_DESTINATION", "DeliveryPlan", "Filing", "Planner"]


class Filing(msgspec.Struct, frozen=True):
    """Where a message goes in one account: a mailbox by its id, None for INBOX, and its flags there."""

    mailbox: int | None = None
    flags: frozenset[str] = frozenset()


_INBOX = Filing()
_NO_FILINGS: Mapping[int, Filing] = MappingProxyType({})


class DeliveryPlan(msgspec.Struct, frozen=True):
    """What one commit writes for the recipients of a message.

    `delivered` says which recipient went into which accounts (for the journal). A success report is requested and due
    with this commit for two kinds of recipients: `succeeded` are in mailboxes, and `expanded` are groups whose message
    goes on from here (RFC 3461 5.2.3 and 5.2.7.3).
    """

    deliveries: tuple[MailboxDelivery, ...] = ()
    entries: tuple[NewEntry, ...] = ()
    delivered: tuple[tuple[Recipient, Account], ...] = ()
    succeeded: tuple[Recipient, ...] = ()
    expanded: tuple[Recipient, ...] = ()

    @property
    def local(self) -> bool:
        """True when the message is delivered to a mailbox here, now or later."""
        return bool(self.deliveries) or any(entry.destination == LOCAL_DESTINATION for entry in self.entries)


class Planner:
    """Plans what storage writes for the recipients of a message, once they are resolved."""

    def __init__(self, book: AddressBook) -> None:
        self._book = book

    def arrange(
        self,
        reached: Sequence[tuple[Recipient, Resolution | None]],
        envelope: Envelope,
        now: Micros,
        filings: Mapping[int, Filing] = _NO_FILINGS,
    ) -> DeliveryPlan:
        """Return where a message goes. In `reached`, None stands for an address elsewhere. `filings`, by account id,
        are for the deliveries that happen at once.

        A held message (RFC 4865) waits in the queue for its local recipients too. It also waits for members of a group
        that have no room while others have: they may make room later, or else the sender gets a report. Recipients that
        lead nowhere are left out.
        """
        path = envelope.reverse_path
        return_path = f"Return-Path: <{path or ''}>\r\n"
        held = envelope.hold_until is not None and envelope.hold_until > now
        boxes: dict[int, MailboxDelivery] = {}
        waiting: dict[str, dict[Address, Recipient]] = {}
        delivered: list[tuple[Recipient, Account]] = []
        succeeded: list[Recipient] = []
        expanded: list[Recipient] = []
        for recipient, found in reached:
            if found is None or (held and found.somebody):
                _wait(waiting, self._book.destination(recipient.address), recipient)
                continue
            for account in found.accounts:
                if account.inbox not in boxes:
                    # RFC 9228: the address of the account, by which people and programs can tell loops.
                    head = return_path + f"Delivered-To: {Address.of_key(account.address)}\r\n"
                    filing = filings.get(account.id, _INBOX)
                    mailbox = account.inbox if filing.mailbox is None else filing.mailbox
                    boxes[account.inbox] = MailboxDelivery(mailbox, head.encode(), filing.flags)
                delivered.append((recipient, account))
            _pass_on(waiting, recipient, found)
            if recipient.notify and recipient.notify & Notify.SUCCESS:
                if found.goes_on and found.group:
                    expanded.append(recipient)
                elif found.accounts:
                    succeeded.append(recipient)
        next_attempt = envelope.hold_until if held and envelope.hold_until is not None else now
        entries = tuple(
            NewEntry(
                destination, tuple(waiting_for.values()), next_attempt, envelope.priority, next_attempt if held else 0
            )
            for destination, waiting_for in waiting.items()
        )
        return DeliveryPlan(tuple(boxes.values()), entries, tuple(delivered), tuple(succeeded), tuple(expanded))


def _pass_on(waiting: dict[str, dict[Address, Recipient]], recipient: Recipient, found: Resolution) -> None:
    for target in found.forwards:
        _wait(waiting, target.domain_key, _forwarded(recipient, target, found))
    if found.somebody:
        for full in found.full:
            _wait(waiting, LOCAL_DESTINATION, _forwarded(recipient, Address.of_key(full), found))


def _forwarded(recipient: Recipient, target: Address, found: Resolution) -> Recipient:
    """Return the recipient under the address that an alias stands for.

    Every report names the address that the sender wrote (RFC 3461 5.2.7.2). An alias of one address keeps the sender's
    NOTIFY. A group counts as the place of delivery: we report success for it once, and request no success reports for
    its members (RFC 3461 5.2.7.3).
    """
    if not found.expanded:
        return replace(recipient, address=target)
    notify = recipient.notify
    if notify is not None and found.group:
        notify &= ~Notify.SUCCESS
    kind = "rfc822" if recipient.address.is_ascii else "utf-8"  # RFC 6533 section 3
    original = recipient.original or OriginalRecipient(kind, str(recipient.address))
    return Recipient(target, notify, original)


def _wait(waiting: dict[str, dict[Address, Recipient]], destination: str, recipient: Recipient) -> None:
    waiting.setdefault(destination, {}).setdefault(recipient.address, recipient)
