"""Where Waypost's CPU time goes under a benchmark's load.

    python -m bench.profile accept|relay|pop3 [--variant NAME] [--scale SHARE] [--stacks FILE]

Prints the functions by their own time and by the time of all that they call, for both workers together. `--stacks`
writes whole stacks in the form that flame graph tools read.
"""

import argparse
import json
import os
import signal
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from bench import accept, pop3, relay
from bench.harness import running, scratch, wait_until
from bench.meter import processes_of_session
from bench.waypost_server import WaypostContender
from bench.world import SINK, World

_SAMPLER = Path(__file__).parent / "sampler"
_LINES = 25


@dataclass
class Profile:
    """What all workers did: CPU seconds in user and system mode, and microseconds by stack."""

    user: float = 0.0
    system: float = 0.0
    stacks: Counter[str] = field(default_factory=Counter)

    def add(self, spent: dict[str, Any]) -> None:
        """Add what one worker wrote."""
        self.user += spent["user"]
        self.system += spent["system"]
        self.stacks.update(spent["stacks"])

    def print(self, units: int, unit: str) -> None:
        """Print the tables; shares are of the CPU time that was sampled."""
        whole = sum(self.stacks.values()) or 1
        a_unit = 1000 * (self.user + self.system) / units
        print(f"\n{units} {unit}s: {a_unit:.3f} ms CPU each; user {self.user:.2f} s, system {self.system:.2f} s")
        threads: Counter[str] = Counter()
        own: Counter[str] = Counter()
        below: Counter[str] = Counter()
        for stack, spent in self.stacks.items():
            thread, *functions = stack.split(";")
            threads[thread] += spent
            own[functions[-1] if functions else "?"] += spent
            for function in set(functions):
                below[function] += spent
        for title, counted in (("thread", threads), ("function, its own time", own), ("function, with callees", below)):
            print(f"\n  share  {title}")
            for name, spent in counted.most_common(_LINES):
                print(f"  {spent / whole:5.1%}  {name}")


@contextmanager
def sampling(server: WaypostContender, samples: Path, profile: Profile) -> Iterator[None]:
    """Sample the workers of a running server while the context lasts."""
    workers = [pid for pid in processes_of_session(server.pid) if (samples / f"{pid}.json").exists()]
    for pid in workers:
        os.kill(pid, signal.SIGUSR1)
    yield
    for pid in workers:
        os.kill(pid, signal.SIGUSR1)
    for pid in workers:
        wait_until(lambda pid=pid: _whole(samples / f"{pid}.json"), seconds=20, what="a worker writes its samples")  # type: ignore[misc]
        profile.add(json.loads((samples / f"{pid}.json").read_bytes()))


def _whole(path: Path) -> bool:
    return path.read_bytes().endswith(b"}}")


def _server(folder: Path, world: World) -> tuple[WaypostContender, Path]:
    samples = folder / "samples"
    samples.mkdir()
    environment = {"PYTHONPATH": str(_SAMPLER), "WAYPOST_BENCH_SAMPLES": str(samples)}
    return WaypostContender(folder, world, environment=environment), samples


def _accept(options: argparse.Namespace, profile: Profile) -> int:
    variant = accept.VARIANTS[options.variant]
    messages: int = max(variant.sessions, round(variant.messages * options.scale))
    with scratch() as folder:
        server, samples = _server(folder, accept.world_of(variant, messages))
        with running(server):
            with accept.load(server, variant, messages) as (_, send), sampling(server, samples, profile):
                send()
                accept.until_delivered(server, messages * variant.recipients)
            return messages


def _relay(options: argparse.Namespace, profile: Profile) -> int:
    load = argparse.Namespace(messages=round(5000 * options.scale), size=10240, sessions=20)
    with scratch() as folder:
        server, samples = _server(folder, World(mailboxes=1, ways={SINK: relay.WAY}))
        with running(server), sampling(server, samples, profile):
            return relay.through(server, folder, server.queued, load).units


def _pop3(options: argparse.Namespace, profile: Profile) -> int:
    load = argparse.Namespace(sessions=50, messages=max(1, round(1000 * options.scale)), size=4096)
    with scratch() as folder:
        server, samples = _server(folder, World(mailboxes=load.sessions, pop3=True))
        pop3.fill(server, load)
        with running(server):
            around = sampling(server, samples, profile)
            return pop3.download(server.address, server.pid, folder, load, around).units


_LOADS = {"accept": _accept, "relay": _relay, "pop3": _pop3}


def main(arguments: Sequence[str] | None = None) -> None:
    """Profile one benchmark's load."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("load", choices=_LOADS)
    parser.add_argument("--variant", choices=accept.VARIANTS, default="main", help="of accept")
    parser.add_argument("--scale", type=float, default=1.0, help="share of the benchmark's messages")
    parser.add_argument("--stacks", type=Path, help="write `frame;frame;frame microseconds` lines to this file")
    options = parser.parse_args(arguments)
    profile = Profile()
    units = _LOADS[options.load](options, profile)
    profile.print(units, "message")
    if options.stacks:
        options.stacks.write_text("".join(f"{stack} {spent}\n" for stack, spent in profile.stacks.items()))


if __name__ == "__main__":
    main()
