"""A data directory that this process can't use: what it is told to do depends on whose the directory is."""

import os
from pathlib import Path

import pytest

from waypost.disk import ownership
from waypost.disk.ownership import forbidden, whose


def test_in_our_own_directory_what_a_stranger_owns_is_to_be_given_to_us(tmp_path: Path) -> None:
    me = ownership.user_name(os.geteuid())
    assert whose(tmp_path / "waypost.db", tmp_path).endswith(f"this process is {me}: chown -R {me}: {tmp_path}")


@pytest.mark.parametrize("name", ["waypost.db", "."])
def test_in_the_directory_of_another_user_only_the_user_of_the_service_is_to_own_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: tmp_path.stat().st_uid + 1)
    who = ownership.user_name(tmp_path.stat().st_uid + 1)
    words = whose(tmp_path / name, tmp_path)
    assert ": run this as root, or if the service is to run as " in words and f"chown -R {who}: {tmp_path}" in words


@pytest.mark.parametrize("call", ["access", "statvfs"])
def test_a_file_that_vanishes_while_it_is_looked_at_is_not_forbidden(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: str
) -> None:
    """The last process that closes a database removes its log; others that start meanwhile must not give up."""
    log, mine = tmp_path / "waypost.db-wal", tmp_path / "waypost.db"
    log.touch()
    mine.touch()
    real = getattr(os, call)

    def removed_before(path: Path, *more: object, **named: object) -> object:
        if path == log:
            log.unlink(missing_ok=True)
        return real(path, *more, **named)

    monkeypatch.setattr(os, call, removed_before)
    assert forbidden([log, mine]) is None
    assert not log.exists()


def test_what_this_process_can_not_use_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    mine, other = tmp_path / "mine", tmp_path / "other"
    mine.touch()
    other.touch()
    monkeypatch.setattr(os, "access", lambda path, *more, **named: path != other)
    assert forbidden([tmp_path / "missing", mine, other]) == other


def test_a_mode_that_shuts_its_own_owner_out_is_mended_by_a_mode(tmp_path: Path) -> None:
    mine = tmp_path / "waypost.db"
    mine.touch(mode=0)
    words = whose(mine, tmp_path)
    assert "(mode 000)" in words and words.endswith(f"which can't use it: chmod -R u+rwX {tmp_path}")
