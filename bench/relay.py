"""How many messages a second go through the queue to another server, beside Postfix.

    python -m bench.relay [--messages N] [--size OCTETS] [--sessions N] [--rounds N]
    python -m bench.relay --hanging [--destinations N] ...

`smtp-source` sends to the server, which relays everything to one `smtp-sink` (a fixed way, no DNS). The time ends
when the queue is empty. With `--hanging` see `bench/hanging.py`.
"""

import argparse
import subprocess
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from bench import hanging
from bench.harness import Run, last_line, need, report, running, scratch, take_turns, wait_until
from bench.meter import Meter
from bench.postfix_server import PostfixContender
from bench.waypost_server import WaypostContender
from bench.world import SINK, Contender, World

WAY = ("127.0.8.9", 2526)
AIM = 2.5


@contextmanager
def sink() -> Iterator[int]:
    """Run `smtp-sink` while the context lasts; gives its process id."""
    command = [need("smtp-sink"), "-u", "nobody", f"{WAY[0]}:{WAY[1]}", "1000"]
    process = subprocess.Popen(command, stderr=subprocess.DEVNULL)
    try:
        yield process.pid
    finally:
        process.terminate()
        process.wait()


def send(server: Contender, *, messages: int, sessions: int, size: int) -> None:
    """Send messages for the sink to the server; returns when all are accepted."""
    command = [need("smtp-source"), "-s", str(sessions), "-m", str(messages), "-l", str(size), "-N"]
    command += ["-f", "sender@elsewhere.test", "-t", f"user@{SINK}", f"{server.address}:{server.port}"]
    subprocess.run(command, check=True)


def through(server: Contender, folder: Path, queued: Callable[[], int], options: argparse.Namespace) -> Run:
    """Send through a running server until the queue for the sink is empty."""
    with sink() as pid:
        meter = Meter(server.cpu, folder, load=[pid])
        send(server, messages=options.messages, sessions=options.sessions, size=options.size)
        wait_until(lambda: queued() == 0, seconds=180, what=f"{server.name} empties its queue")
        return Run(options.messages, meter.stop())


def run(kind: type[WaypostContender] | type[PostfixContender], options: argparse.Namespace) -> Run:
    """One run of one contender, fresh."""
    with scratch() as folder:
        server = kind(folder, World(mailboxes=1, ways={SINK: WAY}))
        with running(server):
            return through(server, folder, server.queued, options)


def main(arguments: Sequence[str] | None = None) -> None:
    """Run both in turn and print the ratio."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--messages", type=int, default=5000)
    parser.add_argument("--size", type=int, default=10240)
    parser.add_argument("--sessions", type=int, default=20)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--hanging", action="store_true", help="many destinations, of which some never answer")
    parser.add_argument("--destinations", type=int, default=1000)
    options = parser.parse_args(arguments)
    if options.hanging:
        hanging.compare(options)
        return
    title = f"relay: {options.messages} messages of {options.size} octets, {options.sessions} sessions"
    print(title)
    contenders = [
        ("waypost", lambda: run(WaypostContender, options)),
        ("postfix", lambda: run(PostfixContender, options)),
    ]
    last_line(report(title, "message", take_turns(contenders, options.rounds), aim=AIM))


if __name__ == "__main__":
    main()
