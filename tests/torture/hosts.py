"""The stage of the crash torture: two real Waypost hosts, a scripted sink and a name server, on loopback addresses."""

import asyncio
import contextlib
import json
import os
import random
import signal
import ssl
from dataclasses import dataclass
from pathlib import Path

from tests.torture.load import Mailer
from tests.torture.moments import Moments
from tests.torture.promises import Maildrop, Promises
from tests.torture.sink import Sink
from tests.torture.wire import Door

from waypost.lab.host import Host, Ports
from waypost.lab.names import LabNameServer

ALPHA, BETA = "alpha.test", "beta.test"
ANN, ABE = "ann@alpha.test", "abe@alpha.test"
BEA, BOB = "bea@beta.test", "bob@beta.test"
AWAY = "away@alpha.test"  # an alias to nobody: what comes for it goes back
PEOPLE = {ALPHA: (ANN, ABE), BETA: (BEA, BOB)}
NOBODY = {domain: f"nobody@{domain}" for domain in PEOPLE}
OUTSIDER = "outsider@sink.test"
PASSWORD = "everything is durable"
PORTS = Ports(31025, 31587, 31465, 31110, 31995)  # nobody has to be root, and nobody else takes these
CONNECTIONS = 3  # to one destination, from one host

_PATIENCE = 30.0  # seconds

_QUEUE = """\
retry = ["1s", "1s", "2s"]
delayed_notice = "0s"
expire = "1h"
"""
_EXTRA = """
[limits]
memory_per_message = "64 KiB"
"""


def _slow_down(config: Path) -> None:
    """Give the lab's host a queue that returns nothing for its age, and few connections."""
    text = config.read_text()
    begin, end = text.index("retry ="), text.index("[submission]")
    text = text[:begin] + _QUEUE + "\n" + text[end:]
    outbound = "[outbound]\n"
    assert outbound in text
    config.write_text(text.replace(outbound, f"{outbound}max_connections_per_destination = {CONNECTIONS}\n"))


def _kill(pid: int) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)


def _session(leader: int) -> list[int]:
    """Return the processes that a supervisor has started and that live, whether it does or not (proc(5))."""
    found = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):  # it has just ended
            state, _, _, session = stat.read_text().rpartition(")")[2].split()[:4]
            if int(session) == leader and state != "Z":
                found.append(int(stat.parent.name))
    return found


async def _gone(pid: int) -> None:
    """Return when a process, which need not be a child of ours, has ended."""
    try:
        descriptor = os.pidfd_open(pid)
    except ProcessLookupError:
        return
    loop = asyncio.get_running_loop()
    ended = asyncio.Event()
    loop.add_reader(descriptor, ended.set)
    try:
        await ended.wait()
    finally:
        loop.remove_reader(descriptor)
        os.close(descriptor)


@dataclass
class Stage:
    """Everything that runs. `network` is the first three numbers of its loopback addresses."""

    folder: Path
    network: str
    promises: Promises

    def __post_init__(self) -> None:
        zones = {name: f"@ IN MX 10 mx\nmx IN A {self._address(k)}" for name, k in ((ALPHA, 11), (BETA, 12))}
        zones["sink.test"] = f"@ IN MX 10 mx\nmx IN A {self._address(13)}"
        self._names = LabNameServer(zones)
        self._orphans: dict[str, list[int]] = {ALPHA: [], BETA: []}
        self.moments = Moments()
        self.sink = Sink(random.Random(f"{self.promises.seed} sink"), self.promises, self.moments)
        self.hosts = {
            name: Host(self.folder / name, hostname=f"mx.{name}", domain=name, address=self._address(k), ports=PORTS)
            for name, k in ((ALPHA, 11), (BETA, 12))
        }

    def _address(self, number: int) -> str:
        return f"{self.network}.{number}"

    async def start(self) -> None:
        """Make the hosts, and start everything. Raises `LabError`, `OSError`."""
        for folder in (self.folder, *self.folder.parents):  # the workers have another user when we are root
            if os.geteuid() == 0 and not folder.stat().st_mode & 0o001:
                folder.chmod(folder.stat().st_mode | 0o011)
        port = await self._names.start(self._address(53), 0)
        await self.sink.start(self._address(13), PORTS.smtp)
        await asyncio.gather(*(self._prepare(host, port) for host in self.hosts.values()))
        await asyncio.gather(*(host.start() for host in self.hosts.values()))

    async def _prepare(self, host: Host, port: int) -> None:
        people = dict.fromkeys(PEOPLE[host.domain], PASSWORD)
        await host.prepare(f"{self._address(53)}:{port}", people, extra=_EXTRA)
        _slow_down(host.config)
        if host.domain == ALPHA:
            await host.run("alias", "add", AWAY, "hard@sink.test")

    async def stop(self) -> None:
        """Stop everything, gracefully."""
        await asyncio.gather(*(host.stop() for host in self.hosts.values()))
        await self.sink.stop()
        await self._names.stop()

    async def kill(self) -> None:
        """End everything that still runs, at once."""
        await asyncio.gather(*(self.kill_host(name) for name in self.hosts))
        await self.sink.stop()
        await self._names.stop()

    # Killing.

    async def kill_host(self, name: str) -> None:
        """Kill all processes of a host in one moment; return when they are gone."""
        for pid in self._orphans[name]:
            _kill(pid)
        await self.hosts[name].kill()
        for pid in _session(self.hosts[name].pid):
            _kill(pid)
            self._orphans[name].append(pid)
        async with asyncio.timeout(_PATIENCE):
            await asyncio.gather(*map(_gone, self._orphans[name]))
        self._orphans[name].clear()

    async def kill_supervisor(self, name: str) -> None:
        """Kill a host's supervisor alone; its workers end by themselves, when they have noticed."""
        _kill(self.hosts[name].pid)
        await self.hosts[name].wait()
        self._orphans[name] += _session(self.hosts[name].pid)  # also those that were not ready yet

    def kill_worker(self, name: str, chance: random.Random) -> bool:
        """Kill one worker of a host; False when none is ready."""
        workers = self._workers(name)
        if workers:
            _kill(chance.choice(workers))
        return bool(workers)

    def _workers(self, name: str) -> list[int]:
        """Return the process ids of the workers that are ready."""
        state = json.loads((self.hosts[name].directory / "data/run/service.json").read_text())
        return [worker["pid"] for worker in state["workers"]]

    async def waiting(self) -> int:
        """Return how many entries wait in both queues."""
        stats = await asyncio.gather(*(host.json("queue", "stats") for host in self.hosts.values()))
        return sum(each["entries"] for each in stats)

    # The clients.

    def _tls(self, name: str) -> ssl.SSLContext:
        context = ssl.create_default_context(cafile=str(self.hosts[name].certificate))
        context.check_hostname = False  # we connect by address
        return context

    def mailers(self) -> list[Mailer]:
        """Return the clients that send: users at both hosts, and servers from outside."""
        alpha, beta = (self.hosts[name].address for name in (ALPHA, BETA))
        users = (
            *((8, (who,)) for who in (ANN, ABE, BEA, BOB)),
            *((3, to) for to in ((ANN, ABE), (BEA, BOB), (ANN, BOB, "x@sink.test"))),
            *((6, (who,)) for who in ("x@sink.test", "y@sink.test")),
            *((3, to) for to in (("x@sink.test", "z@sink.test"), ("soft@sink.test",), ("hard@sink.test",))),
            *((2, to) for to in (("late@sink.test",), (ANN, "late@sink.test"), ("x@sink.test", "hard@sink.test"))),
        )
        at_alpha = (*users, (3, (NOBODY[BETA],)), (2, (BOB, NOBODY[BETA])))
        at_beta = (*users, (3, (NOBODY[ALPHA],)), (2, (ANN, NOBODY[ALPHA])))
        outside = ((8, (ANN,)), (8, (ABE,)), (4, (ANN, ABE)), (3, (AWAY,)), (2, (ABE, AWAY)))
        tls_alpha, tls_beta = self._tls(ALPHA), self._tls(BETA)
        return [
            Mailer(ALPHA, Door(alpha, PORTS.submission, tls_alpha), ANN, at_alpha, PASSWORD),
            Mailer(ALPHA, Door(alpha, PORTS.submissions, tls_alpha, implicit=True), ABE, at_alpha, PASSWORD),
            Mailer(ALPHA, Door(alpha, PORTS.submissions, tls_alpha, implicit=True), ANN, at_alpha, PASSWORD),
            Mailer(BETA, Door(beta, PORTS.submission, tls_beta), BEA, at_beta, PASSWORD),
            Mailer(ALPHA, Door(alpha, PORTS.smtp), OUTSIDER, outside),
            Mailer(ALPHA, Door(alpha, PORTS.smtp), OUTSIDER, outside),
        ]

    def maildrops(self) -> list[tuple[Maildrop, Door, str]]:
        """Return every maildrop, with the way to read it."""
        return [
            (
                Maildrop(who, self.promises),
                Door(self.hosts[name].address, PORTS.pop3s, self._tls(name), implicit=True),
                PASSWORD,
            )
            for name, people in PEOPLE.items()
            for who in people
        ]
