"""What a run costs: CPU of the server, of the load beside it and of strangers, flushes of the disk; and what limits it.

Everything is read from /proc, so it also counts processes that nobody here started or that have ended meanwhile.
"""

import os
import resource
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

_TICKS = os.sysconf("SC_CLK_TCK")
_BUSY = 0.85  # share of all cores from which on CPU is what limits
_FLUSHING = 0.6  # the same of the disk's flushes a second
_NOISY = 0.1
_PROBES = 100
_TRIES = 4


@dataclass(frozen=True, slots=True)
class Cost:
    """What a stretch of time cost: wall seconds, CPU seconds of three parties, and flushes of the disk."""

    seconds: float
    server: float
    load: float
    others: float
    flushes: int


class Meter:
    """Measures from its creation to `stop`.

    `server` returns the CPU seconds of the server so far; `load` are living processes that make the load. Children of
    ours that end meanwhile, and this process itself, are load too. `folder` is on the disk that is watched.
    """

    def __init__(self, server: Callable[[], float], folder: Path, load: Sequence[int] = ()) -> None:
        self._server = server
        self._pids = load
        self._device = folder.stat().st_dev
        self._from = self._now()

    def stop(self) -> Cost:
        """Return what it cost so far."""
        seconds, server, load, machine, flushes = (
            now - then for now, then in zip(self._now(), self._from, strict=True)
        )
        return Cost(seconds, server, load, max(0.0, machine - server - load), int(flushes))

    def _now(self) -> tuple[float, ...]:
        own = resource.getrusage(resource.RUSAGE_SELF)
        children = resource.getrusage(resource.RUSAGE_CHILDREN)
        load = own.ru_utime + own.ru_stime + children.ru_utime + children.ru_stime
        load += sum(cpu_of(pid) for pid in self._pids)
        return time.monotonic(), self._server(), load, _cpu_of_machine(), float(_flushes_of(self._device))


def cpu_of(pid: int) -> float:
    """Return the CPU seconds of a process, its threads and its ended children so far; 0 when it is gone."""
    try:
        fields = _stat(pid)
    except OSError:
        return 0.0
    return sum(int(value) for value in fields[11:15]) / _TICKS


def processes_of_session(leader: int) -> list[int]:
    """Return the processes in the session of `leader`, which is one of them while it lives."""
    found: list[int] = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                if int(_stat(int(entry.name))[3]) == leader:
                    found.append(int(entry.name))
            except OSError:
                continue  # it has just ended
    return found


def cpu_of_session(leader: int) -> float:
    """Return the CPU seconds of all processes in a session so far; ended ones count where somebody waited for them."""
    return sum(cpu_of(pid) for pid in processes_of_session(leader))


def memory_of_session(leader: int, field: str = "Rss") -> int:
    """Return the octets that all processes of a session have in memory.

    `Rss` counts a shared page in each of them, `Pss` shares it out.
    """
    return sum(memory_of(pid, field) for pid in processes_of_session(leader))


def memory_of(pid: int, field: str = "Rss") -> int:
    """Return the octets that a process has in memory; 0 when it is gone."""
    try:
        text = Path(f"/proc/{pid}/smaps_rollup").read_text()
    except OSError:
        return 0
    lines = (line.split() for line in text.splitlines())
    return sum(int(words[1]) * 1024 for words in lines if words[0] == field + ":")


def limit(cost: Cost, disk: float) -> str:
    """Name what limits, in words; `disk` is how many flushes a second it does for one writer alone."""
    cores = os.cpu_count() or 1
    whole = cost.seconds * cores
    busy = (cost.server + cost.load) / max(whole - cost.others, 0.01)
    flushing = cost.flushes / cost.seconds / disk
    shares = (
        f"server {cost.server / cost.seconds:.0%} and load {cost.load / cost.seconds:.0%} of {cores} cores, "
        f"disk {cost.flushes / cost.seconds:.0f} of {disk:.0f} flushes/s"
    )
    if busy >= _BUSY:
        words = "CPU, of the load more than of the server" if cost.load > cost.server else "CPU"
    elif flushing >= _FLUSHING:
        words = "the disk"
    else:
        words = "waiting: neither CPU nor disk is used up"
    if cost.others / whole > _NOISY:
        words += f" (NOT QUIET: other processes took {cost.others / cost.seconds:.0%})"
    return f"{words}; {shares}"


def disk_rate(folder: Path) -> float:
    """Return how many appends with fdatasync one writer does a second in a folder; the best of a few tries."""
    path = folder / "probe"
    fd = os.open(path, os.O_CREAT | os.O_WRONLY | os.O_APPEND | os.O_CLOEXEC)
    best = 0.0
    try:
        for _ in range(_TRIES):
            began = time.monotonic()
            for _ in range(_PROBES):
                os.write(fd, bytes(4096))
                os.fdatasync(fd)
            best = max(best, _PROBES / (time.monotonic() - began))
        return best
    finally:
        os.close(fd)
        path.unlink()


def _stat(pid: int) -> list[str]:
    """The fields of /proc/PID/stat behind the command's name."""
    return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()


def _cpu_of_machine() -> float:
    fields = Path("/proc/stat").read_text().split("\n", 1)[0].split()[1:]
    user, nice, system, _, _, irq, softirq = (int(value) for value in fields[:7])
    return (user + nice + system + irq + softirq) / _TICKS


def _flushes_of(device: int) -> int:
    """Flushes of a disk so far, where the kernel counts them; for a partition, those of its whole disk."""
    folder = Path(f"/sys/dev/block/{os.major(device)}:{os.minor(device)}").resolve()
    for path in (folder / "stat", folder.parent / "stat"):
        try:
            fields = path.read_text().split()
        except OSError:
            continue
        if len(fields) >= 16 and int(fields[15]):
            return int(fields[15])
    return 0
