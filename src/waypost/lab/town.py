"""The lab's town: its addresses, and how the whole of it is made, started and removed."""

import asyncio
import os
import shutil
import socket
import tempfile
from pathlib import Path

from waypost.lab.host import HIGH_PORTS, Host, LabError, Ports
from waypost.lab.names import LabNameServer

ALICE = "alice@wonderland.test"
BOB = "bob@builder.test"
PASSWORDS = {ALICE: "white-rabbit", BOB: "can-we-fix-it"}

NAMES = "127.0.0.10"
WONDERLAND = "127.0.0.11"
BUILDER = "127.0.0.12"
SILENT = "127.0.0.13"  # nobody lives there

ZONES = {
    "wonderland.test": f"@ IN MX 10 mx\nmx IN A {WONDERLAND}",
    "builder.test": f"@ IN MX 10 mx\nmx IN A {BUILDER}",
    "silent.test": f"@ IN MX 10 mx\nmx IN A {SILENT}",
}
_DNS_PORT = 5353
_HIGH_PORTS = (HIGH_PORTS, Ports(12525, 15870, 14650, 11100, 19950), Ports(22525, 25870, 24650, 21100, 29950))
"""The second and third are for a machine on which another lab runs."""


class Town:
    """A name server and two independent Waypost hosts, under one folder."""

    def __init__(self, directory: Path, ports: Ports) -> None:
        self.directory = directory
        self.ports = ports
        self.names = LabNameServer(ZONES)
        self.dns = ""
        self.wonderland = Host(
            directory / "wonderland.test",
            hostname="mx.wonderland.test",
            domain="wonderland.test",
            address=WONDERLAND,
            ports=ports,
        )
        self.builder = Host(
            directory / "builder.test",
            hostname="mx.builder.test",
            domain="builder.test",
            address=BUILDER,
            ports=ports,
        )

    @property
    def hosts(self) -> tuple[Host, Host]:
        """Both hosts."""
        return self.wonderland, self.builder

    async def build(self) -> None:
        """Start the name server and make both hosts: configuration, certificate, accounts."""
        try:
            port = await self.names.start(NAMES, _DNS_PORT)
        except OSError:  # taken: any other port will do, because the hosts' configuration names it
            port = await self.names.start(NAMES, 0)
        self.dns = f"{NAMES}:{port}"
        await asyncio.gather(
            self.wonderland.prepare(self.dns, {ALICE: PASSWORDS[ALICE]}),
            self.builder.prepare(self.dns, {BOB: PASSWORDS[BOB]}),
        )

    async def start(self) -> None:
        """Start both hosts."""
        await asyncio.gather(*(host.start() for host in self.hosts))

    async def end(self) -> None:
        """Stop everything; the folder stays."""
        await asyncio.gather(*(host.stop() for host in self.hosts))
        await self.names.stop()


def choose_ports() -> tuple[Ports, str]:
    """Return the real ports if they can be used, else high ones; and a sentence that says why.

    Raises `LabError` when no set of ports is free.
    """
    problem = _problem(Ports())
    if problem is None:
        return Ports(), "the real ports are used: 25, 587, 465, 110, 995"
    for ports in _HIGH_PORTS:
        if _problem(ports) is None:
            return ports, f"{problem}: high ports are used, by configuration (25 is {ports.smtp}, ...)"
    raise LabError(f"{problem}, and the high ports are taken, too: is the lab running already?")


def _problem(ports: Ports) -> str | None:
    """Return why these ports can't be used; None when they can."""
    for address in (WONDERLAND, BUILDER):
        for port in (ports.smtp, ports.submission, ports.submissions, ports.pop3, ports.pop3s):
            with socket.socket() as probe:
                probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                try:
                    probe.bind((address, port))
                except PermissionError:
                    return "not root"
                except OSError as error:
                    return f"port {port} of {address}: {os.strerror(error.errno or 0).lower()}"
    return None


def new_directory() -> Path:
    """Return a fresh folder that the unprivileged workers can enter."""
    directory = Path(tempfile.mkdtemp(prefix="waypost-lab-"))
    directory.chmod(0o755)
    return directory


def remove_directory(directory: Path) -> None:
    """Remove what `new_directory` made."""
    shutil.rmtree(directory)
