"""The stage of the stories: real Waypost hosts on loopback addresses, and a name server that is not ours.

Each test process has a loopback network of its own (127.20.0.0/24, 127.21.0.0/24, ...), so that stories can
run side by side, all on the real ports.
"""

import asyncio
import os
import re
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest
import pytest_asyncio
from tests.peers.nsd import Nsd

from waypost.lab.host import Host, Ports

ALICE = "alice@wonderland.test"
BOB = "bob@builder.test"
ALICE_PASSWORD = "curiouser and curiouser"
BOB_PASSWORD = "can we fix it?"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Stories need the ports of the internet: without root they are skipped, with the reason."""
    if os.geteuid() != 0:
        reason = pytest.mark.skip(reason="the stories use port 25 of loopback addresses, which needs root")
        for item in items:
            if "scenarios" in str(item.path):
                item.add_marker(reason)


@dataclass
class World:
    """A small internet: `address(k)` gives its loopback addresses; its hosts are stopped at the end."""

    directory: Path
    network: str
    zones: dict[str, str] = field(default_factory=dict)
    _hosts: list[Host] = field(default_factory=list)
    _nsd: Nsd | None = None

    def address(self, number: int) -> str:
        """Return loopback address number 1..254 of this world."""
        return f"{self.network}.{number}"

    @property
    def nameserver(self) -> str:
        """The name server's address (port 53)."""
        return self.address(53)

    def start_names(self) -> None:
        """Serve `zones` from now on."""
        self._nsd = Nsd(self.directory / "nsd", self.zones, address=self.nameserver)
        self._nsd.start()

    def zone(self, domain: str, number: int) -> None:
        """Add a domain whose mail server mx.<domain> has address `number`."""
        self.zones[domain] = f"@ IN MX 10 mx\nmx IN A {self.address(number)}"

    async def host(
        self,
        domain: str,
        number: int,
        people: dict[str, str],
        *,
        extra: str = "",
        changes: dict[str, str] | None = None,
        start: bool = True,
    ) -> Host:
        """Make a Waypost host mx.<domain> at address `number`, and start it.

        `extra` is TOML behind the lab's configuration; `changes` are lines of it by what stands in their place.
        """
        host = Host(
            self.directory / domain,
            hostname=f"mx.{domain}",
            domain=domain,
            address=self.address(number),
            ports=Ports(),
        )
        self._hosts.append(host)
        await host.prepare(f"{self.nameserver}:53", people, extra=extra)
        if changes:
            change(host, changes)
        if start:
            await host.start()
        return host

    async def end(self) -> None:
        """Stop everything."""
        for host in self._hosts:
            await host.stop()
        if self._nsd:
            self._nsd.stop()


def change(host: Host, changes: dict[str, str]) -> None:
    """Write other lines in the place of some of a host's configuration."""
    text = host.config.read_text()
    for line, other in changes.items():
        assert line in text, line
        text = text.replace(line, other)
    host.config.write_text(text)


def _network(worker_id: str) -> str:
    """Return the network of a test process; who runs the stories twice at once moves one of the runs elsewhere."""
    first = int(os.environ.get("WAYPOST_TEST_NETWORK", "20"))
    number = int(re.sub(r"\D", "", worker_id) or 0)
    return f"127.{first + number}.0"


def open_to_servers(directory: Path) -> Path:
    """Let the unprivileged users of the servers reach a folder of the test."""
    for folder in [directory, *directory.parents]:
        if not folder.stat().st_mode & 0o001:
            folder.chmod(folder.stat().st_mode | 0o011)
    return directory


@pytest.fixture
async def world(tmp_path: Path, worker_id: str) -> AsyncIterator[World]:
    """An empty internet."""
    world = World(open_to_servers(tmp_path), _network(worker_id))
    yield world
    await world.end()


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def shared_world(tmp_path_factory: pytest.TempPathFactory, worker_id: str) -> AsyncIterator[World]:
    """An internet that all stories of a file share. They run one after the other, in one process (`make test` deals
    whole files out) and in one loop: `pytestmark = pytest.mark.asyncio(loop_scope="module")`.
    """
    world = World(open_to_servers(tmp_path_factory.mktemp("world")), _network(worker_id))
    yield world
    await world.end()


@dataclass
class Town:
    """Two domains that know each other."""

    world: World
    wonderland: Host
    builder: Host


@pytest.fixture
async def town(world: World) -> Town:
    """Alice's host at wonderland.test and Bob's at builder.test, both up."""
    world.zone("wonderland.test", 11)
    world.zone("builder.test", 12)
    world.start_names()
    wonderland, builder = await asyncio.gather(
        world.host("wonderland.test", 11, {ALICE: ALICE_PASSWORD}),
        world.host("builder.test", 12, {BOB: BOB_PASSWORD}),
    )
    return Town(world, wonderland, builder)
