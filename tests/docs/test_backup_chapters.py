"""The commands of the manual's chapters on backups, going back and moving run exactly as they are written there.

They run as root, in a namespace of their own where /etc and /var/backups are a test's: with real services, which a
stand-in for systemctl starts and stops.
"""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from tests.docs.pages import ROOT, Page
from tests.storage.letters import Clock, Letters

from waypost.storage import Filter
from waypost.storage.sqlite import DATABASE, open_storage

pytestmark = [
    pytest.mark.skipif(os.geteuid() != 0, reason="the manual's commands are for root"),
    pytest.mark.timeout(400),
]

SYSTEMCTL = """#!/bin/sh
# What the manual asks of systemd, for one service.
set -eu
case "$*" in
"stop waypost" | "disable --now waypost")
    [ -e "$STAND/pid" ] || exit 0
    kill "$(cat "$STAND/pid")"
    tail --pid="$(cat "$STAND/pid")" -f /dev/null
    rm "$STAND/pid"
    ;;
"start waypost" | "enable --now waypost")
    waypost serve </dev/null >>"$STAND/service.log" 2>&1 &
    echo $! >"$STAND/pid"
    until waypost status --json | grep -q '"running": true'; do kill -0 "$(cat "$STAND/pid")"; done
    ;;
*) echo "systemctl $*: the manual says nothing of it" >&2; exit 2 ;;
esac
"""


def chapter(heading: str) -> list[str]:
    """Return the shell blocks of a chapter."""
    text = (ROOT / "docs/operating.md").read_text()
    found = re.search(rf"^## {heading}\n(.*?)(?=^## )", text, re.M | re.S)
    assert found is not None, heading
    return Page("operating.md", found[1]).shell_blocks


class Machine:
    """A machine whose /etc/waypost is a folder here. Machines share /var/backups, as if it were carried over."""

    def __init__(self, folder: Path, backups: Path) -> None:
        self.etc, self.backups, self.stand = folder / "etc", backups, folder / "stand"
        self.data = self.etc / "waypost/data"
        self._makers = 0
        shutil.copytree("/etc", self.etc, symlinks=True)
        shutil.rmtree(self.etc / "waypost", ignore_errors=True)
        self.stand.mkdir()
        (self.stand / "systemctl").write_text(SYSTEMCTL)
        (self.stand / "systemctl").chmod(0o755)
        backups.mkdir(exist_ok=True)

    def run(self, *blocks: str) -> str:
        """Run shell blocks one after the other, a yes to each question; a service that is left over is ended."""
        script = self.stand / "script"
        script.write_text("\n".join(("set -eu", *blocks)))
        end = '[ ! -e "$STAND/pid" ] || kill -9 "$(cat "$STAND/pid")"'
        inside = (
            f"mount --bind {self.etc} /etc && mount --bind {self.backups} /var/backups && ip link set lo up && "
            f"yes | sh {script}; status=$?; {end}; exit $status"
        )
        path = f"{self.stand}:{Path(sys.executable).parent}:{os.environ['PATH']}"
        done = subprocess.run(
            ["unshare", "--mount", "--net", "--pid", "--fork", "--mount-proc", "sh", "-c", inside],
            env={**os.environ, "PATH": path, "STAND": str(self.stand), "LC_ALL": "C.UTF-8"},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
        )
        log = self.stand / "service.log"
        assert done.returncode == 0, done.stdout + (log.read_text() if log.exists() else "")
        return done.stdout

    async def post(self, octets: bytes) -> None:
        """Let a message for somebody elsewhere wait in the queue, and be in Alice's mailbox."""
        opened = await open_storage(
            self.data, now=Clock(), worker=0, publish=lambda notice: None, memory_per_message=1 << 20
        )
        (alice,) = await opened.storage.directory.accounts()
        self._makers += 1
        letters = Letters(opened.storage, Clock(), self._makers)
        await letters.post(octets, to=["carol@elsewhere.invalid"], mailboxes=[alice.inbox])
        await opened.close()

    async def look(self) -> tuple[int, list[str]]:
        """Return how many messages Alice has, and the states of the queue's entries."""
        opened = await open_storage(
            self.data, now=Clock(), worker=0, publish=lambda notice: None, memory_per_message=1 << 20
        )
        try:
            (alice,) = await opened.storage.directory.accounts()
            rows = await opened.storage.mailboxes.messages(alice.inbox)
            entries = [entry.state async for entry in opened.storage.queue.entries(Filter(), now=0)]
            return len(rows), [str(state) for state in entries]
        finally:
            await opened.close()


SETUP = """
waypost init /etc/waypost --domain example.org --hostname mx.example.org
echo 'a long password' | waypost account add alice@example.org --password-stdin
"""


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    for folder in (tmp_path, *tmp_path.parents):  # the workers' user must get to the stand-in's log folder
        if not folder.stat().st_mode & 0o001:
            folder.chmod(folder.stat().st_mode | 0o011)
    (tmp_path / "one").mkdir()
    made = Machine(tmp_path / "one", tmp_path / "backups")
    made.run(SETUP)
    return made


async def test_backups_are_taken_and_restored_as_the_chapter_says(machine: Machine) -> None:
    await machine.post(b"precious")
    said = machine.run("systemctl start waypost", *chapter("Backups"), "systemctl stop waypost")
    assert "1 message, " in said and "1 entry was released." in said and "no problems" in said
    assert (machine.backups / "waypost.toml").exists() and (machine.backups / "tls/key.pem").exists()
    assert await machine.look() == (1, ["ready"])


async def test_a_damaged_storage_is_recovered_as_the_chapter_says(machine: Machine) -> None:
    await machine.post(b"precious")
    recover, bring_back = chapter("A damaged storage")
    said = machine.run(recover, bring_back, "systemctl start waypost", "systemctl stop waypost")
    assert "1 message with rows" in said
    assert await machine.look() == (1, ["held"])


async def test_a_host_moves_to_another_machine_as_the_chapter_says(machine: Machine, tmp_path: Path) -> None:
    await machine.post(b"precious")
    leave, arrive = chapter("Another machine")
    machine.run("systemctl start waypost", leave)
    (tmp_path / "two").mkdir()
    other = Machine(tmp_path / "two", machine.backups)
    said = other.run(
        "waypost init /etc/waypost --domain example.org --hostname mx2.example.org", arrive, "systemctl stop waypost"
    )
    assert "1 entry was released." in said
    assert await other.look() == (1, ["ready"])


async def test_an_older_schema_is_gone_back_to_as_the_chapter_says(machine: Machine) -> None:
    await machine.post(b"of before the upgrade")
    (machine.data / "snapshots").mkdir()
    shutil.copy(machine.data / DATABASE, machine.data / "snapshots/schema-0001.db")
    await machine.post(b"since")
    back = chapter("Upgrades")[1:]
    assert "snapshots" in back[0] and "queue hold --all" in back[1]
    said = machine.run(*back, "systemctl stop waypost")
    assert await machine.look() == (1, ["held"])
    # Whoever opens the storage first says so: the service, or a command.
    assert "the storage was restored" in said + (machine.stand / "service.log").read_text()
    assert (machine.backups / "waypost-newer/waypost-backup.json").exists()
    assert (machine.backups / "newer-database" / DATABASE).exists()
