"""How many messages a second are taken by SMTP and durably in their mailboxes, beside Postfix.

    python -m bench.accept [--variant NAME | --all] [--rounds N] [--scale SHARE]
    python -m bench.accept --base REVISION [--variant NAME] [--rounds N] [--scale SHARE]

The load is Postfix's own `smtp-source`, a message a connection but where the variant says otherwise; over TLS it is
`bench/smtp_source.py`. The time ends when every message is in its mailbox. With `--base`, the other side is another
commit of Waypost (`bench/base.py`), and the ratio is that of the server's CPU time a message: smaller is better. The
variant `submission` is compared with our own reception, by our generator for both (`bench/submission.py`).
"""

import argparse
import subprocess
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from bench import smtp_source, submission
from bench.base import compare_with
from bench.clients import shares
from bench.harness import Run, last_line, need, report, running, scratch, take_turns, wait_until
from bench.meter import Meter
from bench.postfix_server import PostfixContender
from bench.waypost_server import WaypostContender
from bench.world import DOMAIN, Contender, World

Make = Callable[[Path, World], Contender]


@dataclass(frozen=True, slots=True)
class Variant:
    """One kind of load. `aim` is the ratio to Postfix that is asked of Waypost."""

    words: str
    messages: int
    size: int = 10240
    sessions: int = 20
    recipients: int = 1
    tls: bool = False
    kept: bool = False  # connections are kept for further messages
    submission: bool = False  # users' mail, beside our own reception
    aim: float = 2.0


VARIANTS = {
    "main": Variant("10 KiB, 20 sessions", 6000, aim=3.0),
    "small": Variant("1 KiB", 6000, size=1024),
    "large": Variant("1 MiB", 400, size=1 << 20),
    "one-session": Variant("1 session", 1500, sessions=1),
    "many-sessions": Variant("200 sessions", 6000, sessions=200),
    "many-recipients": Variant("20 recipients a message", 1000, recipients=20),
    "tls": Variant("STARTTLS, a handshake a message", 3000, tls=True),
    "kept": Variant("connections kept", 6000, kept=True),
    "submission": Variant("users' mail, beside reception", 6000, kept=True, submission=True, aim=submission.AIM),
}


def run(make: Make, variant: Variant, messages: int) -> Run:
    """One run of one contender, fresh."""
    if variant.submission:
        return submission.run(587, messages, variant.sessions, variant.size)
    addresses = messages * variant.recipients
    with scratch() as folder:
        server = make(folder, world_of(variant, messages))
        with running(server), load(server, variant, messages) as (pids, send):
            meter = Meter(server.cpu, folder, load=pids)
            send()
            until_delivered(server, addresses)
            return Run(messages, meter.stop())


@contextmanager
def load(server: Contender, variant: Variant, messages: int) -> Iterator[tuple[list[int], Callable[[], None]]]:
    """Prepare the load of a variant: gives its processes, and what sends all messages until they are accepted."""
    if variant.tls:
        with smtp_source.prepared(
            server.address,
            server.port,
            messages=messages,
            sessions=min(variant.sessions, messages),
            size=variant.size,
            to=f"user@{DOMAIN}",
        ) as clients:
            yield clients.pids, clients.go
        return
    sources = [_source(server, variant, *each) for each in _groups(variant, messages)]

    def send() -> None:
        started = [subprocess.Popen(source) for source in sources]
        if sum(process.wait() for process in started):
            raise RuntimeError("smtp-source failed")

    yield [], send


def _groups(variant: Variant, messages: int) -> list[tuple[str, int, int]]:
    """Return who writes: (the part of the address behind the number, messages, sessions) of each `smtp-source`.

    With several recipients a message, its addresses are numbered from 1 in each, so that none ends in the same
    mailbox as another; several groups reach all mailboxes.
    """
    if variant.recipients == 1:
        return [("user", messages, min(variant.sessions, messages))]
    groups = World().mailboxes // variant.recipients
    sizes = zip(shares(messages, groups), shares(variant.sessions, groups), strict=False)
    return [(f"user{group}", share, min(busy, share)) for group, (share, busy) in enumerate(sizes)]


def _source(server: Contender, variant: Variant, to: str, messages: int, sessions: int) -> list[str]:
    command = [need("smtp-source"), "-s", str(sessions), "-m", str(messages), "-l", str(variant.size)]
    command += ["-r", str(variant.recipients)] if variant.recipients > 1 else ["-N"]
    command += ["-d"] if variant.kept else []
    return [*command, "-f", "sender@elsewhere.test", "-t", f"{to}@{DOMAIN}", f"{server.address}:{server.port}"]


def world_of(variant: Variant, messages: int) -> World:
    """Return the mailboxes, with an alias for every address that the load of a variant writes to."""
    mailboxes = World().mailboxes
    if variant.recipients == 1:
        return World(aliases={f"{n}user": f"user{n % mailboxes}@{DOMAIN}" for n in range(1, messages + 1)})
    groups, numbers = range(mailboxes // variant.recipients), range(1, variant.recipients + 1)
    return World(
        aliases={
            f"{n}user{group}": f"user{group * variant.recipients + n - 1}@{DOMAIN}" for group in groups for n in numbers
        }
    )


def until_delivered(server: Contender, addresses: int) -> None:
    """Return when that many messages are in mailboxes. The queue is asked first: that costs little."""
    wait_until(lambda: server.queued() == 0, seconds=180, what=f"{server.name} empties its queue")
    wait_until(
        lambda: server.delivered() >= addresses,
        seconds=60,
        what=f"{server.name} delivers {addresses} (it has {server.delivered()})",
    )


def waypost(folder: Path, world: World) -> Contender:
    """Make a Waypost."""
    return WaypostContender(folder, world)


def postfix(folder: Path, world: World) -> Contender:
    """Make a Postfix."""
    return PostfixContender(folder, world)


def postfix_with_tls(folder: Path, world: World) -> Contender:
    """Make a Postfix with a key of the kind that Waypost makes for itself."""
    certified = WaypostContender(folder, World(mailboxes=0))
    return PostfixContender(folder, world, tls=certified.tls)


def compare(name: str, rounds: int, scale: float) -> float:
    """Run one variant with both in turn; return the ratio."""
    variant = VARIANTS[name]
    messages = max(variant.sessions, round(variant.messages * scale))
    if variant.submission:
        return submission.compare(messages, variant.sessions, variant.size, rounds)
    title = f"accept {name}: {messages} messages, {variant.words}"
    print(title)
    peer = postfix_with_tls if variant.tls else postfix
    contenders = [
        ("waypost", lambda: run(waypost, variant, messages)),
        ("postfix", lambda: run(peer, variant, messages)),
    ]
    return report(title, "message", take_turns(contenders, rounds), aim=variant.aim)


def main(arguments: Sequence[str] | None = None) -> None:
    """Run both in turn and print the ratio; with `--all`, that of the main variant last."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--variant", choices=VARIANTS, default="main")
    parser.add_argument("--all", action="store_true", help="every variant")
    parser.add_argument("--base", metavar="REVISION", help="compare with another commit instead of Postfix")
    parser.add_argument("--most", type=float, default=1.12, help="with --base: the ratio of CPU time that is aimed at")
    parser.add_argument("--rounds", type=int, help="default 3, with --base 5")
    parser.add_argument("--scale", type=float, default=1.0, help="share of the variant's messages")
    options = parser.parse_args(arguments)
    if options.base:
        variant = VARIANTS[options.variant]
        messages = max(variant.sessions, round(variant.messages * options.scale))
        last_line(compare_with(options.base, options.variant, messages, options.rounds or 5, most=options.most))
        return
    rounds = options.rounds or 3
    if not options.all:
        last_line(compare(options.variant, rounds, options.scale))
        return
    ratios: dict[str, float] = {}
    for name in VARIANTS:
        ratios[name] = compare(name, rounds, options.scale)
        last_line(ratios[name])
        print()
    for name, ratio in ratios.items():
        aim = VARIANTS[name].aim
        print(f"  {name:<18} {ratio:6.2f}   aim: {aim:.2f} {'ok' if ratio >= aim else 'MISSED'}")
    last_line(ratios["main"])


if __name__ == "__main__":
    main()
