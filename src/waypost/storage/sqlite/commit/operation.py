"""An operation: what one caller wants to have written, in the commit that it shares with others."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from waypost.storage.bus import Notice
from waypost.storage.spool import NewMessage
from waypost.storage.sqlite.commit.batch import Batch
from waypost.storage.sqlite.segments.arriving import ArrivingFile


def _no_notices(result: Any) -> Sequence[Notice]:
    return ()


@dataclass(slots=True, eq=False)
class Operation:
    """Octets first, then rows; answered after the commit.

    `stage` adds rows to the batch, or runs statements on `batch.connection` after `batch.flush()`; what it returns
    is the caller's result. It is called again when the commit failed because of another operation.
    """

    stage: Callable[[Batch], Any]
    notices: Callable[[Any], Iterable[Notice]] = _no_notices  # what to publish after the commit, given the result
    messages: Sequence[NewMessage] = ()  # whose octets are written before the transaction
    files: Sequence[ArrivingFile] = ()  # that become segments before the transaction
    incoming: bool = False  # new mail, which leaves some of the disk free for what must go on
    patient: bool = False  # while others come one after the other, it waits some milliseconds to share their commit
