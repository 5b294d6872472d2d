"""What a very deep queue costs: start-up, memory, fresh mail beside it, and an operator's commands.

    python -m bench.depth [--entries N] [--destinations N] [--messages N] [--rounds N]

All entries of the queue are deferred. Fresh mail goes to a healthy destination, in turn with a host whose queue is
empty; the last line is the rate beside the deep queue over that without.
"""

import argparse
import smtplib
import statistics
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from bench import deep_queue
from bench.harness import Run, judge, last_line, report, running, scratch, take_turns, wait_until
from bench.relay import WAY, sink, through
from bench.waypost_server import WaypostContender
from bench.world import DOMAIN, SINK, World

_MEGABYTE = 1_000_000
_WORLD = World(mailboxes=1, ways={SINK: WAY, deep_queue.LARGE: WAY})


class _Deep:
    """A host with a deep queue, and what was seen of it."""

    def __init__(self, folder: Path, options: argparse.Namespace) -> None:
        self.server = WaypostContender(folder, _WORLD)
        began = time.monotonic()
        deep_queue.fill(self.server.data, entries=options.entries, destinations=options.destinations)
        size = (self.server.data / "waypost.db").stat().st_size
        print(f"  built in {time.monotonic() - began:.1f} s: {size / _MEGABYTE:.0f} MB", flush=True)
        self.starts: list[float] = []
        self.memory: list[int] = []
        self.shared: list[int] = []

    def start(self) -> None:
        """Start, and time the first message that is accepted."""
        began = time.monotonic()
        self.server.start(ready=False)
        _accept_one(self.server)
        self.starts.append(time.monotonic() - began)

    def stop(self) -> None:
        """Weigh, and stop."""
        self.memory.append(self.server.memory())
        self.shared.append(self.server.memory("Pss"))
        self.server.stop()

    def log(self) -> str:
        """Return its log."""
        return self.server.log()


def _accept_one(server: WaypostContender) -> None:
    """Send one message, as soon as somebody takes it."""
    deadline = time.monotonic() + 120
    while True:
        try:
            with smtplib.SMTP(server.address, server.port, "bench.source.test", timeout=60) as client:
                client.sendmail(
                    "sender@elsewhere.test", [f"user0@{DOMAIN}"], f"Subject: {time.time()}\r\n\r\nfirst\r\n"
                )
                return
        except ConnectionRefusedError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.01)


def _fresh(deep: _Deep, folder: Path, options: argparse.Namespace) -> Run:
    with running(deep):
        return through(deep.server, folder, lambda: deep.server.queued(SINK), options)


def _fresh_alone(server: WaypostContender, folder: Path, options: argparse.Namespace) -> Run:
    with running(server):
        return through(server, folder, lambda: server.queued(SINK), options)


def _commands(deep: _Deep) -> None:
    """What an operator waits for."""
    for arguments in (("queue", "list"), ("queue", "stats"), ("status",)):
        seconds = []
        for _ in range(3):
            began = time.monotonic()
            deep.server.command(*arguments)
            seconds.append(time.monotonic() - began)
        judge("waypost " + " ".join(arguments), statistics.median(seconds), "s", below=2)


def _retry(deep: _Deep) -> None:
    """A mass retry, until the first message is gone; the rest is left to itself."""
    server = deep.server
    first = server.one("SELECT min(id) FROM entry WHERE destination = ?", deep_queue.LARGE)
    whole = server.queued(deep_queue.LARGE)
    config = ("--config", str(server.config))
    with sink():
        began = time.monotonic()
        command = [sys.executable, "-m", "waypost", "queue", "retry", "--domain", deep_queue.LARGE, *config]
        retry = subprocess.Popen(command, stdout=subprocess.DEVNULL)
        gone = "SELECT NOT EXISTS (SELECT 1 FROM entry WHERE id = ?)"
        wait_until(lambda: bool(server.one(gone, first)), seconds=120, what="the first is delivered", every=0.005)
        judge(f"retry of {whole} entries: the first is delivered after", time.monotonic() - began, "s", below=2)
        retry.wait(600)
        judge("  and all are due after", time.monotonic() - began, "s")


def main(arguments: Sequence[str] | None = None) -> None:
    """Build, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--entries", type=int, default=1_000_000)
    parser.add_argument("--destinations", type=int, default=100_000)
    parser.add_argument("--messages", type=int, default=3000, help="fresh messages a run")
    parser.add_argument("--size", type=int, default=10240)
    parser.add_argument("--sessions", type=int, default=20)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args(arguments)
    title = f"depth: {options.entries} entries of {options.destinations} destinations"
    print(title)
    with scratch() as folder:
        (folder / "empty").mkdir()
        deep = _Deep(folder, options)
        empty = WaypostContender(folder / "empty", _WORLD)
        runs = [
            ("beside the queue", lambda: _fresh(deep, folder, options)),
            ("without", lambda: _fresh_alone(empty, folder, options)),
        ]
        results = take_turns(runs, options.rounds)
        with running(deep):
            _commands(deep)
            _retry(deep)
    judge("start-up to the first accepted message", statistics.median(deep.starts), "s", below=5)
    judge("memory of the service (resident, shared pages twice)", max(deep.memory) / _MEGABYTE, "MB", below=400)
    judge("  the same, shared pages once", max(deep.shared) / _MEGABYTE, "MB")
    last_line(report(title, "message", results, aim=0.9))


if __name__ == "__main__":
    main()
