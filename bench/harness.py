"""What the benchmarks share: contenders that take turns, and a table with the ratio as its last line."""

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


@dataclass
class Result:
    """What one contender reached: units a second in each round, and the CPU seconds that it took."""

    name: str
    rates: list[float] = field(default_factory=list)
    cpu: list[float] = field(default_factory=list)

    @property
    def median(self) -> float:
        """Median rate over the rounds."""
        return statistics.median(self.rates)


def take_turns(contenders: Sequence[tuple[str, Callable[[], tuple[float, float]]]], rounds: int) -> list[Result]:
    """Run each contender once a round, in turn: each returns (rate, CPU seconds). Prints as it goes."""
    results = [Result(name) for name, _ in contenders]
    for number in range(rounds):
        for result, (name, run) in zip(results, contenders, strict=True):
            rate, cpu = run()
            result.rates.append(rate)
            result.cpu.append(cpu)
            print(f"  round {number + 1}  {name:<10} {rate:10.1f}/s   cpu {cpu:6.2f} s", flush=True)
    return results


def report(title: str, unit: str, results: Sequence[Result]) -> float:
    """Print the medians, and last the ratio of the first contender to the second; return the ratio."""
    print(f"\n{title}  ({platform.python_implementation()} {platform.python_version()}, {os.cpu_count()} cores)")
    for result in results:
        spread = f"{min(result.rates):.0f}..{max(result.rates):.0f}"
        cpu = statistics.median(result.cpu)
        print(f"  {result.name:<10} {result.median:10.1f} {unit}/s   ({spread})   cpu {cpu:.2f} s")
    ratio = results[0].median / results[1].median if len(results) > 1 and results[1].median else float("nan")
    print(f"ratio: {ratio:.2f}")
    return ratio


def wait_until(reached: Callable[[], bool], *, seconds: float, what: str, every: float = 0.02) -> None:
    """Poll until `reached`; raises `TimeoutError` naming what did not happen."""
    deadline = time.monotonic() + seconds
    while not reached():
        if time.monotonic() > deadline:
            raise TimeoutError(f"{what}: not reached within {seconds:.0f} s")
        time.sleep(every)


@contextmanager
def scratch() -> Iterator[Path]:
    """A fresh folder on the machine's disk, open to the users that the servers run as."""
    with tempfile.TemporaryDirectory(prefix="waypost-bench-", ignore_cleanup_errors=True) as name:
        path = Path(name)
        path.chmod(0o755)
        yield path


def cpu_of_group(leader: int) -> float:
    """Return the CPU seconds (user and system) of all processes in the session of `leader`, so far."""
    ticks = os.sysconf("SC_CLK_TCK")
    total = 0.0
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit():
            continue
        try:
            fields = (entry / "stat").read_text().rsplit(")", 1)[1].split()
        except OSError:
            continue
        if int(fields[3]) == leader:  # session id
            total += sum(int(value) for value in fields[11:15]) / ticks
    return total


def need(program: str) -> str:
    """Return the path of a program from Debian's packages, or end with what to install."""
    for folder in (*os.environ["PATH"].split(":"), "/usr/sbin"):
        path = Path(folder) / program
        if path.exists():
            return str(path)
    subprocess.run([str(Path(__file__).parents[1] / "tests/tools/ensure-mail-programs")], check=True)
    path = Path("/usr/sbin") / program
    if path.exists():
        return str(path)
    sys.exit(f"{program} is needed: run `make tools`")
