"""What the benchmarks share: contenders that take turns, and a table with the ratio as its last line."""

import fcntl
import functools
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from bench.meter import Cost, disk_rate, limit

_LAST_WORDS = 3000  # characters of a server's log


@dataclass(frozen=True, slots=True)
class Run:
    """One run of one contender: how many units it did, and what that cost."""

    units: int
    cost: Cost

    @property
    def rate(self) -> float:
        """Units a second."""
        return self.units / self.cost.seconds


@dataclass
class Result:
    """What one contender reached in each round."""

    name: str
    runs: list[Run] = field(default_factory=list)

    @property
    def median(self) -> Run:
        """The run with the median rate (the lower of two)."""
        return sorted(self.runs, key=lambda run: run.rate)[(len(self.runs) - 1) // 2]

    @property
    def rate(self) -> float:
        """Median rate over the rounds."""
        return statistics.median(run.rate for run in self.runs)


def take_turns(contenders: Sequence[tuple[str, Callable[[], Run]]], rounds: int) -> list[Result]:
    """Run each contender once a round, in turn. Prints as it goes."""
    results = [Result(name) for name, _ in contenders]
    for number in range(rounds):
        for result, (name, run) in zip(results, contenders, strict=True):
            done = run()
            result.runs.append(done)
            print(f"  round {number + 1}  {name:<18} {done.rate:10.1f}/s   {done.cost.seconds:6.2f} s", flush=True)
    return results


def report(title: str, unit: str, results: Sequence[Result], *, aim: float | None = None) -> float:
    """Print each contender's rate, its price and what limits it; return the ratio of the first to the second."""
    with scratch() as folder:
        disk = disk_rate(folder)
    print(f"\n{title}  ({platform.python_implementation()} {platform.python_version()}, {os.cpu_count()} cores)")
    for result in results:
        rates = [run.rate for run in result.runs]
        run = result.median
        server, load = (1000 * seconds / run.units for seconds in (run.cost.server, run.cost.load))
        print(f"  {result.name:<18} {result.rate:10.1f} {unit}s/s  ({min(rates):.0f}..{max(rates):.0f})")
        print(f"    a {unit}: server {server:.3f} ms, load {load:.3f} ms, {run.cost.flushes / run.units:.2f} flushes")
        print(f"    limit: {limit(run.cost, disk)}")
    first, second = results[:2]
    if cpu := _server_cpu(second):
        share = _server_cpu(first) / cpu
        print(f"  the server's CPU a {unit}: {first.name} takes {share:.2f} of what {second.name} takes")
    if aim is not None:
        print(f"  aim: {aim:.2f}")
    return first.rate / second.rate


def _server_cpu(result: Result) -> float:
    """Median CPU seconds of the server a unit: less moved by what else runs on the machine than a rate is."""
    return statistics.median(run.cost.server / run.units for run in result.runs)


def last_line(ratio: float) -> None:
    """Print what tools look for, as the last line of every benchmark."""
    print(f"ratio: {ratio:.2f}", flush=True)


def judge(what: str, value: float, unit: str, *, below: float | None = None) -> None:
    """Print one figure, with its aim where it has one. Judging is left to who reads it."""
    aim = "" if below is None else f"   aim: under {below:g} {unit}: {'ok' if value < below else 'MISSED'}"
    print(f"  {what:<52} {value:10.2f} {unit}{aim}", flush=True)


def wait_until(reached: Callable[[], bool], *, seconds: float, what: str, every: float = 0.02) -> None:
    """Poll until `reached`; raises `TimeoutError` naming what did not happen."""
    deadline = time.monotonic() + seconds
    while not reached():
        if time.monotonic() > deadline:
            raise TimeoutError(f"{what}: not reached within {seconds:.0f} s")
        time.sleep(every)


class Service(Protocol):
    """A server of whatever kind."""

    def start(self) -> None:
        """Start."""
        ...

    def stop(self) -> None:
        """Stop; nothing happens when it does not run."""
        ...

    def log(self) -> str:
        """Return what it has to say."""
        ...


@contextmanager
def running(service: Service) -> Iterator[None]:
    """Run a server while the context lasts; an error takes the end of its log along, and nothing stays behind."""
    try:
        service.start()
        yield
    except Exception as error:
        error.add_note(service.log()[-_LAST_WORDS:])
        raise
    finally:
        service.stop()


@functools.cache
def _alone() -> int:
    """Wait until no other benchmark runs on this machine, and keep others waiting until this process ends.

    They would use the same addresses, and each other's time.
    """
    fd = os.open(Path(tempfile.gettempdir()) / "waypost-bench.lock", os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        print("another benchmark runs; waiting for its end", flush=True)
        fcntl.flock(fd, fcntl.LOCK_EX)
    return fd


def give_way() -> None:
    """Let other benchmarks run until this process begins one again: its own children, above all."""
    if _alone.cache_info().currsize:
        os.close(_alone())
        _alone.cache_clear()


@contextmanager
def scratch() -> Iterator[Path]:
    """A fresh folder on the machine's disk, open to the users that the servers run as; for one benchmark at a time."""
    _alone()
    with tempfile.TemporaryDirectory(prefix="waypost-bench-", ignore_cleanup_errors=True) as name:
        path = Path(name)
        path.chmod(0o755)
        yield path


def need(program: str) -> str:
    """Return the path of a program from Debian's packages, or end with what to install."""
    for installed in (False, True):
        if installed:
            subprocess.run([str(Path(__file__).parents[1] / "tests/tools/ensure-mail-programs")], check=True)
        for folder in (*os.environ["PATH"].split(":"), "/usr/sbin"):
            path = Path(folder) / program
            if path.exists():
                return str(path)
    sys.exit(f"{program} is needed: run `make tools`")
