"""Shared memory of all workers of a service: failed logins, and the results of password checks.

The supervisor makes it, and passes it to each worker of each generation, with a key that it draws once and never
writes to a file. So a failure counts once for all workers, a password that one worker has verified is known to the
others, and both survive a reload. The memory has a fixed size and no name; nobody can make it larger or smaller. Names
and passwords are in it as keyed hashes only: without the key its octets do not help to guess them.

Rows are found by their name in buckets of eight; in a full bucket the row that is worth least is replaced. A process
that is killed may leave a row half written; readers check what they read.
"""

import fcntl
import hmac
import mmap
import os
import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager

ROW = 128
"""Octets of a row: its name, then its value."""

NAME = 16
HELD = ROW - NAME
_WAYS = 8
_NOTHING = bytes(NAME)
_COUNTERS = 8192  # buckets: 65,536 rows, 8 MiB
_ANSWERS = 4096
_SIZE = (_COUNTERS + _ANSWERS) * _WAYS * ROW
_KEY = 32


class LoginMemory:
    """The memory behind a descriptor, as one process sees it."""

    def __init__(self, fd: int, key: bytes) -> None:
        self.fd = fd
        self.key = key
        self._closing = weakref.finalize(self, os.close, fd)
        self._octets = mmap.mmap(fd, _SIZE)
        self.counters = Table(self, 0, _COUNTERS)
        """Failures of networks, accounts, and accounts from a network."""
        self.answers = Table(self, _COUNTERS * _WAYS * ROW, _ANSWERS)
        """Results of password checks."""

    @classmethod
    def create(cls, random: Callable[[int], bytes] = os.urandom) -> "LoginMemory":
        """Make an empty memory. Raises `OSError`."""
        fd = os.memfd_create("waypost-logins", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
        os.ftruncate(fd, _SIZE)
        # A worker that an attacker took over must not shrink the memory that the others have mapped.
        fcntl.fcntl(fd, fcntl.F_ADD_SEALS, fcntl.F_SEAL_GROW | fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_SEAL)
        return cls(fd, random(_KEY))

    def close(self) -> None:
        """Close this process's view; the memory is freed when no process has it open."""
        self._octets.close()
        self._closing()

    def name(self, *parts: str) -> bytes:
        """Return the name of a row: a keyed hash of its kind and of what it is about."""
        return hmac.digest(self.key, "\0".join(parts).encode(), "sha256")[:NAME]

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Lock the memory against the other processes, for microseconds; the kernel unlocks it if this process dies."""
        fcntl.lockf(self.fd, fcntl.LOCK_EX)
        try:
            yield
        finally:
            fcntl.lockf(self.fd, fcntl.LOCK_UN)

    def read(self, start: int) -> bytes:
        """Return a row."""
        return self._octets[start : start + ROW]

    def write(self, start: int, row: bytes) -> None:
        """Write a row."""
        self._octets[start : start + ROW] = row


class Table:
    """Rows of one kind. Call it only while the memory is `locked`."""

    def __init__(self, memory: LoginMemory, start: int, buckets: int) -> None:
        self._memory = memory
        self._start = start
        self._buckets = buckets

    def get(self, name: bytes) -> bytes | None:
        """Return the value of a row; None when it does not exist."""
        for _, row in self._bucket(name):
            if row.startswith(name):
                return row[NAME:]
        return None

    def put(self, name: bytes, held: bytes, worth: Callable[[bytes], int]) -> None:
        """Write a row; in a full bucket it replaces the row for which `worth` is least."""

        def rank(place: tuple[int, bytes]) -> int:
            row = place[1]
            if row.startswith(name):
                return -2
            return -1 if row.startswith(_NOTHING) else worth(row[NAME:])

        start, _ = min(self._bucket(name), key=rank)
        self._memory.write(start, name + held.ljust(HELD, b"\0"))

    def remove(self, name: bytes) -> None:
        """Remove a row, if it exists."""
        for start, row in self._bucket(name):
            if row.startswith(name):
                self._memory.write(start, bytes(ROW))

    def _bucket(self, name: bytes) -> Iterator[tuple[int, bytes]]:
        first = self._start + int.from_bytes(name[:8], "big") % self._buckets * _WAYS * ROW
        for start in range(first, first + _WAYS * ROW, ROW):
            yield start, self._memory.read(start)
