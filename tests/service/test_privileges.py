"""Who the workers become, whose the data directory is, and that nothing is left of root."""

import errno
import os
import pwd
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from waypost.service.machine.problems import SetupProblem
from waypost.service.processes import privileges
from waypost.service.processes.privileges import Identity, own_data, raise_file_limit, service_identity

as_root = pytest.mark.skipif(os.geteuid() != 0, reason="becomes and makes other users' files, which needs root")
NOBODY = pwd.getpwnam("nobody")
SOMEBODY = Identity("somebody", 54321, 54321)


@pytest.fixture
def open_path(tmp_path: Path) -> Iterator[Path]:
    """A folder that every user can enter."""
    if os.geteuid() == 0:
        for folder in (tmp_path, *tmp_path.parents):
            if not folder.stat().st_mode & 0o001:
                folder.chmod(folder.stat().st_mode | 0o011)
    yield tmp_path


@pytest.fixture
def pretend_root(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(privileges.os, "geteuid", lambda: 0)


def test_without_root_nobody_becomes_anybody(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(privileges.os, "geteuid", lambda: 1000)
    assert service_identity("nobody", tmp_path) is None


@pytest.mark.usefixtures("pretend_root")
def test_the_user_of_the_configuration_comes_first(tmp_path: Path) -> None:
    identity = service_identity("nobody", tmp_path)
    assert identity is not None
    assert (identity.name, identity.uid, identity.gid) == ("nobody", NOBODY.pw_uid, NOBODY.pw_gid)


@as_root
def test_else_the_owner_of_the_data_directory(tmp_path: Path) -> None:
    os.chown(tmp_path, 54321, 12345)
    assert service_identity(None, tmp_path) == Identity("54321", 54321, 12345)


@pytest.mark.usefixtures("pretend_root")
@pytest.mark.parametrize(("users", "expected"), [({"waypost", "nobody"}, "waypost"), ({"nobody"}, "nobody")])
def test_else_waypost_else_nobody(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, users: set[str], expected: str
) -> None:
    def getpwnam(name: str) -> pwd.struct_passwd:
        if name not in users:
            raise KeyError(name)
        return pwd.struct_passwd((name, "x", 54321, 54321, "", "/", "/bin/false"))

    monkeypatch.setattr(privileges.pwd, "getpwnam", getpwnam)
    identity = service_identity(None, tmp_path / "nothing-yet")
    assert identity is not None
    assert identity.name == expected


@pytest.mark.usefixtures("pretend_root")
@pytest.mark.parametrize(("user", "words"), [("root", "root is root"), ("no-such-user-here", "useradd --system")])
def test_a_user_that_will_not_do_is_refused(tmp_path: Path, user: str, words: str) -> None:
    with pytest.raises(SetupProblem, match=words):
        service_identity(user, tmp_path)


def test_the_data_directory_is_made_for_one_pair_of_eyes(tmp_path: Path) -> None:
    own_data(tmp_path / "a/data", None)
    assert (tmp_path / "a/data").stat().st_mode & 0o777 == 0o700


@as_root
def test_what_root_made_is_handed_over_and_links_are_not_followed(open_path: Path) -> None:
    precious = open_path / "precious"
    precious.write_text("")
    data = open_path / "data"
    (data / "segments").mkdir(parents=True)
    (data / "segments/1.seg").write_text("")
    (data / "link").symlink_to(precious)
    own_data(data, SOMEBODY)
    for path in (data, data / "segments", data / "segments/1.seg"):
        assert (path.stat().st_uid, path.stat().st_gid) == (54321, 54321)
    assert precious.stat().st_uid == 0


@as_root
def test_what_is_theirs_already_is_left_alone(open_path: Path) -> None:
    data = open_path / "data"
    data.mkdir()
    os.chown(data, 54321, 54321)
    (data / "of-root").write_text("")
    own_data(data, SOMEBODY)
    assert (data / "of-root").stat().st_uid == 0


@as_root
def test_a_handing_over_that_was_broken_off_is_taken_up_again(open_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data = open_path / "data"
    (data / "segments").mkdir(parents=True)
    (data / "segments/1").write_text("x")
    chown, calls = os.chown, []

    def dies(*arguments: Any, **named: Any) -> None:
        calls.append(arguments)
        if len(calls) == 2:
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        chown(*arguments, **named)

    with monkeypatch.context() as broken, pytest.raises(SetupProblem):
        broken.setattr(os, "chown", dies)
        own_data(data, SOMEBODY)
    own_data(data, SOMEBODY)
    assert {path.stat().st_uid for path in (data, *data.rglob("*"))} == {SOMEBODY.uid}


@as_root
def test_a_folder_that_can_not_be_entered_is_named(open_path: Path) -> None:
    closed = open_path / "closed"
    closed.mkdir(mode=0o700)
    with pytest.raises(SetupProblem, match=f"somebody can't enter {closed}"):
        own_data(closed / "data", SOMEBODY)
    os.chown(closed, 0, 54321)
    closed.chmod(0o710)
    own_data(closed / "data", SOMEBODY)


@as_root
def test_nothing_is_left_of_root() -> None:
    program = (
        "import os, sys; from waypost.service.processes.privileges import *; "
        "become(Identity('x', 54321, 54321, (54322,)));"
        "harden(); print(open('/proc/self/status').read());"
        "print('kept' if os.access('/proc/self/fd', os.R_OK) and os.listdir('/proc/self/fd') else 'lost')\n"
        "try: os.setuid(0)\n"
        "except PermissionError: print('gone')"
    )
    out = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout
    status = dict(line.split(":\t", 1) for line in out.splitlines() if ":\t" in line)
    assert set(status["Uid"].split()) == set(status["Gid"].split()) == {"54321"}
    assert status["Groups"].split() == ["54322"]
    assert int(status["CapPrm"], 16) == 0
    assert status["NoNewPrivs"] == "1"
    assert out.endswith("kept\ngone\n")  # its own descriptors are what the bus and TLS need


def test_the_limit_of_files_is_the_hard_one() -> None:
    program = (
        "import resource; from waypost.service.processes.privileges import *; raise_file_limit();"
        "soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE); print(soft == hard)"
    )
    out = subprocess.run(
        ["sh", "-c", 'ulimit -Sn 128; exec "$0" -c "$1"', sys.executable, program],
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    assert out == "True\n"
    assert raise_file_limit() > 0
