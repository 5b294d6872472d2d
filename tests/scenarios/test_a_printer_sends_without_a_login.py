"""A printer can't log in. Its network is trusted, as one sender; the laptop beside it is a stranger.

Printer and laptop are a network namespace with addresses of its own, at the other end of a cable to the host.
"""

import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from tests.scenarios.clients import eventually, poll, run
from tests.scenarios.conftest import ALICE, ALICE_PASSWORD, BOB, BOB_PASSWORD, World

from waypost.lab.host import Host

SCANNER = "scanner@wonderland.test"
DEVICES = "devices@wonderland.test"
EXTRA = """
[[listener]]
protocol = "trusted-submission"
address = "{cable}.1:2525"

[[trusted_network]]
networks = ["{cable}.40/32"]
account = "devices@wonderland.test"
senders = ["scanner@wonderland.test"]
"""


@dataclass
class Cable:
    """The host has address .1 of `network`, the printer .40 and the laptop .41, all of them in one namespace."""

    network: str
    process: int

    def beyond(self, *command: str) -> tuple[str, ...]:
        """Return a command to be run at the other end."""
        return ("nsenter", "-t", str(self.process), "-n", *command)


@pytest.fixture
def cable(worker_id: str) -> Iterator[Cable]:
    number = int("".join(filter(str.isdigit, worker_id)) or 0)
    link, network = f"waypost{number}", f"10.97.{number}"
    ready = ["unshare", "-n", "sh", "-c", "echo ready; exec sleep 600"]
    with subprocess.Popen(ready, stdout=subprocess.PIPE) as other:
        try:
            assert other.stdout is not None
            peer = ("peer", "name", "cable0", "netns", str(other.pid))
            ours = ["ip", "link", "add", link, "type", "veth", *peer]
            if not other.stdout.readline() or subprocess.run(ours, check=False).returncode:
                pytest.skip("no network can be made here")
            cable = Cable(network, other.pid)
            for command in (
                ("ip", "addr", "add", f"{network}.1/24", "dev", link),
                ("ip", "link", "set", link, "up"),
                cable.beyond("ip", "addr", "add", f"{network}.40/24", "dev", "cable0"),
                cable.beyond("ip", "addr", "add", f"{network}.41/24", "dev", "cable0"),
                cable.beyond("ip", "link", "set", "cable0", "up"),
            ):
                subprocess.run(command, check=True)
            yield cable
        finally:
            other.kill()


@pytest.fixture
async def host(world: World, cable: Cable) -> Host:
    world.zone("wonderland.test", 11)
    world.zone("builder.test", 12)
    world.start_names()
    people = {ALICE: ALICE_PASSWORD, DEVICES: "never typed anywhere"}
    await world.host("builder.test", 12, {BOB: BOB_PASSWORD})
    return await world.host("wonderland.test", 11, people, extra=EXTRA.format(cable=cable.network))


def scan(folder: Path, sender: str = SCANNER) -> Path:
    path = folder / "scan.eml"
    path.write_bytes(f"From: Kopierer, 2. Stock <{sender}>\r\nSubject: Gescannt für Sie\r\n\r\npage\r\n".encode())
    return path


async def test_a_printer_sends_what_it_scanned_and_nobody_else_does(
    host: Host, world: World, cable: Cable, tmp_path: Path
) -> None:
    server = f"{cable.network}.1:2525"
    curl = ("curl", "-sS", f"smtp://{server}/printer", "--upload-file", str(scan(tmp_path)))
    printer, laptop = (f"{cable.network}.{number}" for number in (40, 41))
    await run(
        *cable.beyond(*curl, "--interface", printer, "--mail-from", SCANNER, "--mail-rcpt", ALICE, "--mail-rcpt", BOB)
    )
    [message] = await eventually(lambda: poll(host, ALICE, ALICE_PASSWORD))
    assert b'\r\nFrom: "Kopierer, 2. Stock" <scanner@wonderland.test>\r\n' in message
    assert b"\r\nSubject: Gescannt =?utf-8?q?f=C3=BCr?= Sie\r\n" in message and printer.encode() not in message
    builder = next(one for one in world._hosts if one.domain == "builder.test")
    assert await eventually(lambda: poll(builder, BOB, BOB_PASSWORD))
    refused = await run(
        *cable.beyond(*curl, "--interface", printer, "--mail-from", ALICE, "--mail-rcpt", BOB), check=False
    )
    assert "553" in refused
    swaks = ("swaks", "--server", server, "--from", SCANNER, "--to", BOB)
    words = await run(*cable.beyond(*swaks, "--local-interface", laptop), check=False)
    assert "554 5.7.1 This port is for known devices" in words and "250" not in words
    words = await run(
        *cable.beyond(*swaks, "--local-interface", laptop, "--proxy", f"TCP4 {printer} {cable.network}.1 1 2525"),
        check=False,
    )
    assert "250" not in words
    words = await run(*swaks, check=False)
    assert "554 5.7.1" in words, "the host itself is a stranger, too: a proxy on it would be"
    assert len(poll(builder, BOB, BOB_PASSWORD)) == 1


async def test_check_refuses_the_network_with_the_host_in_it(host: Host, cable: Cable) -> None:
    text = host.config.read_text()
    host.config.write_text(text.replace(f"{cable.network}.40/32", f"{cable.network}.0/24"))
    try:
        line = host.config.read_text().splitlines().index(f'networks = ["{cable.network}.0/24"]') + 1
        words = await run(*host._program("check", "--config", str(host.config)), check=False)
        assert f'{host.config}:{line}: trusted_network.networks = "{cable.network}.0/24": ' in words
        assert f"{cable.network}.1 is an address of this machine" in words
    finally:
        host.config.write_text(text)
