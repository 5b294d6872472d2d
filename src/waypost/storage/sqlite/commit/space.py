"""Room that new mail leaves free: what is in the queue can only be settled, and its space given back, by writing.

A disk that incoming mail fills to the last octet would stay full; so acceptance stops before (452), and recovers by
itself when mail went out or was read. What is written meanwhile goes to the database's log, which starts anew before
it has taken half of the reserve.
"""

import os
from pathlib import Path

from waypost.storage.errors import StorageFull

_MOST = 64 << 20
_LOG = 32 << 20
_SHARE = 20  # on a small disk, a twentieth of it


class Space:
    """Watches the disk that holds a folder. `reserve` is what new mail leaves free, in octets."""

    def __init__(self, folder: Path, reserve: int | None = None) -> None:
        self._folder = folder
        disk = os.statvfs(folder)
        share = min(_MOST, disk.f_blocks * disk.f_frsize // _SHARE)
        self.reserve = share if reserve is None else reserve
        self.log = min(_LOG, (self.reserve or share) // 2)
        """How large the database's log may grow before it starts anew, in octets."""

    def left(self) -> int:
        """Return how many octets new mail may take, 0 or less when none. Raises `OSError`."""
        disk = os.statvfs(self._folder)
        return disk.f_bavail * disk.f_frsize - self.reserve

    def full(self) -> StorageFull:
        """Return the error for mail that there is no room for."""
        return StorageFull(f"{self._folder}: the last {self.reserve} octets of the disk are kept free")
