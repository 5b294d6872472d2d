"""`waypost backup` and `waypost restore`, as an operator types them."""

import json
import os
import pwd
from pathlib import Path

import pytest
from tests.cli.conftest import Run
from tests.cli.post_office import in_storage
from tests.storage.letters import Letters

from waypost.message.trace import TraceId, format_trace_id
from waypost.service.processes import privileges
from waypost.service.processes.privileges import service_identity
from waypost.storage.sqlite import DATABASE


@pytest.fixture(autouse=True)
def an_ordinary_user(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is restored stays this user's: a test process can't come back from being another one."""
    monkeypatch.setattr(privileges, "service_identity", lambda user, data: None)


@pytest.fixture
def message(config: Path) -> TraceId:
    async def fill(letters: Letters) -> TraceId:
        bob = await letters.account("bob@example.org")
        return await letters.post(b"precious", to=["carol@elsewhere.test"], mailboxes=[bob.inbox])

    return in_storage(config, fill)


def test_a_backup_is_taken_listed_verified_and_restored(run: Run, config: Path, message: TraceId) -> None:
    assert "1 message, " in run("backup", "b").stdout
    assert json.loads(run("backup", "--keep", "2", "b", "--json").stdout)["copied"] == 0
    assert [each["messages"] for each in json.loads(run("backup", "list", "b", "--json").stdout)] == [1, 1]
    assert run("backup", "list", "b").stdout.splitlines()[0].split() == [
        *("backup", "messages", "octets", "queue", "accounts")
    ]
    assert run("backup", "verify", "b").stdout.count("whole") == 2
    assert json.loads(run("backup", "verify", "b", "--json").stdout)["whole"] is True
    assert "nothing was done" in run("restore", "b", stdin="n\n", status=1).output
    output = run("restore", "b", "--yes").stdout
    assert "1 message, 1 account." in output and "The old storage is in" in output
    assert "1 entry of the queue held" in output
    assert "held since a restore" in run("queue", "list").stdout
    assert run("queue", "release", "--error", "held since a restore").stdout == "1 entry was released.\n"
    assert "no problems" in run("storage", "check").stdout


def test_a_new_host_with_another_name_needs_no_confirmation(
    run: Run, config: Path, message: TraceId, tmp_path: Path
) -> None:
    run("backup", "b")
    run("init", "new", "--domain", "example.org", "--hostname", "other.example.org")
    found = json.loads(run("restore", "b", "--config", "new/waypost.toml", "--json").stdout)
    assert found["messages"] == 1 and found["lost"] is None
    assert "bob@example.org" in run("account", "list", "--config", "new/waypost.toml").stdout


@pytest.mark.skipif(os.geteuid() != 0, reason="only root gives files to another user")
def test_what_root_restores_belongs_to_the_services_user(
    run: Run, config: Path, message: TraceId, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(privileges, "service_identity", service_identity)
    run("backup", "b")
    data = tmp_path / "new/data"
    run("init", "new", "--domain", "example.org", "--hostname", "other.example.org")
    other = pwd.getpwnam("daemon")
    os.chown(data, other.pw_uid, other.pw_gid)
    run("restore", "b", "--config", "new/waypost.toml")
    owners = {path.stat().st_uid for path in (data, *data.rglob("*"))}
    assert owners == {other.pw_uid}


def test_damage_ends_with_1_and_names_the_message(run: Run, config: Path, message: TraceId) -> None:
    run("backup", "b")
    (segment,) = Path("b/segments").iterdir()
    segment.write_bytes(segment.read_bytes().replace(b"precious", b"Precious"))
    name = format_trace_id(message)
    output = run("backup", "verify", "b", status=1).stdout
    assert f"message {name} in segment 1 holds other octets than were stored" in output
    found = json.loads(run("backup", "verify", "b", "--json", status=1).stdout)
    assert [each["trace"] for each in found["backups"][0]["damaged"]] == [name]
    assert name in run("restore", "b", "--yes", status=1).output
    assert "1 message is not whole" in run("restore", "b", "--yes", "--despite-damage").stdout


def test_what_is_no_backup_is_said(run: Run, config: Path, message: TraceId) -> None:
    assert "holds no backups" in run("backup", "verify", "nowhere", status=1).output
    assert "holds no backups" in run("backup", "list", "nowhere", status=1).output
    assert "holds neither backups nor" in run("restore", "nowhere", "--yes", status=1).output
    run("backup", "b")
    assert "has no backup x; it has 20" in run("restore", "b", "--backup", "x", "--yes", status=1).output
    for manifest in Path("b/databases").glob("*.json"):
        manifest.unlink()
    Path("b/waypost-backup.json").write_text("{}x")
    assert "can't be read, and there is no whole backup" in run("backup", "b", status=1).output


@pytest.mark.parametrize("left", [b"", b"{}x", None], ids=["empty", "damaged", "missing"])
def test_a_folder_that_was_copied_without_its_label_is_listed_restored_and_gone_on_with_and_verify_says_so(
    run: Run, config: Path, message: TraceId, left: bytes | None
) -> None:
    run("backup", "b")
    label = Path("b/waypost-backup.json")
    for command in (("backup", "list"), ("backup", "verify"), ("restore", "--yes"), ("backup", "--keep", "2")):
        label.unlink(missing_ok=True)
        if left is not None:
            label.write_bytes(left)
        output = run(*command, "b", status=int("verify" in command)).output
        assert ("waypost-backup.json" in output) is ("verify" in command)
    assert json.loads(label.read_bytes())["format"] == 1
    assert len(json.loads(run("backup", "list", "b", "--json").stdout)) == 2


def test_another_storage_does_not_go_on_with_a_folder_without_its_label(
    run: Run, config: Path, message: TraceId
) -> None:
    run("backup", "b")
    Path("b/waypost-backup.json").unlink()
    run("init", "new", "--domain", "example.net", "--hostname", "mx.example.net")
    run(
        "account",
        "add",
        "carol@example.net",
        "--password-stdin",
        "--config",
        "new/waypost.toml",
        stdin="a long secret\n",
    )
    said = run("backup", "b", "--config", "new/waypost.toml", status=1).output
    assert "holds the backups of another storage" in said


@pytest.mark.parametrize("damage", ["short", "missing", "garbage", "a segment"])
def test_a_restore_of_what_was_copied_in_part_names_the_backups_before_it(
    run: Run, config: Path, message: TraceId, damage: str
) -> None:
    for _ in range(3):
        run("backup", "--keep", "3", "b")
    *before, newest = [each["backup"] for each in json.loads(run("backup", "list", "b", "--json").stdout)]
    database = Path(f"b/databases/{newest}.db")
    data = (config.parent / "data" / DATABASE).read_bytes()
    if damage == "short":
        os.truncate(database, database.stat().st_size // 2)
    elif damage == "missing":
        database.unlink()
    elif damage == "garbage":
        database.write_bytes(b"not a database" * 5000)
    else:
        for segment in Path("b/segments").iterdir():
            os.truncate(segment, segment.stat().st_size - 1)
    said = run("restore", "--yes", "b", status=1).output
    assert "nothing was changed" in said and f"--backup {before[-1]} ({before[0]})" in said
    assert (config.parent / "data" / DATABASE).read_bytes() == data
    if damage != "a segment":
        assert f"Restored {before[-1]}" in run("restore", "--yes", "--backup", before[-1], "b").stdout


def test_a_host_without_a_database_says_so(run: Run, config: Path) -> None:
    assert "there is no database to back up" in run("backup", "b", status=1).output
    assert not Path("b").exists()


def test_a_directory_that_is_refused_is_accepted_when_its_operator_says_so(
    run: Run, config: Path, message: TraceId
) -> None:
    data = config.parent / "data"
    assert "Nothing is wrong with it." in run("storage", "accept", "--yes").stdout
    for path in data.glob(f"{DATABASE}*"):
        path.unlink()
    (segment,) = (data / "segments").iterdir()
    octets = segment.read_bytes()
    for command in (("status",), ("storage", "check"), ("queue", "list"), ("account", "list")):
        output = run(*command, status=1).output
        assert "waypost.db is missing" in output and "waypost restore DIR" in output
    assert "nothing was done" in run("storage", "accept", stdin="n\n", status=1).output
    assert "Accepted" in run("storage", "accept", "--yes").stdout
    assert run("account", "list").stdout.count("example.org") == 0
    (kept,) = (data / "lost").rglob("*.seg")
    assert kept.read_bytes() == octets


def test_a_directory_that_a_link_leads_to_is_as_good_as_any(run: Run, config: Path, message: TraceId) -> None:
    Path("real").mkdir()
    Path("b").symlink_to("real")
    assert "Verified." in run("backup", "b").stdout
    assert "whole" in run("backup", "verify", "b").stdout
    assert "Restored" in run("restore", "b", "--yes").stdout


@pytest.mark.parametrize("command", [("backup",), ("backup", "verify"), ("restore", "--yes"), ("storage", "recover")])
@pytest.mark.parametrize(
    ("path", "words"),
    [
        ("loop", "is a symbolic link that leads nowhere"),
        ("dangling", "is a symbolic link that leads nowhere"),
        ("file", "is a file; a directory is needed there"),
        ("file/b", "is a file; a directory is needed there"),
        ("pipe", "is a file; a directory is needed there"),
    ],
)
def test_what_is_no_directory_is_said_in_one_line(
    run: Run, config: Path, message: TraceId, command: tuple[str, ...], path: str, words: str
) -> None:
    Path("loop").symlink_to("loop")
    Path("dangling").symlink_to("nowhere")
    Path("file").touch()
    os.mkfifo("pipe")
    said = run(*command, path, status=1).output
    assert words in said and said.startswith("waypost: ") and said.count("\n") == 1


def test_a_mounted_disk_that_is_empty_takes_backups(run: Run, config: Path, message: TraceId) -> None:
    Path("disk/lost+found").mkdir(parents=True)
    assert "Verified." in run("backup", "disk").stdout
    assert "note" not in run("backup", "verify", "disk").stdout


@pytest.mark.parametrize("changing", [False, True])
def test_a_restore_that_was_killed_says_whether_anything_was_changed(
    run: Run, config: Path, message: TraceId, changing: bool
) -> None:
    run("backup", "b")
    left = config.parent / "data/restoring"
    left.mkdir()
    if changing:
        (left / "changing").touch()
    said = run("queue", "list", status=1).output
    assert "a restore was broken off: run `waypost restore DIR` again" in said
    assert ("nothing was changed before: `waypost storage accept` goes on" in said) is not changing
    if not changing:
        run("storage", "accept", "--yes")
        assert "carol@elsewhere.test" in run("queue", "list").stdout
    else:
        assert "Restored" in run("restore", "b", "--yes").stdout
