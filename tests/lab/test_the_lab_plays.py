"""What a newcomer sees: the story from end to end, and a lab to play on in which every printed command works.

The lab has addresses of its own, and there is one set of them: all of this runs in one process, since it is one file.
"""

import asyncio
import os
import re
import signal
import sys
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from tests.lab.conftest import nobody

WAYPOST = Path(sys.executable).with_name("waypost")


@dataclass
class Lab:
    """A lab that runs as `who`; `said` are the lines that it printed."""

    who: list[str]
    process: asyncio.subprocess.Process
    said: list[str] = field(default_factory=list)

    async def until(self, word: str) -> None:
        """Read on until a line has this in it."""
        assert self.process.stdout is not None
        async with asyncio.timeout(60):
            while not self.said or word not in self.said[-1]:
                line = await self.process.stdout.readline()
                assert line, self.said
                self.said.append(line.decode().rstrip())


async def start(*options: str, who: list[str]) -> Lab:
    process = await asyncio.create_subprocess_exec(
        *(*who, str(WAYPOST), "lab", *options),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
        preexec_fn=_as_on_a_terminal,
    )
    return Lab(who, process)


def _as_on_a_terminal() -> None:
    """Heed Ctrl-C, also where the tests themselves run in the background of a shell, which ignores it."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    signal.signal(signal.SIGHUP, signal.SIG_DFL)


@pytest.fixture
async def lab() -> AsyncIterator[Lab]:
    """A lab to play on, of a user who may not have the ports of the internet."""
    lab = await start("--no-story", who=nobody())
    yield lab
    if lab.process.returncode is None:
        lab.process.send_signal(signal.SIGTERM)
    await asyncio.wait_for(lab.process.communicate(), 60)


async def test_the_story_of_alice_and_bob_ends_well_and_is_plain_when_piped() -> None:
    lab = await start("--burst", "60", who=[])
    out, _ = await asyncio.wait_for(lab.process.communicate(), 110)
    told = out.decode()
    assert lab.process.returncode == 0, told
    assert told.isprintable() or not re.search(r"[^\n\x20-\x7e\u0080-\uffff]", told), "no colours"
    for words in (
        "── 1. The straight road",
        "MSA: alice@wonderland.test logged in over TLSv1.3",
        "MTA: delivered to mx.builder.test 127.0.0.12:",
        "MX: taken from mx.wonderland.test over TLSv1.3",
        "MDA: in the mailbox of bob@builder.test",
        'reads by POP3 over TLS: "Tea at five?"',
        "next attempt",
        "There is no mailbox of that name.",
        "Your message is delayed; it is still being tried",
        "Your message could not be delivered",
        "60 of 60 messages in Bob's mailbox; 0 missing, ",
        "The whole story took ",
    ):
        assert words in told, f"{words!r} is not told in:\n{told}"
    times = [float(found) for found in re.findall(r"^ +(\d+\.\d\d)s  \S{13} ", told, re.MULTILINE)]
    assert times == sorted(times), "each station with its own time"


async def test_the_lab_of_a_user_without_rights_uses_high_ports_and_its_commands_work_when_copied(lab: Lab) -> None:
    await lab.until("status --config")
    first = re.search(r"high ports are used, by configuration \(25 is (\d+)", "\n".join(lab.said))
    second = await start("--no-story", who=lab.who)  # a neighbour's
    await second.until("status --config")
    other = re.search(r"high ports are used, by configuration \(25 is (\d+)", "\n".join(second.said))
    second.process.send_signal(signal.SIGTERM)
    assert first and other and first[1] != other[1]
    commands = [line.strip() for line in lab.said if str(WAYPOST) in line or line.strip().startswith("waypost ")]
    assert len(commands) == 4
    shown = []
    for command in commands:
        process = await asyncio.create_subprocess_exec(
            *lab.who, "sh", "-c", command, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT
        )
        out, _ = await process.communicate()
        assert process.returncode == 0, f"{command}\n{out.decode()}"
        shown.append(out.decode())
    send, fetch, queue, status = shown
    assert re.match(r"sent: [0-9a-z]{13}\n", send)
    assert "number  date" in fetch
    assert queue == "The queue is empty.\n"
    assert "service      running" in status
    await asyncio.wait_for(second.process.communicate(), 60)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_whatever_ends_the_lab_leaves_nothing_behind(lab: Lab, number: signal.Signals) -> None:
    await lab.until("status --config")
    folder = re.search(r"(/\S+/waypost-lab-\w+)/", lab.said[-1])
    assert folder
    lab.process.send_signal(number)
    await asyncio.wait_for(lab.process.communicate(), 60)
    assert lab.process.returncode not in (0, -number)
    assert not left_behind(folder[1])


def left_behind(folder: str) -> list[str]:
    """Return what there is of a lab: its folder, and processes that name it."""
    found = [folder] if os.path.lexists(folder) else []
    for process in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            command = process.read_bytes().decode(errors="replace")
        except OSError:  # it has ended
            continue
        if folder in command:
            found.append(command)
    return found
