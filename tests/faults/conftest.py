"""The stage of the faults: offices that are closed at the end, and disks that are small.

Offices run on the loop that workers run on; what ends connections in many ways runs on asyncio's own, too.
"""

import asyncio
import contextlib
import os
import shutil
import subprocess
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import uvloop
from tests.faults.callers import Caller
from tests.faults.ledger import Ledger
from tests.faults.office import Clock, Office, settings_for

_ON_BOTH_LOOPS = ("test_failing_clients.py", "test_failing_servers.py", "test_tls_trouble.py", "test_no_descriptors.py")


@pytest.hookimpl(optionalhook=True)
def pytest_asyncio_loop_factories(item: pytest.Item) -> dict[str, Callable[[], asyncio.AbstractEventLoop]]:
    """The loops of a test."""
    factories: dict[str, Callable[[], asyncio.AbstractEventLoop]] = {"uvloop": uvloop.new_event_loop}
    if item.path.name in _ON_BOTH_LOOPS:
        factories["asyncio"] = asyncio.new_event_loop
    return factories


OpenOffice = Callable[..., Awaitable[Office]]


@pytest.fixture
async def office(tmp_path: Path) -> AsyncIterator[OpenOffice]:
    """Opens an office: `await office(limits={...}, number=1)`; by default in the test's folder, with its people."""
    opened: list[Office] = []

    async def make(
        *,
        folder: Path = tmp_path,
        number: int = 0,
        now: Clock | None = None,
        dispatch: bool = True,
        staffed: bool = True,
        **changes: Any,
    ) -> Office:
        made = Office(settings_for(folder, **changes), number=number, now=now)
        opened.append(made)
        await made.open(dispatch=dispatch)
        if staffed and not await made.storage.directory.accounts():
            await made.staff()
        return made

    yield make
    for caller in list(Caller.everybody):
        caller.hang_up()
    for made in opened:
        await made.close()


@pytest.fixture
def ledger() -> Ledger:
    """An empty ledger."""
    return Ledger()


class Disk:
    """A small file system in memory."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._ballast = path / "something else"

    def fill(self) -> None:
        """Take all space, or what has come free since."""
        with self._ballast.open("ab", buffering=0) as file, contextlib.suppress(OSError):
            while True:
                file.write(bytes(4096))

    def free(self) -> None:
        """Give the space back."""
        self._ballast.unlink()


@pytest.fixture
def disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Disk]:
    """A disk of 12 MiB of its own, mounted for the test. The database's log keeps no room on it, so that writing fails
    as soon as the disk is full."""
    monkeypatch.setattr("waypost.storage.sqlite.commit.checkpoint.Checkpointer._make_room", lambda checkpointer: None)
    monkeypatch.setattr("waypost.storage.sqlite.commit.checkpoint._KEPT", 0)
    folder = tmp_path / "disk"
    folder.mkdir()
    if os.geteuid() != 0 or shutil.which("mount") is None:
        pytest.skip("a file system of its own can only be mounted as root")
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=12m", "tmpfs", str(folder)], capture_output=True)
    if mounted.returncode:
        pytest.skip(f"no file system can be mounted here: {mounted.stderr.decode().strip()}")
    try:
        yield Disk(folder)
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)


@pytest.fixture(autouse=True)
def impatience(monkeypatch: pytest.MonkeyPatch) -> None:
    """What waits for a disk or for descriptors to come back looks again at once."""
    monkeypatch.setattr("waypost.queue.waiting._FIRST_PAUSE", 0.05)
    monkeypatch.setattr("waypost.queue.waiting._LONGEST_PAUSE", 0.2)
    monkeypatch.setattr("waypost.queue.dispatcher._AFTER_TROUBLE", 0.1)
    monkeypatch.setattr("waypost.queue.dispatcher._AFTER_NOTHING", 0.1)
    monkeypatch.setattr("waypost.queue.dispatcher._LAST_WORDS", 0.3)
    monkeypatch.setattr("waypost.delivery.local._REST", 100_000)
    monkeypatch.setattr("waypost.service.sockets.acceptor._PAUSE", 0.05)
    monkeypatch.setattr("waypost.storage.sqlite.spool._LET_GO_EVERY", 0.05)
    monkeypatch.setattr("waypost.storage.sqlite.commit.checkpoint._PAUSE", 0.05)
