"""A disk that fails without being full: EIO from every call that writes or reads, and a file system turned read-only.

Who hears "later" keeps the mail, who was told "accepted" finds it; what was relayed meanwhile is not sent again, and
when the disk is well, everything goes on by itself.
"""

import asyncio
import contextlib
import errno
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager

import apsw
import pytest
from tests.faults.callers import Caller
from tests.faults.conftest import OpenOffice
from tests.faults.ledger import Ledger
from tests.faults.office import ALICE, BOB, Office, route
from tests.faults.test_full_disk import trouble, until
from tests.storage.faults import FaultySystem, failing, faulty_system
from tests.transport.mail_server import MailServer

from waypost.storage.sqlite.commit import octets

CAROL = "carol@there.test"
LARGE = 500_000
Break = Callable[[FaultySystem], AbstractContextManager[object]]


@pytest.fixture
def system() -> Iterator[FaultySystem]:
    with faulty_system() as system:
        yield system


def call(name: str, error: int = errno.EIO) -> Break:
    """Break a call of the operating system."""
    return lambda system: failing(name, error)


def call_for_many(name: str) -> Break:
    """Break a call of the operating system, while octets are so many that no copy of them is in the database."""

    @contextlib.contextmanager
    def broken(system: FaultySystem) -> Iterator[None]:
        with pytest.MonkeyPatch.context() as patch, failing(name):
            patch.setattr(octets, "_FEW", 0)
            yield

    return broken


def database(deed: str, error: type[apsw.Error]) -> Break:
    """Break what SQLite does with its files."""

    @contextlib.contextmanager
    def broken(system: FaultySystem) -> Iterator[None]:
        system.broken[deed] = error
        try:
            yield
        finally:
            del system.broken[deed]

    return broken


WRITING = [
    pytest.param(call("writev"), 0, "451 4.3.0", id="EIO while octets are written"),
    pytest.param(call_for_many("fdatasync"), 0, "451 4.3.0", id="EIO while octets are made durable"),
    pytest.param(call("pwrite"), LARGE, "451 4.3.0", id="EIO while a large message is written"),
    pytest.param(call("fdatasync"), LARGE, "451 4.3.0", id="EIO while a large message is made durable"),
    pytest.param(call("rename"), LARGE, "451 4.3.0", id="EIO while a large message gets its name"),
    pytest.param(database("write", apsw.IOError), 0, "451 4.3.0", id="EIO while rows are written"),
    pytest.param(database("sync", apsw.IOError), 0, "451 4.3.0", id="EIO while rows are made durable"),
    pytest.param(call("writev", errno.EROFS), 0, "452 4.3.1", id="read-only for octets"),
    pytest.param(call("pwrite", errno.EROFS), LARGE, "452 4.3.1", id="read-only for a large message"),
    pytest.param(database("write", apsw.ReadOnlyError), 0, "452 4.3.1", id="read-only for rows"),
]


@pytest.mark.parametrize(("break_disk", "size", "reply"), WRITING)
async def test_nothing_is_half_taken_and_mail_comes_in_again_when_the_disk_is_well(
    office: OpenOffice, ledger: Ledger, system: FaultySystem, break_disk: Break, size: int, reply: str
) -> None:
    house = await office(dispatch=False)
    caller = await Caller.smtp(house.port("smtp"))
    assert (await ledger.post(caller, "eve@else.test", BOB, size=size)).startswith("250")
    with break_disk(system):
        for _ in range(2):
            assert (await ledger.post(caller, "eve@else.test", BOB, size=size)).startswith(reply)
    assert (await ledger.post(caller, "eve@else.test", BOB, size=size)).startswith("250")
    await ledger.audit(house)
    caller.hang_up()
    await house.close()
    await house.open(dispatch=False)
    await house.assembly.storage.maintain(smallest=0)
    found = await ledger.audit(house)
    assert found.mailboxes.total() == 2 and not found.damaged


@pytest.mark.parametrize(
    "break_disk",
    [database("write", apsw.IOError), database("sync", apsw.IOError), database("write", apsw.ReadOnlyError)],
    ids=["EIO while rows are written", "EIO while rows are made durable", "read-only"],
)
async def test_what_was_relayed_or_deleted_on_a_broken_disk_is_written_later_or_told(
    office: OpenOffice, ledger: Ledger, system: FaultySystem, caplog: pytest.LogCaptureFixture, break_disk: Break
) -> None:
    async with MailServer("PIPELINING", GREETING="421 not now") as there:
        house = await office(routes=(route("there.test", there.port),))
        caller = await Caller.submission(house.port("submissions"), ALICE)
        for _ in range(4):
            assert (await ledger.post(caller, ALICE, BOB, CAROL)).startswith("250")
        pop = await Caller.pop3(house.port("pop3s"), BOB)
        assert (await pop.ask("DELE 1")).startswith("+OK")
        with contextlib.ExitStack() as broken:

            def answer(visit: object, line: str) -> str:
                if not there.taken:
                    broken.enter_context(break_disk(system))
                return "250 2.0.0 taken"

            there.answers = {"CONTENT": answer}
            await until(lambda: trouble(caplog) >= 4)
            assert (await pop.ask("QUIT")).startswith("-ERR")
        await house.drained()
        found = await ledger.audit(house, there)
    assert found.relayed.total() == 4, "nothing was sent twice"
    assert found.mailboxes.total() == 4, "nothing was deleted"


async def test_octets_that_cannot_be_read_are_read_later(
    office: OpenOffice, ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with MailServer("PIPELINING", GREETING="421 not now") as there:
        house = await office(routes=(route("there.test", there.port),))
        caller = await Caller.submission(house.port("submissions"), ALICE)
        for size in (0, LARGE):
            assert (await ledger.post(caller, ALICE, BOB, CAROL, size=size)).startswith("250")
        pop = await Caller.pop3(house.port("pop3s"), BOB)
        with failing("pread"), failing("preadv"):
            there.answers.clear()
            for number in (1, 2):
                assert (await pop.ask(f"RETR {number}")).startswith("-ERR [SYS/TEMP]")
            await unreadable(house, 2)
        for number in (1, 2):
            assert (await pop.ask(f"RETR {number}")).startswith("+OK")
            await pop.listing()
        await house.drained()
        found = await ledger.audit(house, there)
    assert found.relayed.total() == 2 and found.returned.total() == 0


async def unreadable(house: Office, count: int) -> None:
    """Return when so many entries wait because their octets can't be read."""

    async def waiting() -> int:
        return sum("can't be read" in (entry.last_error or "") for entry in await house.queued())

    async with asyncio.timeout(20):
        while await waiting() < count:  # noqa: ASYNC110
            await asyncio.sleep(0.02)
