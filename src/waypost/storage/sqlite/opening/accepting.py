"""Going on with a data directory whose parts do not fit, because its operator says so."""

import os
from pathlib import Path

from waypost.message.trace import Micros
from waypost.storage.errors import Unfit
from waypost.storage.sqlite.opening.preparation import prepare


def accept(data: Path, now: Micros) -> bool:
    """Make a data directory usable that is refused otherwise; False when it was not refused.

    While a process uses it, it fits. Raises `StorageError`, `OSError`, `apsw.Error`.
    """
    try:
        os.close(prepare(data, now))
    except Unfit:
        os.close(prepare(data, now, accepted=True))
        return True
    return False
