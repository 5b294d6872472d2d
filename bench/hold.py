"""How long large deeds hold a worker's event loop and the lock of the storage's writers, and what a neighbour feels.

    python -m bench.hold [--deed NAME] [--rounds N] [--scale SHARE]

Each deed is done several times; its figures are the smallest of the longest holds, so that what else the machine did
counts least. A second client greets, logs in and delivers 1 KiB all the while. Exits with 1 when a bar is missed.
"""

import argparse
import os
import signal
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from bench import holding
from bench.harness import running, scratch, wait_until
from bench.meter import processes_of_session
from bench.waypost_server import WaypostContender
from bench.world import DOMAIN, PASSWORD, World

_BAR = 50.0  # milliseconds
_SHARE = 0.5  # of the neighbour's idle rate
_SLOWEST = 500.0  # milliseconds, the neighbour's 99th percentile
_IDLE = 8.0  # seconds

BEFORE: dict[str, tuple[float | None, ...]] = {
    "pop3": (6.9, 563.4, 2.69, 140.4),
    "large": (12.9, 12.8, 0.35, 7502.0),
    "dead": (7.3, 39.4, 1.04, 1062.0),
    "retry": (7.7, 98.3, 0.55, 1134.3),
    "segments": (1100.0, None, None, None),
}
"""What commit 260da00 did: hold of the loop, hold of the lock, share of the neighbour's rate, its 99th percentile.

Measured in one round each, on a machine that others used; the hold beside the segments was measured apart, once.
"""


@dataclass
class Figures:
    """What was seen of a deed, in milliseconds and shares."""

    loop: list[float] = field(default_factory=list)
    lock: list[float] = field(default_factory=list)
    shares: list[float] = field(default_factory=list)
    seconds: list[float] = field(default_factory=list)

    def add(self, held: tuple[float, float], seen: Sequence[float], lasted: float, idle: float) -> None:
        """Add one round."""
        self.loop.append(1000 * held[0])
        self.lock.append(1000 * held[1])
        self.shares.append(len(seen) / lasted / idle)
        self.seconds.extend(seen)

    @property
    def values(self) -> tuple[float, float, float, float]:
        """Holds of loop and lock, the neighbour's share of its idle rate, and its 99th percentile."""
        slowest = 1000 * statistics.quantiles(self.seconds, n=100)[98] if len(self.seconds) > 1 else 60_000.0
        return min(self.loop), min(self.lock), statistics.median(self.shares), slowest


class Workers:
    """The workers of a server that measure themselves (`bench/holds/sitecustomize.py`)."""

    def __init__(self, server: WaypostContender, folder: Path) -> None:
        self._server = server
        self._folder = folder
        self._read: dict[Path, int] = {}

    @property
    def pids(self) -> list[int]:
        """The workers."""
        return [
            pid
            for pid in processes_of_session(self._server.pid)
            if Path(f"/proc/{pid}/comm").read_text() == "waypost-worker\n"
        ]

    def tell(self, what: signal.Signals) -> None:
        """Send a signal to each."""
        for pid in self.pids:
            os.kill(pid, what)

    def held(self) -> tuple[float, float]:
        """Return the longest holds of loop and lock since the last call, of all processes."""
        files = [self._folder / str(pid) for pid in self.pids]
        before = {path: path.stat().st_size for path in files}
        self.tell(signal.SIGUSR1)
        wait_until(lambda: all(path.stat().st_size > before[path] for path in files), seconds=60, what="holds are told")
        loop = lock = 0.0
        for path in self._folder.iterdir():
            if path.name.isdigit():
                text = path.read_text()
                new, self._read[path] = text[self._read.get(path, 0) :], len(text)
                for held in holding.lines(new):
                    loop, lock = max(loop, held["loop"]), max(lock, held["lock"])
        return loop, lock


class Neighbour:
    """The second client, in a process of its own."""

    def __init__(self, server: WaypostContender) -> None:
        user = f"user0@{DOMAIN}"
        command = ["-m", "bench.neighbour", server.address, "465", user, PASSWORD, user]
        self._process = subprocess.Popen(
            [sys.executable, *command], stdin=subprocess.PIPE, stdout=subprocess.PIPE, bufsize=0
        )
        assert self._process.stdout is not None
        self._told = self._process.stdout
        if self._told.readline() != b"ready\n":
            raise RuntimeError("the neighbour failed")
        os.set_blocking(self._told.fileno(), False)
        self._rest = b""

    def seen(self) -> list[float]:
        """Return how many seconds each delivery took that ended since the last call. Raises `RuntimeError`."""
        if self._process.poll() is not None:
            raise RuntimeError("the neighbour failed")
        *lines, self._rest = (self._rest + (self._told.read() or b"")).split(b"\n")
        return [float(line) for line in lines]

    def end(self) -> None:
        """End it."""
        self._process.kill()
        self._process.wait()


@contextmanager
def _neighbour(server: WaypostContender) -> Iterator[Neighbour]:
    neighbour = Neighbour(server)
    try:
        yield neighbour
    finally:
        neighbour.end()


def measure(name: str, scale: float, rounds: int) -> Figures:
    """Do a deed so many times beside a neighbour."""
    deed = holding.DEEDS[name](scale, rounds)
    figures = Figures()
    with scratch() as folder:
        held = folder / "held"
        held.mkdir(mode=0o777)
        server = WaypostContender(
            folder,
            World(mailboxes=rounds + 1, ways=deed.ways, pop3=True, submission=True),
            settings={"submission": dict.fromkeys(holding.LIMITS, 1_000_000)},
            environment={
                "PYTHONPATH": str(Path(__file__).parent / "holds"),
                "WAYPOST_BENCH_HOLDS": str(held),
                **deed.environment,
            },
        )
        deed.fill(server)
        workers = Workers(server, held)
        with running(server), _neighbour(server) as neighbour:
            idle = _idle_rate(neighbour)
            for number in range(rounds):
                figures.add(*_round(workers, neighbour, deed.prepare(server, workers, number)), idle)
                print(
                    f"  {name} {number + 1}: loop {figures.loop[-1]:.1f} ms, lock {figures.lock[-1]:.1f} ms", flush=True
                )
    return figures


def _idle_rate(neighbour: Neighbour) -> float:
    neighbour.seen()
    began = time.monotonic()
    time.sleep(_IDLE)
    return len(neighbour.seen()) / (time.monotonic() - began)


def _round(
    workers: Workers, neighbour: Neighbour, deed: Callable[[], None]
) -> tuple[tuple[float, float], list[float], float]:
    workers.held()
    neighbour.seen()
    began = time.monotonic()
    deed()
    lasted = time.monotonic() - began
    if lasted < 1.0:  # too short for a rate: what follows counts, too
        time.sleep(1.0 - lasted)
        lasted = time.monotonic() - began
    seen = neighbour.seen()
    return workers.held(), seen, lasted


def _judged(name: str, values: tuple[float, float, float, float]) -> bool:
    """Print a deed's figures beside those of before; return whether all bars are met."""
    loop, lock, share, slowest = values
    rows = (
        ("longest hold of the event loop (CPU)", loop, "ms", loop < _BAR, f"under {_BAR:g}"),
        ("longest hold of the writers' lock", lock, "ms", lock < _BAR, f"under {_BAR:g}"),
        ("neighbour's rate over its idle rate", share, "", share >= _SHARE, f"at least {_SHARE:g}"),
        ("neighbour's 99th percentile", slowest, "ms", slowest < _SLOWEST, f"under {_SLOWEST:g}"),
    )
    print(holding.DEEDS[name].__doc__)
    for (words, value, unit, met, bar), before in zip(rows, BEFORE[name], strict=True):
        end = "ok" if met else "MISSED"
        then = "not measured" if before is None else f"{before:.2f}"
        print(f"  {words:<38} {value:10.2f} {unit:<2}  before: {then:>12}  aim: {bar}: {end}", flush=True)
    return all(row[3] for row in rows)


def main(arguments: Sequence[str] | None = None, *, strict: bool = True) -> None:
    """Measure, print, judge."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--deed", choices=holding.DEEDS, action="append", help="only this one")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--scale", type=float, default=1.0)
    options = parser.parse_args(arguments)
    met = [_judged(name, measure(name, options.scale, options.rounds).values) for name in options.deed or holding.DEEDS]
    if strict and not all(met):
        raise SystemExit(1)


if __name__ == "__main__":
    main()
