"""How fast users' mail is taken, beside mail of other servers: the variant `submission` of `bench/accept.py`.

Both are sent by the same generator (`bench/smtp_source.py`) to the same server, in turn: kept connections, the same
senders and recipients, no TLS, and logins before the clock. What differs is what submission does for a message.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from bench import smtp_source
from bench.harness import Run, judge, report, running, scratch, take_turns, wait_until
from bench.meter import Meter
from bench.waypost_server import WaypostContender
from bench.world import DOMAIN, World

AIM = 0.85
_MOST_FLUSHES = 1.1
_PLENTY = 1_000_000
_LIMITS = {f"{what}_per_{time}": _PLENTY for what in ("messages", "recipients") for time in ("hour", "day")}


def compare(messages: int, sessions: int, size: int, rounds: int) -> float:
    """Run submission and reception in turn; return the ratio of their rates."""
    title = f"accept submission: {messages} messages, {size // 1024} KiB, {sessions} sessions, connections kept"
    print(title)
    contenders = [
        ("submission", lambda: run(587, messages, sessions, size)),
        ("reception", lambda: run(25, messages, sessions, size)),
    ]
    results = take_turns(contenders, rounds)
    ratio = report(title, "message", results, aim=AIM)
    ours, theirs = (result.median.cost.flushes / result.median.units for result in results)
    judge("submission's flushes a message, by reception's", ours / theirs, "times", below=_MOST_FLUSHES)
    return ratio


def run(port: int, messages: int, sessions: int, size: int) -> Run:
    """One run on one port of a fresh server: 587 with a login, 25 without one."""
    mailboxes = World().mailboxes
    aliases = {f"{n}user": f"user{n % mailboxes}@{DOMAIN}" for n in range(1, messages + 1)}
    with scratch() as folder, _server(folder, World(aliases=aliases, submission=True)) as server:
        load = smtp_source.prepared(
            server.address,
            port,
            messages=messages,
            sessions=min(sessions, messages),
            size=size,
            to=f"user@{DOMAIN}",
            kept=True,
            login=port == 587,
        )
        with load as clients:
            meter = Meter(server.cpu, folder, load=clients.pids)
            clients.go()
            wait_until(lambda: server.delivered() >= messages, seconds=60, what=f"{messages} messages are delivered")
            return Run(messages, meter.stop())


@contextmanager
def _server(folder: Path, world: World) -> Iterator[WaypostContender]:
    pretended = {"PYTHONPATH": str(Path(__file__).parent / "pretended_tls")}
    server = WaypostContender(folder, world, settings={"submission": _LIMITS}, environment=pretended)
    with running(server):
        yield server
