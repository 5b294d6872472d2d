"""No more file descriptors: nobody spins, nobody is lost, and everything goes on when there are some again.

The limit of this very process is lowered, and what is left under it is taken by files; clients are connected before.
"""

import asyncio
import contextlib
import gc
import logging
import os
import resource
import socket
from collections.abc import Iterator

import pytest
from tests.faults.callers import Caller
from tests.faults.conftest import OpenOffice
from tests.faults.ledger import Ledger
from tests.faults.office import ALICE, BOB, Office, route
from tests.transport.mail_server import MailServer

CAROL = "carol@there.test"
LARGE = 500_000


class Shortage:
    """Descriptors that are held so that nobody else has them."""

    def __init__(self) -> None:
        self._held: list[int] = []

    def take_all(self) -> None:
        """Take every descriptor that is left."""
        with contextlib.suppress(OSError):
            while True:
                self._held.append(os.open("/dev/null", os.O_RDONLY))

    def leave(self, count: int) -> None:
        """Give some back."""
        for _ in range(count):
            os.close(self._held.pop())

    def end(self) -> None:
        """Give all back."""
        self.leave(len(self._held))


@pytest.fixture
def shortage() -> Iterator[Shortage]:
    """A limit so low that it can be reached; nothing is taken yet.

    What tests before have left unclosed is collected now, and not later, when it would give descriptors back.
    """
    gc.collect()
    gc.disable()
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    highest = max(int(name) for name in os.listdir("/proc/self/fd"))
    resource.setrlimit(resource.RLIMIT_NOFILE, (highest + 120, before[1]))
    shortage = Shortage()
    try:
        yield shortage
    finally:
        shortage.end()
        resource.setrlimit(resource.RLIMIT_NOFILE, before)
        gc.enable()


def knock(port: int) -> socket.socket:
    """Connect without a turn of the loop: the kernel holds the connection until somebody accepts it."""
    sock = socket.create_connection(("127.0.0.1", port), timeout=20)
    sock.setblocking(False)
    return sock


async def greeting(sock: socket.socket) -> bytes:
    return await asyncio.get_running_loop().sock_recv(sock, 100)


async def test_accepting_pauses_and_goes_on_when_others_have_left(
    office: OpenOffice, shortage: Shortage, caplog: pytest.LogCaptureFixture
) -> None:
    house = await office(dispatch=False)
    port = house.port("smtp")
    clients = [knock(port) for _ in range(12)]
    shortage.take_all()
    shortage.leave(4)
    served = [asyncio.create_task(greeting(client)) for client in clients]
    await asyncio.wait(served, timeout=1.0)
    assert sum(task.done() for task in served) == house.admitted == 4
    pauses = [record for record in caplog.records if record.message == "no room for connections"]
    assert 1 <= len(pauses) <= 25, "it looks again after each pause, and does not spin"
    for client, task in zip(clients, served, strict=True):  # whoever is served leaves, and makes room for another
        assert (await asyncio.wait_for(task, 20)).startswith(b"220 ")
        client.close()
    await house.empty()
    shortage.end()
    caller = await Caller.smtp(port)
    assert (await caller.say("QUIT")).startswith("221")


async def test_sessions_that_stand_go_on_and_what_needs_a_file_is_put_off(
    office: OpenOffice, ledger: Ledger, shortage: Shortage
) -> None:
    house = await office(dispatch=False)
    fresh, caller = [await Caller.smtp(house.port("smtp")) for _ in range(2)]
    early = await Caller.pop3(house.port("pop3s"), BOB)
    shortage.take_all()
    assert (await ledger.post(fresh, "eve@else.test", BOB)).startswith("451 4.3.0"), "the first segment needs a file"
    shortage.end()
    for size in (0, LARGE):
        assert (await ledger.post(caller, "eve@else.test", BOB, size=size)).startswith("250")
    assert (await early.ask("QUIT")).startswith("+OK")
    await early.rest()
    early.hang_up()
    reader = await Caller.pop3(house.port("pop3s"), BOB)
    async with asyncio.timeout(20):
        while house.admitted > 3:  # noqa: ASYNC110
            await asyncio.sleep(0.01)
    await asyncio.sleep(0.05)  # the other end of it closes, too, before its descriptor can be counted on
    shortage.take_all()
    assert (await ledger.post(caller, "eve@else.test", BOB)).startswith("250"), "the segment is open"
    assert (await ledger.post(fresh, "eve@else.test", BOB, size=LARGE)).startswith("451 4.3.0")
    for number in (1, 2):
        assert (await reader.ask(f"RETR {number}")).startswith("-ERR [SYS/TEMP]")
    assert (await reader.ask("NOOP")).startswith("+OK")
    shortage.end()
    for number in (1, 2):
        assert (await reader.ask(f"RETR {number}")).startswith("+OK")
        assert any("X-Token" in line for line in await reader.listing())
    assert (await ledger.post(fresh, "eve@else.test", BOB, size=LARGE)).startswith("250")
    found = await ledger.audit(house)
    assert found.mailboxes.total() == 4


async def test_housekeeping_removes_nothing_that_it_cannot_look_at(
    office: OpenOffice, ledger: Ledger, shortage: Shortage
) -> None:
    house = await office(dispatch=False)
    caller = await Caller.smtp(house.port("smtp"))
    for size in (0, LARGE, 0):
        await ledger.post(caller, "eve@else.test", BOB, size=size)
    reader = await Caller.pop3(house.port("pop3s"), BOB)
    await reader.ask("DELE 2")
    await reader.ask("QUIT")
    shortage.take_all()
    with contextlib.suppress(Exception):
        await house.assembly.storage.maintain(smallest=0)
    shortage.end()
    for row in await house.storage.mailboxes.messages((await house.account(BOB)).inbox):
        message = await house.storage.mailboxes.open(row.mailbox, row.uid)
        assert b"X-Token" in await message.read(0, message.size)
    await house.assembly.storage.maintain(smallest=0)
    assert (await ledger.post(caller, "eve@else.test", BOB)).startswith("250")


async def test_mail_to_others_waits_with_the_true_reason_and_goes_out_later(
    office: OpenOffice, ledger: Ledger, shortage: Shortage
) -> None:
    async with MailServer("PIPELINING") as there:
        house = await office(routes=(route("there.test", there.port),), dispatch=False)
        caller = await Caller.submission(house.port("submissions"), ALICE)
        assert (await ledger.post(caller, ALICE, CAROL)).startswith("250")
        assert (await ledger.post(caller, ALICE, "dave@else.test")).startswith("250")
        shortage.take_all()
        house.dispatch()
        reasons = await reasons_of(house)
        assert "too many open files" in reasons["there.test"].lower()
        assert "no mail server answered" not in reasons["there.test"], "it is our machine that has no room"
        assert "too many open files" in reasons["else.test"].lower()
        shortage.end()
        await house.drained(to=1)
        found = await ledger.audit(house, there)
        assert found.relayed.total() == 1


async def reasons_of(house: Office) -> dict[str, str]:
    """Return why entries wait, when each was tried."""
    async with asyncio.timeout(20):
        while True:
            errors = {entry.destination: entry.last_error for entry in await house.queued()}
            if None not in errors.values():
                return {destination: str(error) for destination, error in errors.items()}
            await asyncio.sleep(0.02)


async def test_no_descriptor_is_left_behind(office: OpenOffice, ledger: Ledger, shortage: Shortage) -> None:
    """Whatever failed in between, the same files are open afterwards."""
    logging.getLogger("asyncio").setLevel(logging.CRITICAL)
    house = await office(dispatch=False)
    port = house.port("smtp")
    caller = await Caller.smtp(port)
    await ledger.post(caller, "eve@else.test", BOB)

    def open_files() -> int:
        return len(os.listdir("/proc/self/fd"))

    before = open_files()
    for _ in range(5):
        client = knock(port)
        shortage.take_all()
        assert (await ledger.post(caller, "eve@else.test", BOB, size=LARGE)).startswith("451")
        await asyncio.sleep(0.06)
        shortage.end()
        assert (await asyncio.wait_for(greeting(client), 20)).startswith(b"220")
        client.close()
    async with asyncio.timeout(20):
        while house.admitted > 1 or open_files() > before:  # noqa: ASYNC110
            await asyncio.sleep(0.02)
