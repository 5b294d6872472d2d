"""A full disk under a whole worker: mail waits at its senders, results wait in memory, and all of it goes on by itself.

The disk is filled by somebody else, to the last block, while mail comes, goes out, is returned, read and deleted.
"""

import asyncio
import json
import logging
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from tests.faults.callers import Caller
from tests.faults.conftest import Disk, OpenOffice
from tests.faults.ledger import Ledger
from tests.faults.office import ALICE, BOB, route
from tests.service.running import wait_for
from tests.transport.mail_server import MailServer

from waypost.service.machine.logging import BackgroundHandler, JsonFormatter
from waypost.service.processes.run_folder import RunFolder
from waypost.storage import StorageFull

CAROL = "carol@there.test"
LARGE = 500_000


def trouble(caplog: pytest.LogCaptureFixture) -> int:
    """How often somebody said that storage is in trouble."""
    return sum(record.message == "storage is in trouble" for record in caplog.records)


def until_free(disk: Disk, octets: int) -> None:
    """Wait until readers have let go of files that are removed."""
    while shutil.disk_usage(disk.path).free < octets:
        time.sleep(0.01)


async def until(reached: Callable[[], bool]) -> None:
    """Wait for what other tasks do and announce nowhere."""
    async with asyncio.timeout(20):
        while not reached():  # noqa: ASYNC110
            await asyncio.sleep(0.01)


@pytest.mark.parametrize("size", [0, LARGE], ids=["in memory", "on disk"])
async def test_mail_is_refused_for_now_while_others_read_theirs_and_taken_when_there_is_space(
    office: OpenOffice, ledger: Ledger, disk: Disk, size: int
) -> None:
    house = await office(folder=disk.path, dispatch=False)
    caller = await Caller.smtp(house.port("smtp"))
    assert (await ledger.post(caller, "eve@else.test", BOB, size=size)).startswith("250")
    disk.fill()
    for _ in range(3):
        assert (await ledger.post(caller, "eve@else.test", BOB, size=size)).startswith("452 4.3.1")
    pop = await Caller.pop3(house.port("pop3s"), BOB)
    assert (await pop.ask("RETR 1")).startswith("+OK")
    assert any("X-Token: t1" in line for line in await pop.listing())
    assert (await pop.ask("QUIT")).startswith("+OK")
    disk.free()
    assert (await ledger.post(caller, "eve@else.test", BOB, size=size)).startswith("250")
    found = await ledger.audit(house)
    assert found.mailboxes.total() == 2


async def test_a_submission_that_finds_no_space_costs_the_sender_nothing(
    office: OpenOffice, ledger: Ledger, disk: Disk
) -> None:
    house = await office(folder=disk.path, dispatch=False, submission={"messages_per_hour": 2})
    caller = await Caller.submission(house.port("submissions"), ALICE)
    disk.fill()
    for _ in range(3):
        assert (await ledger.post(caller, ALICE, BOB)).startswith("452 4.3.1")
    disk.free()
    for _ in range(2):
        assert (await ledger.post(caller, ALICE, BOB)).startswith("250")
    assert (await ledger.post(caller, ALICE, BOB)).startswith("452 4.7.1"), "two an hour"
    await ledger.audit(house)


@pytest.mark.parametrize("fate", ["250 2.0.0 taken", "550 5.7.1 not wanted", "451 4.7.1 later"])
async def test_what_became_of_a_relay_is_kept_until_it_can_be_written(
    office: OpenOffice, ledger: Ledger, disk: Disk, caplog: pytest.LogCaptureFixture, fate: str
) -> None:
    """With `550` a report of 40 KiB must be written, too; it goes to a file of its own on the way."""
    async with MailServer("PIPELINING", GREETING="421 not now") as there:
        house = await office(
            folder=disk.path, routes=(route("there.test", there.port),), limits={"memory_per_message": 16384}
        )
        caller = await Caller.submission(house.port("submissions"), ALICE)
        for _ in range(4):
            assert (await ledger.post(caller, ALICE, CAROL, size=40_000)).startswith("250")
        tries: list[str] = []

        def answer(visit: object, line: str) -> str:
            if not tries:
                disk.fill()
            tries.append(line)
            return fate if len(tries) <= 4 else "250 2.0.0 taken"

        there.answers = {"CONTENT": answer}
        await until(lambda: bool(tries))
        await until(lambda: disk.fill() or trouble(caplog) >= 4)  # the database's log gives space back when it is moved
        await ledger.audit(house, there, twice=4)  # what the next host has and we could not write down is in both
        disk.free()
        await house.drained()
        found = await ledger.audit(house, there)
    assert found.returned.total() == (4 if fate.startswith("550") else 0)
    assert len(tries) == (8 if fate.startswith("451") else 4), "nothing was sent twice"


async def test_deleted_messages_stay_when_their_removal_cannot_be_written(
    office: OpenOffice, ledger: Ledger, disk: Disk
) -> None:
    house = await office(folder=disk.path, dispatch=False)
    caller = await Caller.smtp(house.port("smtp"))
    for _ in range(3):
        await ledger.post(caller, "eve@else.test", BOB)
    pop = await Caller.pop3(house.port("pop3s"), BOB)
    assert (await pop.ask("DELE 1")).startswith("+OK")
    disk.fill()
    assert (await pop.ask("QUIT")).startswith("-ERR")
    disk.free()
    await ledger.audit(house)
    pop = await Caller.pop3(house.port("pop3s"), BOB)
    assert (await pop.ask("STAT")).startswith("+OK 3 ")
    assert (await pop.ask("DELE 1")).startswith("+OK")
    assert (await pop.ask("QUIT")).startswith("+OK")
    pop = await Caller.pop3(house.port("pop3s"), BOB)
    assert (await pop.ask("STAT")).startswith("+OK 2 ")


async def test_a_disk_that_mail_itself_filled_empties_by_reading_and_deleting(
    office: OpenOffice, ledger: Ledger, disk: Disk
) -> None:
    house = await office(folder=disk.path, dispatch=False)
    caller = await Caller.smtp(house.port("smtp"))
    while not (reply := await ledger.post(caller, "eve@else.test", BOB, size=LARGE)).startswith("452 4.3.1"):
        assert reply.startswith("250")
    await ledger.audit(house)
    pop = await Caller.pop3(house.port("pop3s"), BOB)
    for number in range(1, 6):
        assert (await pop.ask(f"DELE {number}")).startswith("+OK")
    assert (await pop.ask("QUIT")).startswith("+OK"), "what mail leaves free is enough for that"
    await house.assembly.storage.maintain(smallest=0)
    await asyncio.to_thread(until_free, disk, 3 * LARGE)
    for _ in range(3):
        assert (await ledger.post(caller, "eve@else.test", BOB, size=LARGE)).startswith("250")


@pytest.mark.parametrize(
    "command",
    [
        ("account", "add", "carol@here.test", "--password-stdin"),
        ("alias", "add", "all@here.test", BOB),
        ("queue", "hold", "--all"),
    ],
    ids=" ".join,
)
async def test_a_command_says_that_the_disk_is_full_in_one_line_and_changes_nothing(
    office: OpenOffice, ledger: Ledger, disk: Disk, command: tuple[str, ...]
) -> None:
    house = await office(folder=disk.path, dispatch=False)
    caller = await Caller.submission(house.port("submissions"), ALICE)
    assert (await ledger.post(caller, ALICE, CAROL)).startswith("250")
    house.settings.path.write_text(
        f'hostname = "{house.settings.hostname}"\ndomains = ["here.test"]\ndata = "{house.settings.data}"\n'
    )

    async def run() -> tuple[int | None, str]:
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "waypost", *command, "--config", str(house.settings.path)),
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
        )
        _, error = await process.communicate(b"curiouser and curiouser\n")
        return process.returncode, error.decode()

    disk.fill()
    status, words = await run()
    assert status == 1 and words.count("\n") == 1 and words.startswith("waypost: ")
    assert "full" in words or "No space" in words
    disk.free()
    assert len(await house.storage.directory.accounts()) == 2
    assert await run() == (0, "")
    await ledger.audit(house)


async def test_a_worker_that_starts_on_a_full_disk_serves_or_says_why_and_loses_nothing(
    office: OpenOffice, ledger: Ledger, disk: Disk
) -> None:
    house = await office(folder=disk.path, dispatch=False)
    caller = await Caller.smtp(house.port("smtp"))
    assert (await ledger.post(caller, "eve@else.test", BOB)).startswith("250")
    caller.hang_up()
    await house.close()
    disk.fill()
    try:
        await house.open(dispatch=False)
    except (StorageFull, OSError):
        disk.free()
        await house.open(dispatch=False)
    else:
        disk.free()
    await ledger.audit(house)
    caller = await Caller.smtp(house.port("smtp"))
    assert (await ledger.post(caller, "eve@else.test", BOB)).startswith("250")


def test_log_lines_that_find_no_space_are_counted_and_the_count_is_said(disk: Disk) -> None:
    path = disk.path / "log"
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    handler = BackgroundHandler(fd)
    handler.setFormatter(JsonFormatter())

    def say(words: str) -> None:
        handler.emit(logging.LogRecord("waypost", logging.INFO, __file__, 0, words + " " + "x" * 4000, (), None))

    disk.fill()
    for number in range(5):
        say(f"lost {number}")
    wait_for(lambda: handler._lost == 5, "the lines were tried")
    for number in range(5, 7):
        say(f"lost {number}")
    wait_for(lambda: handler._lost == 7, "the lines were tried")
    disk.free()
    say("kept")
    handler.close()
    os.close(fd)
    kept, loss = (json.loads(line) for line in path.read_text().splitlines())
    assert kept["event"].startswith("kept xxx")
    assert (loss["event"], loss["count"]) == ("log lines lost", 7)


def test_a_service_says_how_a_reload_went_while_its_disk_is_full(disk: Disk, caplog: pytest.LogCaptureFixture) -> None:
    data: Path = disk.path / "data"
    data.mkdir()
    folder = RunFolder(data)
    folder.write({"pid": 1, "reloads": 0, "more": "x" * 500})
    folder.write_configuration(b"hostname = 'a long name'\n")
    disk.fill()
    folder.write({"pid": 1, "reloads": 1, "more": "y" * 900})
    assert json.loads((data / "run/service.json").read_text()) == {"pid": 1, "reloads": 1, "more": "y" * 900}
    folder.write({"pid": 1, "reloads": 2})
    assert (data / "run/service.json").read_text() == '{"pid": 1, "reloads": 2}'
    folder.write_configuration(b"hostname = 'short'\n")
    assert (data / "run/waypost.toml").read_bytes() == b"hostname = 'short'\n"
    assert caplog.records == []
    assert sorted(path.name for path in (data / "run").iterdir()) == ["service.json", "waypost.toml"]
    folder.close()


@pytest.mark.parametrize("kind", ["another name", "a link", "a pipe"])
def test_on_a_full_disk_nothing_is_written_over_that_others_may_name(disk: Disk, kind: str) -> None:
    data: Path = disk.path / "data"
    data.mkdir()
    folder = RunFolder(data)
    precious, state = data / "precious", data / "run/service.json"
    precious.write_text("precious")
    if kind == "another name":
        state.hardlink_to(precious)
    elif kind == "a link":
        state.symlink_to(precious)
    else:
        os.mkfifo(state)
    disk.fill()
    folder.write({"pid": 1})
    assert precious.read_text() == "precious"
    folder.close()


def test_the_state_of_the_service_stays_whole(disk: Disk, caplog: pytest.LogCaptureFixture) -> None:
    data: Path = disk.path / "data"
    data.mkdir()
    folder = RunFolder(data)
    folder.write({"pid": 1})
    disk.fill()
    folder.write({"pid": 2, "more": "x" * 8192})
    assert (data / "run/service.json").read_text() == '{"pid": 1}'
    assert [record.message for record in caplog.records] == ["state not written"]
    disk.free()
    folder.write({"pid": 3})
    assert (data / "run/service.json").read_text() == '{"pid": 3}'
    folder.close()
