"""`waypost init` for a beginner: wrong answers are asked again, nothing is half made, and it can be run again."""

import errno
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner
from tests.cli.conftest import Run
from tests.cli.dialogue import CTRL_C, CTRL_D, dialogue, root_questions

from waypost.cli import program
from waypost.cli.init.answers import directory_problem
from waypost.cli.init.first_account import write_password
from waypost.config.load import load

NAMES = ("--domain", "example.org", "--hostname", "mx.example.org")
DIRECTORY = b"Directory for configuration and data [/etc/waypost]: "
DATA = (b"the data directory", b"n")
ACCOUNT = b"Address of the first account ('-' for none) [postmaster@example.org]: "
PASSWORD = b"Its password (empty: generate one): "


def files_of(folder: Path) -> dict[str, bytes]:
    return {str(each.relative_to(folder)): each.read_bytes() for each in folder.rglob("*") if each.is_file()}


def test_an_answer_that_can_not_be_used_is_told_why_and_asked_again(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    status, shown = dialogue(
        ["init", "--system-root", str(tmp_path)],
        [
            (DIRECTORY, str(tmp_path / "file").encode()),
            (DIRECTORY, str(tmp_path / "file" / "below").encode()),
            (DIRECTORY, str(tmp_path / "host").encode()),
            (b"Full name of this host", b"mx.example.org."),
            (b"Full name of this host", b"mx.example.org"),
            (b"Domain whose mailboxes are here", b"alice@example.org"),
            (b"Domain whose mailboxes are here", b""),
            *root_questions(DATA),
            (ACCOUNT, b"alice"),
            (ACCOUNT, b"alice@else.example"),
            (ACCOUNT, b"alice@example.org"),
            (PASSWORD, b"short"),
            (PASSWORD, b"a white rabbit"),
            (b"The same again: ", b"a white habbit"),
            (PASSWORD, b"a white rabbit"),
            (b"The same again: ", b"a white rabbit"),
        ],
    )
    assert status == 0, shown
    for words in (
        f"Error: {tmp_path}/file is a file; a directory is needed there",
        "Error: not a host name (it ends with a dot)",
        "Error: not a domain name ('@' can't stand in it)",
        "Error: alice: there is no @ with a domain; write for example alice@example.org",
        "Error: else.example is not hosted here; the hosted domains are: example.org",
        "the password has 5 characters; it needs at least 8; please try another",
        "the two entries are not the same; please try again",
        "Made:    the account alice@example.org",
    ):
        assert words in shown
    assert shown.count("is a file; a directory is needed there") == 2


def test_a_tilde_is_the_home_of_the_user(tmp_path: Path) -> None:
    status, shown = dialogue(
        ["init", *NAMES, "--system-root", str(tmp_path)],
        [(DIRECTORY, b"~/mail"), *root_questions(DATA), (ACCOUNT, b"-")],
        home=tmp_path,
    )
    assert status == 0, shown
    assert (tmp_path / "mail" / "waypost.toml").exists() and not (tmp_path / "~").exists()


def test_before_anything_is_made_ctrl_c_says_so(tmp_path: Path) -> None:
    status, shown = dialogue(["init", str(tmp_path / "host")], [(b"Full name of this host", CTRL_C)])
    assert status == 1 and shown.endswith("waypost: stopped; nothing was made\r\n")
    assert not (tmp_path / "host").exists()


@pytest.mark.parametrize("key", [CTRL_C, CTRL_D])
@pytest.mark.parametrize("question", [ACCOUNT, PASSWORD, b"The same again: "])
def test_stopped_in_the_middle_it_says_how_to_go_on_and_goes_on(question: bytes, key: bytes, tmp_path: Path) -> None:
    answers = [(ACCOUNT, b"alice@example.org"), (PASSWORD, b"a white rabbit"), (b"The same again: ", b"a white rabbit")]
    upto = [asked for asked, _ in answers].index(question)
    arguments = ["init", str(tmp_path / "host"), *NAMES, "--system-root", str(tmp_path)]
    status, shown = dialogue(arguments, [*root_questions(DATA), *answers[:upto], (question, key)])
    words = f"-m waypost init {tmp_path}/host"
    assert status == 1 and "waypost: stopped; what was made stays. To go on: " in shown and words in shown
    before = files_of(tmp_path / "host" / "tls")
    status, shown = dialogue(arguments, [(b"Replace it? [y/N]: ", b""), *root_questions(DATA), *answers])
    assert status == 0 and "Made:    the account alice@example.org" in shown
    assert files_of(tmp_path / "host" / "tls") == before


@pytest.mark.parametrize("no", [b"n", b"no", b"-"])
def test_with_no_to_each_question_it_prints_the_records_of_all_domains(no: bytes, tmp_path: Path) -> None:
    host = tmp_path / "host"
    arguments = ["init", str(host), "--system-root", str(tmp_path)]
    subprocess.run(
        [
            sys.executable,
            "-m",
            "waypost",
            *arguments,
            *NAMES,
            "--account",
            "alice@example.org",
            "--domain",
            "else.example",
        ],
        check=True,
        capture_output=True,
    )
    before = files_of(host / "tls") | {"waypost.toml": (host / "waypost.toml").read_bytes()}
    account = b"Address of the first account ('-' for none) [alice@example.org]: "
    answers = [(b"Replace it? [y/N]: ", b"n"), *root_questions(DATA), (account, no)]
    status, shown = dialogue(arguments, answers)
    assert status == 0, shown
    assert "else.example.    MX    10 mx.example.org." in shown
    assert "account add" not in shown, "there is one"
    assert files_of(host / "tls") | {"waypost.toml": (host / "waypost.toml").read_bytes()} == before


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--account", "alice"], "alice: there is no @ with a domain"),
        (["--account", "@example.org"], "@example.org: "),
        (["--account", "alice@else.example"], "else.example is not hosted here; the hosted domains are: example.org"),
        (["--account", "a@example.org", "--password-stdin"], "the password has 5 characters; it needs at least 8"),
        (["--start"], "--start: it needs root, a running systemd and the unit"),
        (["--unit"], "--unit: it needs root, and /etc/systemd/system"),
        (["--user", "root"], "--user: "),
        (["--user", "Bad:Name"], "--user: "),
    ],
)
def test_an_option_that_can_not_be_done_is_refused_before_anything_is_made(
    options: list[str], words: str, tmp_path: Path, run: Run
) -> None:
    arguments = ["init", str(tmp_path / "host"), *NAMES, "--system-root", str(tmp_path), *options]
    result = run(*arguments, stdin="short\n", status=1)
    assert words in result.stderr and result.stdout == ""
    assert list(tmp_path.iterdir()) == []


def test_a_password_that_is_not_text_is_refused_in_one_line(tmp_path: Path, run: Run) -> None:
    options = ["--account", "alice@example.org", "--password-stdin"]
    result = run("init", str(tmp_path / "host"), *NAMES, *options, stdin=b"\xff\xfe\xfd12345678\n", status=1)
    assert result.stderr == "waypost: the password is not UTF-8\n" and list(tmp_path.iterdir()) == []


def test_a_password_for_nobody_is_wrong_usage(tmp_path: Path, run: Run) -> None:
    result = run("init", str(tmp_path / "host"), *NAMES, "--password-stdin", stdin="a white rabbit\n", status=2)
    assert "--password-stdin needs --account" in result.stderr and list(tmp_path.iterdir()) == []


def test_without_names_the_configuration_that_exists_is_kept_and_the_steps_are_taken(tmp_path: Path, run: Run) -> None:
    run("init", str(tmp_path), *NAMES)
    before = (tmp_path / "waypost.toml").read_bytes()
    result = run("init", str(tmp_path), "--account", "alice@example.org")
    assert (
        "Made:    the account alice@example.org" in result.output
        and "Written: " + str(tmp_path / "w") not in result.output
    )
    assert (tmp_path / "waypost.toml").read_bytes() == before
    assert "else.example is not hosted" in run("init", str(tmp_path), "--account", "a@else.example", status=1).stderr


def test_the_configuration_that_is_replaced_is_kept_beside_the_new_one(tmp_path: Path, run: Run) -> None:
    run("init", str(tmp_path), *NAMES)
    config = tmp_path / "waypost.toml"
    config.write_text(config.read_text() + "# my routes\n")
    config.chmod(0o600)
    result = run("init", str(tmp_path), "--domain", "example.net", "--hostname", "mx.example.org", "--force")
    assert f"Written: {config} (the one before is kept as waypost.toml.old)\n" in result.output
    assert f"Kept:    {tmp_path}/data\n" in result.output
    aside = tmp_path / "waypost.toml.old"
    assert aside.read_text().endswith("# my routes\n") and aside.stat().st_mode & 0o777 == 0o600
    assert load(config).domains == ("example.net",)


@pytest.mark.parametrize("name", ["data", "tls"])
def test_a_file_where_a_directory_belongs_is_named(name: str, tmp_path: Path, run: Run) -> None:
    (tmp_path / name).write_text("")
    result = run("init", str(tmp_path), *NAMES, status=1)
    assert result.stderr == f"waypost: {tmp_path}/{name} is a file; a directory is needed there\n"


def test_only_a_self_signed_certificate_is_called_one(
    tmp_path: Path, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert (
        f"The certificate is self-signed: replace {tmp_path}/tls/cert.pem" in run("init", str(tmp_path), *NAMES).output
    )
    for name in ("cert.pem", "key.pem"):
        shutil.copy(tmp_path / "tls" / name, tmp_path / name)
    monkeypatch.setattr("waypost.service.machine.certificates.Pair.self_signed", False, raising=False)
    (tmp_path / "tls" / "cert.pem").unlink()
    assert "self-signed" not in run("init", str(tmp_path)).output


@pytest.fixture
def locked() -> Iterator[Path]:
    """A directory that the user of the test may not enter; as root the test goes on as nobody."""
    folder = Path(tempfile.mkdtemp(dir="/tmp"))
    (folder / "locked" / "host").mkdir(parents=True)
    (folder / "open").mkdir(mode=0o555)
    folder.chmod(0o755)
    (folder / "locked").chmod(0o000)
    root = os.geteuid() == 0
    if root:
        os.seteuid(65534)
    yield folder
    if root:
        os.seteuid(0)
    (folder / "locked").chmod(0o700)
    shutil.rmtree(folder)


def test_a_place_that_this_user_may_not_use_is_named_before_the_other_questions(locked: Path, run: Run) -> None:
    for place, named, words in (
        (locked / "locked" / "host", locked / "locked" / "host", "Permission denied"),
        (locked / "locked", locked / "locked", "may not enter it; run it as root, or choose another directory"),
        (locked / "open" / "a" / "b", locked / "open", "may not write there; run it as root"),
        (Path("/etc/waypost-of-nobody"), Path("/etc"), "may not write there; run it as root"),
    ):
        problem = directory_problem(place)
        assert problem is not None and problem.startswith(f"{named}: ") and words in problem
    assert directory_problem(Path("/tmp")) is None


@pytest.mark.parametrize("umask", [0o077, 0o027])
def test_whatever_the_umask_the_workers_may_enter_the_folders_above_the_data(
    tmp_path: Path, run: Run, umask: int
) -> None:
    before = os.umask(umask)
    try:
        run("init", str(tmp_path / "above" / "host"), *NAMES)
    finally:
        os.umask(before)
    for folder in (tmp_path / "above", tmp_path / "above" / "host"):
        assert folder.stat().st_mode & 0o777 == 0o755
    assert (tmp_path / "above" / "host" / "data").stat().st_mode & 0o777 == 0o700
    assert (tmp_path / "above" / "host" / "tls" / "key.pem").stat().st_mode & 0o777 == 0o600


def test_a_folder_that_exists_keeps_its_mode(tmp_path: Path, run: Run) -> None:
    (tmp_path / "host").mkdir(mode=0o700)
    run("init", str(tmp_path / "host"), *NAMES)
    assert (tmp_path / "host").stat().st_mode & 0o777 == 0o700


def test_on_a_full_disk_the_file_is_named_and_the_next_try_makes_a_whole_host(
    tmp_path: Path, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    flush = os.fsync
    left = 0

    def full(descriptor: int) -> None:
        nonlocal left
        left -= 1
        if left == 0:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        flush(descriptor)

    failures = 0
    for left_at_first in range(1, 30):
        place = tmp_path / str(left_at_first)
        left = left_at_first
        monkeypatch.setattr(os, "fsync", full)
        result = CliRunner().invoke(program, ["init", str(place), *NAMES], prog_name="waypost")
        monkeypatch.undo()
        if result.exit_code == 0:
            break
        failures += 1
        assert result.stderr.startswith(f"waypost: {place}") and "No space left on device" in result.stderr
        assert not [each.name for each in place.rglob("*") if each.suffix == ".new"]
        run("init", str(place), *NAMES)
        assert "no errors" in run("check", "--config", str(place / "waypost.toml")).stdout
    assert failures > 5


def test_a_full_disk_leaves_no_empty_file_for_the_password(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError) as caught:
        write_password(tmp_path, "alice@example.org", "secret words")
    assert caught.value.filename == str(tmp_path / "password-of-alice@example.org")
    assert list(tmp_path.iterdir()) == []


def test_a_place_for_the_password_that_is_taken_is_refused_before_anything_is_made(tmp_path: Path, run: Run) -> None:
    taken = tmp_path / "password-of-alice@example.org"
    taken.write_text("mine")
    result = run("init", str(tmp_path), *NAMES, "--account", "alice@example.org", status=1)
    assert f"{taken} exists already; remove it, or use --password-stdin" in result.stderr
    assert list(tmp_path.iterdir()) == [taken] and taken.read_text() == "mine"


def test_a_read_only_file_system_is_called_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    state = list(os.statvfs(tmp_path))
    state[8] |= os.ST_RDONLY
    monkeypatch.setattr(os, "statvfs", lambda _: os.statvfs_result(state))
    assert directory_problem(tmp_path / "host") == f"{tmp_path}: the file system is mounted read-only"
    (tmp_path / "waypost.toml").touch()  # what is there can be looked at
    assert directory_problem(tmp_path) is None


@pytest.mark.parametrize("command", [("init", *NAMES, ""), ("backup", ""), ("backup", "verify", ""), ("restore", "")])
def test_an_empty_name_is_not_the_folder_one_is_in(
    tmp_path: Path, run: Run, monkeypatch: pytest.MonkeyPatch, command: tuple[str, ...]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert "it is empty; name a directory" in run(*command, status=2).stderr
    assert list(tmp_path.iterdir()) == []
