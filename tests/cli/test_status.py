"""`waypost status`: whether the service runs, and how queue, mailboxes, disk and certificate are."""

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.cli.conftest import Run
from tests.cli.post_office import in_storage
from tests.storage.letters import Letters


def said(config: Path, pid: int) -> None:
    """Write what a supervisor writes."""
    folder = config.parent / "data" / "run"
    folder.mkdir(parents=True, exist_ok=True)
    state = {
        "pid": pid,
        "version": "0.1.0",
        "started": "2026-11-25T01:07:00Z",
        "generation": 1,
        "workers": [{"number": 0, "pid": pid + 1}, {"number": 1, "pid": pid + 2}],
        "listeners": [{"protocol": "smtp", "address": "192.0.2.1:25"}],
    }
    (folder / "service.json").write_text(json.dumps(state))


@pytest.fixture
def process() -> Iterator[subprocess.Popen[bytes]]:
    """A process that looks like a service."""
    process = subprocess.Popen([sys.executable, "-c", "input()", "waypost"], stdin=subprocess.PIPE)
    yield process
    process.communicate(b"\n")


def status(run: Run) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(run("status", "--json").stdout)
    return found


def test_a_host_without_service_is_said_not_to_run(config: Path, run: Run) -> None:
    output = run("status").stdout
    assert "service      not running" in output
    assert "The queue is empty." in output
    assert status(run)["running"] is False


def test_a_service_whose_process_is_gone_does_not_run(config: Path, run: Run) -> None:
    gone = subprocess.Popen([sys.executable, "-c", "", "waypost"])
    gone.wait()
    said(config, gone.pid)
    assert status(run)["running"] is False
    said(config, 1)  # somebody else's number, after a restart of the machine
    assert status(run)["running"] is False


def test_a_running_service_is_described(config: Path, run: Run, process: subprocess.Popen[bytes]) -> None:
    said(config, process.pid)
    found = status(run)
    assert found["running"] is True and found["service"]["pid"] == process.pid
    output = run("status").stdout
    assert f"version 0.1.0, process {process.pid}, 2 workers" in output
    assert "listens      smtp on 192.0.2.1:25" in output


def test_a_state_that_cannot_be_read_is_no_service(config: Path, run: Run) -> None:
    folder = config.parent / "data" / "run"
    folder.mkdir(parents=True, exist_ok=True)
    for words in ("", "{", "[]", '{"pid": "x"}'):
        (folder / "service.json").write_text(words)
        assert status(run)["running"] is False


def test_queue_accounts_and_disk_are_summed_up(config: Path, run: Run) -> None:
    async def fill(letters: Letters) -> None:
        bob = await letters.account("bob@example.org")
        await letters.account("carol@example.org")
        await letters.storage.directory.set_disabled("carol@example.org", True)
        await letters.post(b"x" * 5000, mailboxes=[bob.inbox], to=["eve@elsewhere.test"])

    in_storage(config, fill)
    found = status(run)
    assert found["queue"]["entries"] == 1
    assert (found["accounts"]["count"], found["accounts"]["disabled"]) == (2, 1)
    assert found["accounts"]["usage"] > 5000
    assert found["disk"]["segments"] > 5000 and found["disk"]["database"] > 0
    assert 0 < found["disk"]["free"] < found["disk"]["total"]
    output = run("status").stdout
    assert "1 entry for 1 destination: 1 due, 0 held" in output
    assert "2, 1 disabled; 4.9 KiB in their mailboxes" in output


def test_the_certificate_says_how_long_it_is_valid(config: Path, run: Run) -> None:
    certificate = status(run)["certificate"]
    assert certificate["days"] > 30 and certificate["expires"].endswith("Z")
    assert f"valid for {certificate['days']} days" in run("status").stdout


def test_a_certificate_that_cannot_be_read_is_told(config: Path, run: Run) -> None:
    path = Path(status(run)["certificate"]["path"])
    path.write_text("nonsense")
    assert "it holds no certificate in PEM form" in run("status").stdout
