"""What people and scripts hand over by mistake: each is answered with what was wrong, and nothing is done."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from tests.cli.conftest import Run

OCTET = os.fsdecode(b"\xff")
NOT_TEXT = [
    "account add a?@example.org",
    "account passwd a?@example.org",
    "alias add a?@example.org b@example.org",
    "alias add a@example.org b?@example.org",
    "alias add a@example.org b@?.example",
    "alias remove a?@example.org",
    "queue list --sender a?@example.org",
    "queue list --sender @?.example",
    "queue list --domain ?.example",
    "queue list --error ?",
    "queue hold --dry-run --error=?",
    "queue return --all --yes --reason ?",
    "queue list ?",
    "trace ?",
    "trace <a?@b.example>",
    "session end --account a?@example.org",
    "session end ?",
    "settings a?@example.org",
    "init new --domain ?.example --hostname mx.example.org",
    "init new --domain example.org --hostname mx.example.org --account a?@example.org",
    "init n?w --domain example.org --hostname mx.example.org",
    "backup b?",
    "storage recover r?",
    "restore b?",
    "check --config c?",
    "send --via smtp://127.0.0.1:9 --from a@b.example --to c@d.example --subject ? hi",
    "send --via smtp://127.0.0.1:9 --from a@b.example --to c@d.example --header X-A:? hi",
    "send --via smtp://127.0.0.1:9 --from a@b.example --to c@d.example ?",
    "?",
    "queue ?",
]


@pytest.mark.parametrize("command", NOT_TEXT)
def test_an_argument_that_is_not_text_is_wrong_usage(config: Path, run: Run, tmp_path: Path, command: str) -> None:
    before = set(tmp_path.iterdir())
    result = run(*(word.replace("?", OCTET) for word in command.split()), status=2)
    assert "\nError: " in result.stderr and "surrogates" not in result.stderr
    assert set(tmp_path.iterdir()) == before


def test_a_file_to_attach_may_have_any_name(run: Run, tmp_path: Path) -> None:
    name = tmp_path / f"b{OCTET}"
    mail = ["--via", "smtp://127.0.0.1:9", "--from", "a@b.example", "--to", "c@d.example", "hi"]
    assert "b\\udcff: No such file" in run("send", "--attach", str(name), *mail, status=1).stderr


@pytest.mark.parametrize(
    ("command", "words"),
    [
        (["queue", "hold", "--error", ""], "--error"),
        (["queue", "delete", "--yes", "--error", ""], "--error"),
        (["queue", "hold", "--domain", ""], "--domain"),
        (["queue", "hold", "--domain", "a b"], "--domain"),
        (["queue", "hold", "--domain", "a..b"], "--domain"),
        (["queue", "hold", "--sender", ""], "--sender"),
        (["queue", "return", "--all", "--yes", "--reason", ""], "--reason"),
        (["queue", "return", "--all", "--yes", "--reason", " "], "--reason"),
        (["trace", ""], "name a trace id or a Message-ID"),
        (["trace", " "], "name a trace id or a Message-ID"),
        (["check", "--config", ""], "it is empty; name a file"),
        (["backup", ""], "it is empty; name a directory"),
        (["init", ""], "it is empty; name a directory"),
    ],
)
def test_a_variable_that_a_script_forgot_to_set_chooses_nothing(
    config: Path, run: Run, command: list[str], words: str
) -> None:
    assert words in run(*command, status=2).stderr


@pytest.mark.parametrize(
    "domain", ["[local]", "[192.0.2.1]", "[IPv6:2001:db8::1]", "b\u00fccher.example", "a_b.example"]
)
def test_the_queue_may_be_asked_for_every_destination_that_it_can_have(config: Path, run: Run, domain: str) -> None:
    assert run("queue", "list", "--domain", domain).stdout == "No entry matches.\n"


@pytest.mark.parametrize(
    ("word", "instead"),
    [
        ("start", "systemctl start waypost"),
        ("stop", "systemctl stop waypost"),
        ("restart", "waypost reload"),
        ("log", "journalctl -u waypost"),
        ("user", "waypost account"),
        ("help", "waypost --help"),
        ("list", "waypost account list"),
    ],
)
def test_a_word_that_people_try_as_a_command_is_answered_with_what_is_meant(run: Run, word: str, instead: str) -> None:
    result = run(word, status=2)
    assert instead in result.stderr and "Did you mean" not in result.stderr


def test_an_account_that_exists_is_told_before_its_password_is_read(config: Path, run: Run) -> None:
    run("account", "add", "a@example.org", "--password-stdin", stdin="white-rabbit\n")
    run("alias", "add", "b@example.org", "a@example.org")
    assert "there is an account a@example.org already" in run("account", "add", "a@example.org", status=1).stderr
    assert "b@example.org is an alias" in run("account", "add", "b@example.org", status=1).stderr


def test_a_quota_of_octets_is_told_with_its_unit(config: Path, run: Run) -> None:
    run("account", "add", "a@example.org", "--password-stdin", stdin="white-rabbit\n")
    assert run("account", "quota", "a@example.org", "1000").stdout == "a@example.org may store 1000 B.\n"


def _waypost(*arguments: str, **how: object) -> subprocess.CompletedProcess[str]:
    done: subprocess.CompletedProcess[str] = subprocess.run(  # type: ignore[call-overload]  # options of one type
        [sys.executable, "-m", "waypost", *arguments], text=True, stderr=subprocess.PIPE, timeout=60, **how
    )
    return done


@pytest.mark.parametrize("command", ["--help", "account list", "domain list", "queue list --json", "check", "status"])
def test_output_that_can_not_be_written_is_one_line_of_error(config: Path, command: str) -> None:
    with Path("/dev/full").open("w") as full:
        done = _waypost(*command.split(), stdout=full)
    assert done.returncode == 1
    assert done.stderr == "waypost: the output can't be written: No space left on device\n"


@pytest.mark.parametrize("streams", ["1>&-", "0<&-", "0<&- 1>&-"])
def test_a_command_runs_without_standard_streams(config: Path, streams: str) -> None:
    done = subprocess.run(
        ["sh", "-c", f'exec "$0" -m waypost account list {streams}', sys.executable],
        stderr=subprocess.PIPE,
        text=True,
        timeout=60,
    )
    assert (done.returncode, done.stderr) == (0, "")


def test_no_file_gets_the_number_of_a_closed_standard_stream(config: Path) -> None:
    code = (
        "import os, sys\nfrom waypost.cli import main\nfrom waypost.cli.frame import fail\n"
        "sys.argv = ['waypost', '--version']\n"
        "try: main()\n"
        "finally: os._exit(os.open('waypost.db', os.O_CREAT | os.O_RDWR))"
    )
    done = subprocess.run(["sh", "-c", 'exec "$0" -c "$1" <&- >&- 2>&-', sys.executable, code], timeout=60)
    assert done.returncode > 2
