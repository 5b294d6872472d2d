"""The notices that a change publishes on the bus after its commit: the same for every storage engine."""

from collections.abc import Iterable

from waypost.storage.bus import Notice
from waypost.storage.queue import Outcome
from waypost.storage.spool import NewMessage


def of_destinations(names: Iterable[str]) -> list[Notice]:
    """Return a notice for each destination whose entries are new, or due at another time."""
    return [Notice("destination", name) for name in dict.fromkeys(names)]


def of_mailbox(mailbox: int) -> list[Notice]:
    """Return the notice of a mailbox in which messages were added, removed or changed."""
    return [Notice("mailbox", str(mailbox))]


def of_address(address: str) -> list[Notice]:
    """Return the notice of an account or alias that was made, changed or removed."""
    return [Notice("directory", address)]


def of_message(message: NewMessage) -> list[Notice]:
    """Return the notices that a new message causes."""
    return [
        *(Notice("destination", entry.destination) for entry in message.entries),
        *(Notice("mailbox", str(delivery.mailbox)) for delivery in message.deliveries),
    ]


def of_outcome(outcome: Outcome) -> list[Notice]:
    """Return the notices of an outcome that was written: for its reports, and for its message's new places."""
    return [
        *(notice for report in outcome.reports for notice in of_message(report)),
        *(Notice("mailbox", str(delivery.mailbox)) for delivery in outcome.deliveries),
        *(Notice("destination", entry.destination) for entry in outcome.forwards),
    ]
