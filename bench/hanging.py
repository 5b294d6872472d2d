"""Does a tenth of a server's destinations that hang slow the others down? Part of `bench/relay.py`.

Mail goes to destinations with names and addresses of their own, found by MX in NSD. Those that hang accept the
connection and never answer; mail for them waits in the queue, with its connections open, before the clock starts.
Then the same load goes to the good ones, with and without that, and the time ends when they have all of it.
"""

import argparse
import subprocess
from pathlib import Path

from tests.peers.nsd import Nsd

from bench import sinks
from bench.harness import Run, last_line, need, report, running, scratch, take_turns, wait_until
from bench.meter import Meter
from bench.postfix_server import PostfixContender
from bench.waypost_server import WaypostContender
from bench.world import DOMAIN, Contender, World

_ZONE = "road.test"
_NAMESERVER = "127.0.8.53"
_PORT = 2526
_SHARE = 10  # one destination in so many hangs
_EACH = 2  # messages that wait for a hanging destination
_PATIENCE = 90.0  # seconds after which what was reached counts

_Kind = type[WaypostContender] | type[PostfixContender]


def compare(options: argparse.Namespace) -> None:
    """Run both with and without the hanging ones; the last line is Waypost's rate with them over that without."""
    bad = max(1, options.destinations // _SHARE)
    title = (
        f"relay --hanging: {options.messages} messages to {options.destinations - bad} destinations, {bad} others hang"
    )
    print(title)
    results = take_turns(
        [
            ("waypost hanging", lambda: _run(WaypostContender, options, bad)),
            ("waypost alone", lambda: _run(WaypostContender, options, 0)),
            ("postfix hanging", lambda: _run(PostfixContender, options, bad)),
            ("postfix alone", lambda: _run(PostfixContender, options, 0)),
        ],
        options.rounds,
    )
    kept = report(title, "message", results, aim=0.9)
    print(f"  waypost keeps {kept:.0%} of its rate, postfix {results[2].rate / results[3].rate:.0%}")
    last_line(kept)


def _run(kind: _Kind, options: argparse.Namespace, hanging: int) -> Run:
    bad = max(1, options.destinations // _SHARE)
    good = options.destinations - bad
    world = World(mailboxes=1, aliases=_aliases(options.messages, good, bad), nameserver=_NAMESERVER, port=_PORT)
    with scratch() as folder, sinks.serving(folder, port=_PORT, good=good, hanging=bad) as others:
        names = Nsd(folder / "nsd", {_ZONE: _records(good, bad)}, address=_NAMESERVER)
        server: Contender = kind(folder, world)
        names.start()
        try:
            return _beside(server, folder, others, options, hanging)
        finally:
            names.stop()


def _beside(server: Contender, folder: Path, others: sinks.Sinks, options: argparse.Namespace, hanging: int) -> Run:
    """Let mail hang, then send."""
    with running(server):
        if hanging:
            _send(server, "slow", hanging * _EACH, options)
            wait_until(lambda: others.tally.hanging >= hanging, seconds=60, what=f"{hanging} connections hang")
        return _measure(server, folder, others, options)


def _measure(server: Contender, folder: Path, others: sinks.Sinks, options: argparse.Namespace) -> Run:
    meter = Meter(server.cpu, folder, load=[others.pid])
    _send(server, "good", options.messages, options)
    try:
        wait_until(lambda: others.tally.messages >= options.messages, seconds=_PATIENCE, what="all arrive")
    except TimeoutError:
        print(f"    {server.name}: {others.tally.messages} of {options.messages} after {_PATIENCE:.0f} s")
    return Run(max(1, others.tally.messages), meter.stop())


def _send(server: Contender, to: str, messages: int, options: argparse.Namespace) -> None:
    command = [need("smtp-source"), "-s", str(min(options.sessions, messages)), "-m", str(messages), "-N"]
    command += ["-l", str(options.size), "-f", "sender@elsewhere.test", "-t", f"{to}@{DOMAIN}"]
    subprocess.run([*command, f"{server.address}:{server.port}"], check=True)


def _aliases(messages: int, good: int, bad: int) -> dict[str, str]:
    """Mail from outside reaches destinations elsewhere by aliases only: nobody relays for strangers."""
    aliases = {f"{number}good": f"user@g{number % good}.{_ZONE}" for number in range(1, messages + 1)}
    return aliases | {f"{number}slow": f"user@h{number % bad}.{_ZONE}" for number in range(1, bad * _EACH + 1)}


def _records(good: int, bad: int) -> str:
    hosts = [(f"g{number}", sinks.good_address(number)) for number in range(good)]
    hosts += [(f"h{number}", sinks.hanging_address(number)) for number in range(bad)]
    return "\n".join(f"{name} IN MX 10 {name}\n{name} IN A {address}" for name, address in hosts)
