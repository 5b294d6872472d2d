"""What keeps the service from starting or reloading: problems of the operator or the machine, all of them at once."""

import errno
import os
from collections.abc import Sequence


class SetupProblem(Exception):
    """The service can't be set up; `problems` has a line for each reason, with what to do."""

    def __init__(self, *problems: str) -> None:
        super().__init__("; ".join(problems))
        self.problems: Sequence[str] = problems


_REMEDIES = {
    errno.EROFS: "under systemd, add the data directory to ReadWritePaths= of the unit",
    errno.EACCES: "start the service as root, or as the user who owns the data directory",
    errno.EPERM: "start the service as root, or as the user who owns the data directory",
    errno.ENOSPC: "the disk is full; make room",
}


def machine_words(error: OSError) -> str:
    """Return what the system refused, with what to do where that is known."""
    words = os.strerror(error.errno) if error.errno else str(error)
    remedy = _REMEDIES.get(error.errno or 0)
    return f"{words}; {remedy}" if remedy else words
