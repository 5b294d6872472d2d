"""The frame of every command: which configuration, whose storage, and what is printed."""

import os
import pwd
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.cli.conftest import Run

from waypost.cli.frame import load_settings, print_json, run_with_storage, time_text
from waypost.cli.terminal import print_table, printable
from waypost.service.processes.bus import UnixBus
from waypost.storage import Bus, Notice, Storage, StorageFull


def test_the_configuration_is_the_option_else_the_environment_else_the_working_directory(
    config: Path, run: Run, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    other = tmp_path / "other.toml"
    other.write_text(config.read_text().replace("example.net", "other.example"))
    (tmp_path / "waypost.toml").write_text(config.read_text().replace("example.net", "here.example"))
    assert "example.net" in run("domain", "list").output
    assert "other.example" in run("domain", "list", "--config", str(other)).output
    monkeypatch.delenv("WAYPOST_CONFIG")
    assert "here.example" in run("domain", "list").output


def test_no_configuration_at_all_is_told_with_where_it_was_looked_for(run: Run) -> None:
    if Path("/etc/waypost/waypost.toml").exists():
        pytest.skip("this machine has a Waypost of its own")
    result = run("domain", "list", status=1)
    assert result.stderr == (
        "waypost: there is no configuration: looked for ./waypost.toml and /etc/waypost/waypost.toml; "
        "use --config FILE\n"
    )


def test_a_wrong_configuration_stops_every_command_with_its_errors(tmp_path: Path, run: Run) -> None:
    (tmp_path / "waypost.toml").write_text('hostname = "mx.example.org"\ndomains = []\ndata = 5\n')
    result = run("account", "list", status=1)
    assert result.stderr == 'waypost.toml:3: data = 5: not a path; write for example "tls/cert.pem"\n'


def test_storage_errors_are_one_line(config: Path, run: Run) -> None:
    (config.parent / "data" / "waypost.db").write_bytes(b"this is no database, and it is longer than a page" * 100)
    result = run("account", "list", status=1)
    assert result.stderr.startswith(f"waypost: {config.parent}/data: ") and result.stderr.count("\n") == 1


def test_a_data_directory_that_is_a_file_is_named(config: Path, run: Run) -> None:
    (config.parent / "data").rmdir()
    (config.parent / "data").write_text("")
    result = run("account", "list", status=1)
    assert result.stderr.startswith(f"waypost: {config.parent}/data") and result.stderr.count("\n") == 1


def test_what_goes_wrong_in_the_work_is_told_too(config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    async def work(storage: Storage, bus: Bus) -> None:
        raise StorageFull("the disk is full")

    with pytest.raises(SystemExit) as ended:
        run_with_storage(load_settings(config), work)
    assert ended.value.code == 1
    assert capsys.readouterr().err == f"waypost: {config.parent}/data: the disk is full\n"


def test_the_service_is_told_of_a_change(config: Path) -> None:
    heard: list[Notice] = []

    async def work(storage: Storage, bus: Bus) -> None:
        import asyncio

        settings = load_settings(config)
        service, told = UnixBus(settings.data / "bus", "worker-0"), asyncio.Event()
        service.subscribe("destination", lambda notice: (heard.append(notice), told.set()))
        await service.start()
        bus.publish(Notice("destination", "builder.test"))
        await told.wait()
        service.close()

    run_with_storage(load_settings(config), work)
    assert heard == [Notice("destination", "builder.test")]


@pytest.fixture
def open_folder() -> Iterator[Path]:
    """A folder that every user of the machine can enter."""
    folder = Path(tempfile.mkdtemp(prefix="waypost-test-"))
    folder.chmod(0o755)
    yield folder
    shutil.rmtree(folder)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become somebody else")
@pytest.mark.parametrize("numbers", ["nobody", "54321:54321"])
def test_as_root_a_command_becomes_the_owner_of_the_data_directory(numbers: str, open_folder: Path) -> None:
    waypost = [sys.executable, "-m", "waypost"]
    names = ["--domain", "example.org", "--hostname", "mx.example.org"]
    subprocess.run([*waypost, "init", str(open_folder), *names], check=True, capture_output=True)
    user = pwd.getpwnam("nobody").pw_uid if numbers == "nobody" else 54321
    group = pwd.getpwnam("nobody").pw_gid if numbers == "nobody" else 54321
    os.chown(open_folder / "data", user, group)
    subprocess.run(
        [
            *waypost,
            "account",
            "add",
            "a@example.org",
            "--password-stdin",
            "--config",
            str(open_folder / "waypost.toml"),
        ],
        input=b"white-rabbit\n",
        check=True,
        stdout=subprocess.DEVNULL,
    )
    owners = {(each.stat().st_uid, each.stat().st_gid) for each in (open_folder / "data").rglob("*")}
    assert owners == {(user, group)}


def test_a_table_is_aligned_by_what_is_seen(capsys: pytest.CaptureFixture[str]) -> None:
    print_table(("name", "size", "note"), [("日本", 5, None), ("e\u0301te\u0301", 12345, "x\x1b[2Jy"), ("a", 0, "")])
    assert capsys.readouterr().out == (
        "name   size  note\n日本      5\ne\u0301te\u0301   12345  x\\x1b[2Jy\na         0\n"
    )


def test_an_empty_table_is_its_heading(capsys: pytest.CaptureFixture[str]) -> None:
    print_table(("name", "size"), [])
    assert capsys.readouterr().out == "name  size\n"


def test_words_of_others_can_not_steer_the_terminal() -> None:
    assert printable("a\x1b[31m\r\n\u202e\u2028\x9bb\ud800") == "a\\x1b[31m\\r\\n\\u202e\\u2028\\x9bb\\ud800"
    assert printable("grüße 日本 🎩") == "grüße 日本 🎩"


def test_json_is_ascii(capsys: pytest.CaptureFixture[str]) -> None:
    print_json({"name": "bücher\u202e"})
    assert capsys.readouterr().out == '{\n  "name": "b\\u00fccher\\u202e"\n}\n'


def test_times_are_utc() -> None:
    assert time_text(1_795_482_420_999_999) == "2026-11-24T01:07:00Z"
