"""How reports are made on this host, by the settings: the same for a worker and for `waypost queue return`.

What a report comes to need beside the settings (a key to sign with, say) is an argument here, so that no maker of
reports is left without it.
"""

from collections.abc import Callable

from waypost.config.settings import Settings
from waypost.delivery.resolve import AddressBook
from waypost.message.trace import Micros, TraceId
from waypost.queue.reporter import Reporter
from waypost.storage import Spool


def make_reporter(
    settings: Settings, *, spool: Spool, book: AddressBook, ids: Callable[[], TraceId], now: Callable[[], Micros]
) -> Reporter:
    """Return what makes reports. `ids` makes their trace ids."""
    return Reporter(
        spool=spool,
        ids=ids,
        hostname=settings.hostname,
        destination_of=book.destination,
        now=now,
        return_full_below=settings.queue.return_full_below,
    )
