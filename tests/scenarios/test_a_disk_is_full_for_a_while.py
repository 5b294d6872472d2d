"""A real service on a small disk that is full for a while: it stays up, and nothing acknowledged is lost."""

import asyncio
import smtplib
import subprocess
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from tests.scenarios.clients import poll
from tests.scenarios.conftest import BOB, BOB_PASSWORD, World

from waypost.lab.host import Host

SIZE = 12 * 1024 * 1024


@dataclass
class SmallDisk:
    """A host whose data directory is a file system of its own."""

    host: Host
    data: Path
    taken: set[str]

    def fill(self) -> None:
        """Use up all space, as a log of somebody else might."""
        with (self.data / "somebody-elses.log").open("wb", buffering=0) as file:
            for piece in (1 << 20, 1 << 12, 1):
                try:
                    while True:
                        file.write(bytes(piece))
                except OSError:
                    continue

    def make_room(self) -> None:
        (self.data / "somebody-elses.log").unlink()

    def deliver(self, subject: str, size: int = 2000) -> int:
        """Offer a message to port 25; return the code of the last answer, and remember what was taken."""
        with smtplib.SMTP(self.host.address, 25, local_hostname="client.test", timeout=30) as session:
            session.ehlo()
            for code, _ in (session.mail("x@elsewhere.test"), session.rcpt(BOB)):
                if code != 250:
                    return code
            code, _ = session.data(f"Subject: {subject}\r\n\r\n{'x' * 70}\r\n".encode() + b"y\r\n" * (size // 3))
        if code == 250:
            self.taken.add(subject)
        return code

    def arrived(self) -> set[str]:
        messages = poll(self.host, BOB, BOB_PASSWORD)
        return {message.partition(b"Subject: ")[2].split(b"\r\n")[0].decode() for message in messages}


@pytest.fixture
def data(tmp_path: Path) -> Iterator[Path]:
    """A file system for the data directory of builder.test."""
    data = tmp_path / "builder.test" / "data"
    data.mkdir(parents=True)
    options = f"size={SIZE},mode=0700"
    done = subprocess.run(["mount", "-t", "tmpfs", "-o", options, "waypost-test", str(data)], capture_output=True)
    if done.returncode:
        pytest.skip("no file system can be mounted here")
    yield data
    subprocess.run(["umount", str(data)], check=True)


@pytest.fixture
async def disk(data: Path, world: World) -> AsyncIterator[SmallDisk]:
    world.zone("builder.test", 12)
    world.start_names()
    host = await world.host("builder.test", 12, {BOB: BOB_PASSWORD})
    yield SmallDisk(host, data, set())
    await host.stop()


async def workers(host: Host) -> list[int]:
    return [worker["pid"] for worker in (await host.json("status"))["service"]["workers"]]


async def test_a_full_disk_refuses_for_now_and_recovers_alone(disk: SmallDisk) -> None:
    before = await workers(disk.host)
    assert await asyncio.to_thread(disk.deliver, "first") == 250
    disk.fill()
    for number in range(6):
        assert await asyncio.to_thread(disk.deliver, f"refused {number}", 30_000) == 452
    assert await asyncio.to_thread(disk.deliver, "large", 3_000_000) == 452
    assert await asyncio.to_thread(disk.arrived) == disk.taken == {"first"}, "mailboxes are read meanwhile"
    disk.make_room()
    assert await asyncio.to_thread(disk.deliver, "second") == 250
    assert await asyncio.to_thread(disk.deliver, "large", 3_000_000) == 250
    assert await asyncio.to_thread(disk.arrived) == disk.taken
    assert await workers(disk.host) == before, "nobody had to be replaced"
