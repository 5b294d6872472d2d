"""Measures how long a worker's event loop and the lock of the storage's writers are held at a time.

Python itself loads this file, because `bench/hold.py` sets PYTHONPATH so; the product knows nothing of it. SIGUSR1
writes the longest holds since the last one to a file that was opened before the worker gave up its rights, and begins
anew; so does the end of the process. SIGUSR2 lets the worker do its housekeeping at once.

A hold of the loop is the CPU time of its thread between two turns of a timer that rings every millisecond: for so long
no other client was served. A hold of the lock is wall time. Where WAYPOST_BENCH_DISK is set, flushing takes as long as
on a disk of so many octets a second, of which this machine has one.
"""

import asyncio
import atexit
import fcntl
import gc
import json
import os
import signal
import threading
import time
from pathlib import Path
from types import FrameType

_BEAT = 0.001  # seconds
_flock, _fdatasync = fcntl.flock, os.fdatasync


class Holds:
    """The longest holds so far, in seconds."""

    def __init__(self, fd: int) -> None:
        self._fd = fd
        self._flock = _flock
        self._locked: dict[int, float] = {}
        self._beating = False
        self._used = 0.0
        self._loop = self._lock = 0.0

    def flock(self, fd: int, how: int) -> None:
        """`fcntl.flock`, timed where it is the lock of the storage's writers."""
        if how == fcntl.LOCK_UN:
            since = self._locked.pop(fd, None)
            if since is not None:
                self._lock = max(self._lock, time.monotonic() - since)
        self._flock(fd, how)
        if how == fcntl.LOCK_EX and Path(f"/proc/self/fd/{fd}").readlink().name == "writer.lock":
            self._locked[fd] = time.monotonic()

    def report(self, signum: int = 0, frame: FrameType | None = None) -> None:
        """Write what was measured, and begin anew."""
        line = json.dumps({"loop": self._loop, "lock": self._lock}) + "\n"
        os.write(self._fd, line.encode())
        self._loop = self._lock = 0.0
        if signum and not self._beating:
            self._beating = True
            self._used = time.thread_time()
            asyncio.get_running_loop().call_later(_BEAT, self._beat)

    def _beat(self) -> None:
        used = time.thread_time()
        self._loop = max(self._loop, used - self._used)
        asyncio.get_running_loop().call_later(_BEAT, self._beat)
        self._used = time.thread_time()

    def keep_house(self, signum: int, frame: FrameType | None) -> None:
        """Do the housekeeping at once, in the worker that does it."""
        for found in gc.get_objects():
            if type(found).__name__ == "Housekeeper":
                asyncio.get_running_loop().create_task(found.once())


class SlowDisk:
    """Flushes take as long as the octets need that were written since the last flush of the file."""

    def __init__(self, rate: float, lock: str) -> None:
        self._rate = rate
        self._fd = os.open(lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
        self._flock = _flock
        self._one = threading.Lock()
        self._flushed: dict[int, int] = {}
        self._real = _fdatasync

    def fdatasync(self, fd: int) -> None:
        """Flush, slowly; one flush at a time, whoever asks."""
        state = os.fstat(fd)
        octets = max(0, state.st_size - self._flushed.get(state.st_ino, 0))
        self._flushed[state.st_ino] = state.st_size
        with self._one:
            self._flock(self._fd, fcntl.LOCK_EX)
            try:
                time.sleep(octets / self._rate)
            finally:
                self._flock(self._fd, fcntl.LOCK_UN)
        self._real(fd)


def _install() -> None:
    path = os.environ.get("WAYPOST_BENCH_HOLDS")
    if path is None:
        return
    if rate := os.environ.get("WAYPOST_BENCH_DISK"):
        os.fdatasync = SlowDisk(float(rate), f"{path}/disk").fdatasync  # type: ignore[assignment]
    fd = os.open(f"{path}/{os.getpid()}", os.O_CREAT | os.O_WRONLY | os.O_APPEND | os.O_CLOEXEC, 0o600)
    holds = Holds(fd)
    fcntl.flock = holds.flock  # type: ignore[assignment]
    atexit.register(holds.report)
    signal.signal(signal.SIGUSR1, holds.report)
    signal.signal(signal.SIGUSR2, holds.keep_house)


_forks = 0


def _forked() -> None:
    """The supervisor forks the fork server, and that one the workers: each worker has measures of its own."""
    global _forks
    _forks += 1
    if _forks == 2:
        _install()


_install()
os.register_at_fork(after_in_child=_forked)
