"""`waypost status`: whether the service runs, and how queue, mailboxes, disk and certificate are."""

import asyncio
import hashlib
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from tests.cli.conftest import Run
from tests.cli.post_office import in_storage
from tests.storage.letters import Letters

from waypost.cli.times import now
from waypost.service.processes.state import certificate_facts, process_identity


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


def process_named(*words: str) -> subprocess.Popen[bytes]:
    """Start a process with these words in its command line.

    It returns when the process has spoken: `Popen` returns while the kernel has yet to show the new command line.
    """
    program = [sys.executable, "-c", "print(flush=True); input()", *words]
    process = subprocess.Popen(program, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert process.stdout is not None and process.stdout.readline() == b"\n"
    return process


@pytest.fixture
def process() -> Iterator[subprocess.Popen[bytes]]:
    """A process that looks like a service."""
    process = process_named("waypost", "serve")
    yield process
    process.communicate(b"\n")


def status(run: Run) -> dict[str, Any]:
    """What a stopped service's host says."""
    found: dict[str, Any] = json.loads(run("status", "--json", status=3).stdout)
    return found


def test_a_host_without_service_is_said_not_to_run(config: Path, run: Run) -> None:
    output = run("status", status=3).stdout
    assert "service      not running" in output
    assert "The queue is empty." in output
    assert status(run)["running"] is False


def test_a_service_whose_process_is_gone_does_not_run(config: Path, run: Run) -> None:
    gone = subprocess.Popen([sys.executable, "-c", "", "waypost", "serve"])
    gone.wait()
    said(config, gone.pid)
    assert status(run)["running"] is False


@pytest.mark.parametrize(
    "words",
    [
        ["serve"],
        ["/srv/waypost/start", "serve"],
        ["the waypost container"],
        ["/bin/waypost", "lab"],
        ["waypost.service", "serve"],
    ],
)
def test_another_process_that_has_the_number_now_is_not_the_service(config: Path, run: Run, words: list[str]) -> None:
    """After a restart of the machine, or as the first process of a container."""
    with process_named(*words) as other:
        said(config, other.pid)
        assert status(run)["running"] is False
        other.communicate(b"\n")


def test_a_running_service_is_described(config: Path, run: Run, process: subprocess.Popen[bytes]) -> None:
    said(config, process.pid)
    found = json.loads(run("status", "--json").stdout)
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
    output = run("status", status=3).stdout
    assert "1 entry for 1 destination: 1 due, 0 held" in output
    assert "2, 1 disabled; 4.9 KiB in their mailboxes" in output


def test_the_certificate_says_how_long_it_is_valid(config: Path, run: Run) -> None:
    certificate = status(run)["certificate"]
    assert certificate["days"] > 30 and certificate["expires"].endswith("Z")
    assert f"valid for {certificate['days']} days" in run("status", status=3).stdout


def test_a_certificate_that_cannot_be_read_is_told(config: Path, run: Run) -> None:
    path = Path(status(run)["certificate"]["path"])
    path.write_text("nonsense")
    assert "it holds no certificate in PEM form" in run("status", status=3).stdout


# -- for monitors ----------------------------------------------------------------------------------------------


def in_force(config: Path, process: subprocess.Popen[bytes], **more: Any) -> None:
    """Write what a supervisor writes that runs by the configuration and serves the certificate of today."""
    said(config, process.pid)
    path = config.parent / "data/run/service.json"
    facts = certificate_facts((config.parent / "tls/cert.pem").read_bytes())
    state = json.loads(path.read_text()) | {
        "process": process_identity(process.pid),
        "configuration": {
            "path": str(config),
            "sha256": hashlib.sha256(config.read_bytes()).hexdigest(),
            "since": "2026-11-25T01:07:00Z",
        },
        "certificate": {"path": "cert.pem", **facts},
        "failed_reload": None,
        "reloads": 0,
    }
    path.write_text(json.dumps(state | more))
    (config.parent / "data/run/waypost.toml").write_bytes(config.read_bytes())


def test_all_well_is_one_line_and_exit_status_0(config: Path, run: Run, process: subprocess.Popen[bytes]) -> None:
    in_force(config, process)
    assert run("status", "--check").stdout == "OK: The queue is empty.\n"


@pytest.mark.parametrize("left", [b"", b"\xff\xfe", None, b"hostname = 3\n"], ids=["empty", "binary", "gone", "cut"])
def test_a_file_that_names_no_data_directory_any_more_is_looked_for_beside_its_data(
    config: Path, run: Run, process: subprocess.Popen[bytes], left: bytes | None
) -> None:
    in_force(config, process)
    if left is None:
        config.unlink()
    else:
        config.write_bytes(left)
    where = ("--config", str(config))
    said = run("status", "--check", *where, status=1)
    assert (
        "WARNING: the configuration file has changed" in said.stdout
        and "by which the service runs since" in said.stderr
    )
    assert run("queue", "list", *where).stdout == "The queue is empty.\n"


def test_a_supervisor_that_was_killed_and_not_yet_waited_for_does_not_run(config: Path, run: Run) -> None:
    with subprocess.Popen(["sleep", "600"]) as child:
        in_force(config, child)
        assert run("status", "--check").stdout == "OK: The queue is empty.\n"
        child.kill()
        os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)  # it has ended, and its number stays taken
        assert Path(f"/proc/{child.pid}/stat").exists()
        assert run("status", "--check", status=2).stdout.startswith("CRITICAL: the service does not run")


def test_a_certificate_that_is_not_valid_yet_is_critical(
    config: Path, run: Run, process: subprocess.Popen[bytes]
) -> None:
    facts = certificate_facts((config.parent / "tls/cert.pem").read_bytes())
    in_force(config, process, certificate={"path": "cert.pem", **facts, "begins": "2999-01-01T00:00:00Z"})
    said = run("status", "--check", status=2).stdout
    assert "CRITICAL: the certificate is valid only from 2999-01-01T00:00:00Z on; is the clock right?" in said
    assert "NOT VALID before 2999-01-01T00:00:00Z" in run("status").stdout


def test_a_service_that_does_not_run_is_critical(config: Path, run: Run) -> None:
    assert run("status", "--check", status=2).stdout.startswith("CRITICAL: the service does not run")


def test_a_configuration_with_errors_and_no_service_is_unknown_to_a_monitor(config: Path, run: Run) -> None:
    config.write_text("nonsense")
    result = run("status", "--check", status=3)
    assert result.stdout == "UNKNOWN: the configuration can't be read; the error stream says why\n"
    assert "waypost.toml:1" in result.stderr


def test_a_storage_that_does_not_open_is_critical(config: Path, run: Run) -> None:
    status(run)
    (config.parent / "data/waypost.db").write_bytes(b"not a database" * 1000)
    result = run("status", "--check", status=2)
    assert result.stdout == "CRITICAL: the storage can't be opened; the error stream says why\n"
    assert "waypost.db is damaged" in result.stderr


def test_a_failed_reload_is_told_until_one_succeeds(config: Path, run: Run, process: subprocess.Popen[bytes]) -> None:
    in_force(config, process, failed_reload={"at": "2026-11-25T02:00:00Z", "problems": ["waypost.toml:3: no"]})
    words = "the reload at 2026-11-25T02:00:00Z failed: waypost.toml:3: no"
    assert run("status", "--check", status=1).stdout == f"WARNING: {words}\n"
    assert f"note         {words}" in run("status").stdout


def test_a_configuration_that_changed_and_was_not_reloaded_is_told(
    config: Path, run: Run, process: subprocess.Popen[bytes]
) -> None:
    in_force(config, process)
    config.write_text(config.read_text() + "# changed\n")
    assert "the configuration file has changed" in run("status", "--check", status=1).stdout
    assert json.loads(run("status", "--json").stdout)["configuration_changed"] is True


def test_the_certificate_that_is_served_is_shown_and_not_that_of_the_file(
    config: Path, run: Run, process: subprocess.Popen[bytes]
) -> None:
    facts = certificate_facts((config.parent / "tls/cert.pem").read_bytes())
    soon = (datetime.now(UTC) + timedelta(days=3, hours=1)).strftime("%Y-%m-%dT%H:%M:%SZ")
    in_force(config, process, certificate={"path": "cert.pem", "expires": soon, "sha256": "0" * 64})
    found = json.loads(run("status", "--json").stdout)
    assert found["certificate"]["days"] == 3 and found["certificate"]["stale"] is True
    assert found["severity"] == "warning"
    assert "holds another certificate than is served" in run("status").stdout
    expired = {"path": "cert.pem", "expires": "2026-01-01T00:00:00Z", "sha256": facts["sha256"]}
    in_force(config, process, certificate=expired)
    assert run("status", "--check", status=2).stdout.startswith("CRITICAL: the certificate expired at 2026-01-01")


def test_mail_that_waits_long_and_a_full_disk_are_told(
    config: Path, run: Run, process: subprocess.Popen[bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    in_force(config, process)

    async def fill(letters: Letters) -> None:
        await letters.post(b"x", to=["eve@elsewhere.test"])

    in_storage(config, fill)
    later = now() + 5 * 3600 * 1_000_000
    monkeypatch.setattr("waypost.cli.status.now", lambda: later)
    assert "the oldest entry of the queue has waited for 5 hours" in run("status", "--check", status=1).stdout
    monkeypatch.setattr(
        "waypost.cli.status.shutil.disk_usage", lambda path: SimpleNamespace(free=1 << 20, total=1 << 40)
    )
    assert run("status", "--check", status=2).stdout.startswith("CRITICAL: only 1 MiB are free on the disk")


# -- a file with errors ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("broken", ['\ndata = "data"\nhostname = "', '\ndata = "data"\nnonsense = 1\n'])
def test_while_the_file_has_errors_commands_use_what_the_service_runs_by(
    config: Path, run: Run, process: subprocess.Popen[bytes], broken: str
) -> None:
    in_force(config, process)
    config.write_text(broken)
    for command in (["status"], ["queue", "list"], ["account", "list"]):
        result = run(*command)
        assert "waypost.toml:" in result.stderr
        assert "by which the service runs since 2026-11-25T01:07:00Z" in result.stderr
    assert "running for" in run("status").stdout


def test_while_the_file_has_errors_and_no_service_runs_commands_refuse(config: Path, run: Run) -> None:
    config.write_text('data = "data"\nnonsense = 1\n')
    assert "nonsense" in run("queue", "list", status=1).stderr


def test_the_configuration_of_another_file_is_not_used(
    config: Path, run: Run, process: subprocess.Popen[bytes]
) -> None:
    in_force(config, process)
    other = config.with_name("other.toml")
    other.write_text('data = "data"\nnonsense = 1\n')
    assert "nonsense" in run("queue", "list", "--config", str(other), status=1).stderr


# -- a data directory that moved in the file alone ---------------------------------------------------------------


@pytest.fixture
def serving(config: Path) -> Iterator[subprocess.Popen[bytes]]:
    """A process that looks like a service, and holds what a service holds of its data directory."""
    lock = config.parent / "data/run/service.lock"
    lock.parent.mkdir(parents=True, exist_ok=True)
    lock.touch()
    script = "import sys; lock = open(sys.argv[3]); print(flush=True); input()"
    words = [sys.executable, "-c", script, "waypost", "serve", str(lock)]
    process = subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert process.stdout is not None and process.stdout.readline() == b"\n"
    in_force(config, process)
    yield process
    process.communicate(b"\n")


def test_commands_use_the_data_directory_of_the_service_until_it_is_restarted(
    config: Path, run: Run, serving: subprocess.Popen[bytes]
) -> None:
    config.write_text(config.read_text().replace('data = "data"', 'data = "elsewhere"'))
    used = config.parent / "data"
    words = f"data is {config.parent}/elsewhere now, and the service runs on {used} until it is restarted"
    result = run("status", "--check", status=1)
    assert words in result.stderr and "the configuration file has changed" in result.stdout
    assert "running for" in run("status").stdout
    for command in (["queue", "list"], ["account", "list"], ["storage", "check"], ["domain", "list"]):
        assert words in run(*command).stderr
    assert not (config.parent / "elsewhere").exists()


def test_a_changed_data_directory_without_a_service_is_simply_the_new_one(config: Path, run: Run) -> None:
    config.write_text(config.read_text().replace('data = "data"', 'data = "elsewhere"'))
    result = run("status", status=3)
    assert "not running" in result.stdout and result.stderr == ""
    assert (config.parent / "elsewhere/waypost.db").exists()


# -- segments ----------------------------------------------------------------------------------------------------


def segments_of(config: Path) -> list[Path]:
    return sorted((config.parent / "data/segments").glob("*.seg"))


def post(config: Path, count: int = 1) -> None:
    async def fill(letters: Letters) -> None:
        await letters.post(b"x" * 5000, to=["eve@elsewhere.test"])

    for _ in range(count):  # each in a segment of its own
        in_storage(config, fill)


def test_a_segment_that_is_gone_is_critical(config: Path, run: Run, process: subprocess.Popen[bytes]) -> None:
    post(config, 3)
    in_force(config, process)
    assert run("status", "--check").stdout.startswith("OK: ")
    first, second, _ = segments_of(config)
    first.rename(config.parent / "away")
    words = f"messages can't be read: in segments/, {first.name} is missing or cut short: waypost storage check"
    assert run("status", "--check", status=2).stdout == f"CRITICAL: {words}\n"
    assert f"note         {words}" in run("status").stdout
    assert json.loads(run("status", "--json").stdout)["missing_segments"] == [first.name]
    second.unlink()
    assert f"{first.name} and 1 more are missing" in run("status", "--check", status=2).stdout
    (config.parent / "away").rename(first)
    assert f"{second.name} is missing" in run("status", "--check", status=2).stdout


def test_a_segment_that_was_cut_short_is_critical(config: Path, run: Run, process: subprocess.Popen[bytes]) -> None:
    post(config, 2)
    in_force(config, process)
    segment, other = segments_of(config)
    os.truncate(segment, segment.stat().st_size - 1)
    assert f"{segment.name} is missing or cut short" in run("status", "--check", status=2).stdout
    os.truncate(segment, 0)
    assert f"{segment.name} is missing or cut short" in run("status", "--check", status=2).stdout
    os.truncate(other, 0)
    result = run("status", "--check", status=2)
    assert result.stdout == "CRITICAL: the storage can't be opened; the error stream says why\n"
    assert "none of the 2 segments" in result.stderr


def test_a_folder_of_segments_that_is_gone_is_critical_while_the_service_runs(
    config: Path, run: Run, process: subprocess.Popen[bytes]
) -> None:
    post(config, 2)
    in_force(config, process)

    async def look(letters: Letters) -> str:  # another process uses the storage
        (config.parent / "data/segments").rename(config.parent / "away")
        arguments = [sys.executable, "-m", "waypost", "status", "--check", "--config", str(config)]
        process = await asyncio.create_subprocess_exec(*arguments, stdout=asyncio.subprocess.PIPE)
        return (await process.communicate())[0].decode()

    assert in_storage(config, look).startswith("CRITICAL: messages can't be read")


def test_a_segment_that_nobody_needs_may_be_gone(config: Path, run: Run, process: subprocess.Popen[bytes]) -> None:
    post(config)
    in_force(config, process)
    run("queue", "delete", "--id", "1", "--yes")
    for segment in segments_of(config):
        segment.unlink()
    assert run("status", "--check").stdout.startswith("OK: ")


def test_one_is_one(config: Path, run: Run, process: subprocess.Popen[bytes]) -> None:
    in_force(config, process)
    one = {"workers": [{"number": 0, "pid": 1}]}
    tomorrow = (datetime.now(UTC) + timedelta(days=1, hours=1)).strftime("%Y-%m-%dT%H:%M:%SZ")
    in_force(config, process, certificate={"path": "cert.pem", "expires": tomorrow, "sha256": "0" * 64}, **one)
    output = run("status").stdout
    assert ", 1 worker\n" in output and "valid for 1 day," in output
    assert "the certificate ends in 1 day;" in run("status", "--check", status=1).stdout
