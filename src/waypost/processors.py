"""Which processors the threads of a worker run on.

The interpreter runs one thread at a time. On several processors the event loop and the writer's thread wake each other
across them for every turn at the interpreter's lock, which costs a fifth of all that a worker can do
(docs/decisions/0014). So where every processor has its worker, each worker keeps to one; only threads that work without
the lock may run anywhere.
"""

import contextlib
import os

_allowed = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else []
"""What this process may use, as it was started: by its cpuset, `taskset`, or CPUAffinity= of systemd."""


def count_workers(wanted: int) -> int:
    """Return how many workers a service has that wants so many; 0 is one for each processor."""
    return wanted or len(_allowed) or os.cpu_count() or 1


def keep_to_one(place: int, workers: int) -> None:
    """Keep the calling thread, and those it starts, to the processor of the worker in this place, from 0.

    Nothing changes where processors are left over, for those who share the machine would all choose the same ones.
    """
    if 1 < len(_allowed) <= workers:
        _use({_allowed[place % len(_allowed)]})


def use_any() -> None:
    """Let the calling thread run anywhere again: it works without the interpreter's lock."""
    if len(_allowed) > 1:
        _use(set(_allowed))


def _use(processors: set[int]) -> None:
    with contextlib.suppress(OSError):  # a processor was taken away meanwhile: then the scheduler decides
        os.sched_setaffinity(0, processors)
