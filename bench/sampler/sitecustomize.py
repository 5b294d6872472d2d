"""Samples where a worker's CPU goes. Python itself loads this file, because `bench/profile.py` sets PYTHONPATH so.

The product knows nothing of it, and nothing has to be installed. SIGUSR1 begins; SIGUSR1 again ends, and writes the
stacks to a file that was opened before the worker gave up its rights. Every few milliseconds of CPU time each thread's
stack gets the CPU time that this thread used since the sample before.
"""

import json
import os
import resource
import signal
import sys
import threading
import time
from types import FrameType

_EVERY = 0.004  # seconds of CPU
_DEEPEST = 60


class Sampler:
    """Counts microseconds of CPU by stack."""

    def __init__(self, fd: int) -> None:
        self._fd = fd
        self._running = False
        self._stacks: dict[str, int] = {}
        self._used: dict[int, int] = {}
        self._usage = resource.getrusage(resource.RUSAGE_SELF)

    def toggle(self, signum: int, frame: FrameType | None) -> None:
        """Begin, or end and write."""
        self._running = not self._running
        if self._running:
            self._usage = resource.getrusage(resource.RUSAGE_SELF)
            for thread in sys._current_frames():
                self._used[thread] = _cpu_of(thread)
            signal.signal(signal.SIGPROF, self.sample)
            signal.setitimer(signal.ITIMER_PROF, _EVERY, _EVERY)
        else:
            signal.setitimer(signal.ITIMER_PROF, 0)
            self._write()

    def sample(self, signum: int, frame: FrameType | None) -> None:
        """Give each thread's stack what the thread has used. `frame` is where the main thread was interrupted."""
        names = {thread.ident: thread.name for thread in threading.enumerate()}
        main = threading.main_thread().ident
        for ident, top in sys._current_frames().items():
            used = _cpu_of(ident)
            spent = used - self._used.get(ident, 0)
            self._used[ident] = used
            if spent > 0:
                stack = ";".join([names.get(ident, "?"), *_names(frame if ident == main else top)])
                self._stacks[stack] = self._stacks.get(stack, 0) + spent // 1000

    def _write(self) -> None:
        usage = resource.getrusage(resource.RUSAGE_SELF)
        spent = {
            "user": usage.ru_utime - self._usage.ru_utime,
            "system": usage.ru_stime - self._usage.ru_stime,
            "stacks": self._stacks,
        }
        data = json.dumps(spent).encode()
        while data:
            data = data[os.write(self._fd, data) :]
        os.close(self._fd)


def _cpu_of(thread: int) -> int:
    """CPU nanoseconds of a thread so far."""
    return time.clock_gettime_ns(time.pthread_getcpuclockid(thread))


def _names(frame: FrameType | None) -> list[str]:
    found: list[str] = []
    while frame is not None and len(found) < _DEEPEST:
        code = frame.f_code
        path = "/".join(code.co_filename.rsplit("/", 2)[-2:])
        found.append(f"{path}:{code.co_qualname}")
        frame = frame.f_back
    return found[::-1]


_forks = 0


def _forked() -> None:
    """The supervisor forks the fork server, and that one the workers: it is workers that are sampled."""
    global _forks
    _forks += 1
    if _forks == 2:
        flags = os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC
        file = os.open(f"{os.environ['WAYPOST_BENCH_SAMPLES']}/{os.getpid()}.json", flags, 0o644)
        signal.signal(signal.SIGUSR1, Sampler(file).toggle)


if "serve" in sys.orig_argv and "WAYPOST_BENCH_SAMPLES" in os.environ:
    os.register_at_fork(after_in_child=_forked)
