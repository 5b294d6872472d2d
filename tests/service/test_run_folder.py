"""One service a data directory, one process a number; and root follows no link in a folder that is not its own."""

import json
import os
from pathlib import Path

import pytest

from waypost.service.machine.problems import SetupProblem
from waypost.service.processes.run_folder import RunFolder


def test_a_second_service_is_refused_until_the_first_is_gone(tmp_path: Path) -> None:
    first, second = RunFolder(tmp_path), RunFolder(tmp_path)
    first.lock_service()
    first.write({"pid": 4711})
    with pytest.raises(SetupProblem, match="process 4711 serves it already"):
        second.lock_service()
    first.close()
    second.lock_service()
    second.close()


def test_numbers_are_unique_while_their_holders_live(tmp_path: Path) -> None:
    folders = [RunFolder(tmp_path) for _ in range(3)]
    assert [folder.take_number() for folder in folders] == [0, 1, 2]
    folders[1].close()
    again = RunFolder(tmp_path)
    assert again.take_number() == 1
    for folder in (folders[0], folders[2], again):
        folder.close()


def test_one_process_keeps_the_house(tmp_path: Path) -> None:
    one, two = RunFolder(tmp_path), RunFolder(tmp_path)
    assert one.take_maintenance()
    assert not two.take_maintenance()
    one.close()
    assert two.take_maintenance()
    two.close()


def test_the_state_is_replaced_as_a_whole_and_forgotten(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path)
    for generation in (1, 2):
        folder.write({"generation": generation})
        assert json.loads((tmp_path / "run/service.json").read_text()) == {"generation": generation}
    folder.forget()
    folder.forget()
    assert not (tmp_path / "run/service.json").exists()
    folder.close()


def test_the_login_secret_is_made_once(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path)
    secret = folder.login_secret()
    assert len(secret) == 32
    assert folder.login_secret() == secret
    assert (tmp_path / "run/login.secret").stat().st_mode & 0o777 == 0o600
    (tmp_path / "run/login.secret").write_bytes(b"short")
    assert len(folder.login_secret()) == 32
    folder.close()


def test_the_login_secret_is_durable_before_it_is_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    synced: list[bytes] = []
    monkeypatch.setattr(os, "fsync", lambda fd: synced.append((tmp_path / "run/login.secret").read_bytes()))
    folder = RunFolder(tmp_path)
    secret = folder.login_secret()
    assert synced == [secret, secret], "the file, then its name"
    folder.close()


def test_links_are_not_followed(tmp_path: Path) -> None:
    precious = tmp_path / "precious"
    precious.write_text("precious")
    data = tmp_path / "data"
    data.mkdir()
    (data / "run").symlink_to(tmp_path)
    with pytest.raises(SetupProblem):
        RunFolder(data)
    (data / "run").unlink()
    folder = RunFolder(data)
    for name in ("service.json", "service.json.new", "service.lock", "login.secret"):
        (data / "run" / name).symlink_to(precious)
    folder.write({"pid": 1})
    for refused in (folder.lock_service, folder.login_secret):
        with pytest.raises(SetupProblem):
            refused()
    assert precious.read_text() == "precious"
    assert not (data / "run/service.json").is_symlink()
    folder.close()


def test_a_folder_that_is_replaced_later_is_not_written_to(tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    folder = RunFolder(tmp_path)
    (tmp_path / "run").rename(tmp_path / "old")
    (tmp_path / "run").symlink_to(elsewhere)
    folder.write({"pid": 1})
    assert os.listdir(elsewhere) == []
    assert (tmp_path / "old/service.json").exists()
    folder.close()


def test_a_disk_that_takes_no_state_is_no_end(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    folder = RunFolder(tmp_path)
    (tmp_path / "run/service.json").mkdir()
    folder.write({"pid": 1})
    assert [record.getMessage() for record in caplog.records] == ["state not written"]
    folder.close()


def test_no_data_directory_is_said_by_name(tmp_path: Path) -> None:
    with pytest.raises(SetupProblem, match="nowhere/run"):
        RunFolder(tmp_path / "nowhere")
