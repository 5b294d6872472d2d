"""What an idle service takes, and what idle connections cost: memory for each, and the rate at which mail is accepted
beside them.

    python -m bench.idle [--connections N] [--tls] [--messages N] [--rounds N]

The last line is the rate of `bench/accept` (10 KiB, 20 sessions) beside the idle connections over that without. Postfix
has no part in it: it would need a process for each.
"""

import argparse
import resource
import time
from collections.abc import Sequence
from pathlib import Path

from bench import idle_memory
from bench.accept import VARIANTS, load, world_of
from bench.clients import prepared, shares
from bench.harness import Run, judge, last_line, report, running, scratch, take_turns, wait_until
from bench.meter import Meter
from bench.waypost_server import WaypostContender

_PROCESSES = 4
_SPARE = 1000  # descriptors beside the connections


def _run(options: argparse.Namespace, connections: int, weights: list[float]) -> Run:
    # All may land in one worker, and one client network is enough for all: this is no attack.
    limits = {"connections": options.connections + _SPARE, "command_timeout": "1h", "session_time": "2h"}
    with scratch() as folder:
        server = WaypostContender(folder, world_of(VARIANTS["main"], options.messages), settings={"limits": limits})
        with running(server):
            _accept(server, min(200, options.messages), 0)  # what grows once, at the first mail, is not the idlers'
            if not connections:
                return _measure(server, folder, [], options.messages)
            before = server.memory()
            with prepared("idlers", _idlers(server, connections, options.tls)) as idlers:
                time.sleep(1)  # let the kernel and the collector settle
                weights.append((server.memory() - before) / connections)
                done = _measure(server, folder, idlers.pids, options.messages)
                idlers.go()  # fails when a connection did not live
                return done


def _idlers(server: WaypostContender, connections: int, tls: bool) -> list[list[str]]:
    """Each process has a source address of its own, since one has too few ports."""
    return [
        [server.address, str(server.port), f"--connections={share}", f"--source=127.0.48.{1 + number}"]
        + (["--tls"] if tls else [])
        for number, share in enumerate(shares(connections, _PROCESSES))
    ]


def _measure(server: WaypostContender, folder: Path, pids: Sequence[int], messages: int) -> Run:
    there = server.delivered()
    meter = Meter(server.cpu, folder, load=pids)
    _accept(server, messages, there)
    return Run(messages, meter.stop())


def _accept(server: WaypostContender, messages: int, there: int) -> None:
    with load(server, VARIANTS["main"], messages) as (_, send):
        send()
    wait_until(lambda: server.delivered() >= there + messages, seconds=60, what="all are delivered")


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--connections", type=int, default=10_000)
    parser.add_argument("--tls", action="store_true", help="idle after STARTTLS")
    parser.add_argument("--messages", type=int, default=5000)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args(arguments)
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    needed = options.connections + _SPARE
    if most < needed:  # only root may; the service inherits it
        resource.setrlimit(resource.RLIMIT_NOFILE, (needed, needed))
    title = f"idle: {options.connections} idle connections{' over TLS' if options.tls else ''}"
    print(title)
    idle_memory.measure()
    weights: list[float] = []
    runs = [
        ("beside them", lambda: _run(options, options.connections, weights)),
        ("without", lambda: _run(options, 0, weights)),
    ]
    results = take_turns(runs, options.rounds)
    judge("memory of the service for each connection", max(weights) / 1024, "KiB", below=None if options.tls else 20)
    last_line(report(title, "message", results))


if __name__ == "__main__":
    main()
