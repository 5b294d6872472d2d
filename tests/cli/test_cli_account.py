"""`waypost account` and `waypost domain`."""

import json
import os
import pty
import subprocess
import sys
from pathlib import Path

import pytest
from tests.cli.conftest import Run

from waypost.login.passwords import verify_password
from waypost.storage.sqlite import DATABASE

PASSWORD = "white-rabbit"


def add(run: Run, address: str, *options: str) -> None:
    run("account", "add", address, "--password-stdin", *options, stdin=PASSWORD + "\n")


def listed(run: Run) -> list[dict[str, object]]:
    found: list[dict[str, object]] = json.loads(run("account", "list", "--json").stdout)
    return found


def hash_of(config: Path, address: str) -> str:
    import apsw

    connection = apsw.Connection(str(config.parent / "data" / DATABASE))
    try:
        return str(connection.execute("SELECT argon2 FROM account WHERE address = ?", (address,)).get)
    finally:
        connection.close()


def test_an_account_is_made_under_the_form_in_which_addresses_are_compared(config: Path, run: Run) -> None:
    result = run("account", "add", "Alice@EXAMPLE.org", "--password-stdin", stdin=f"{PASSWORD}\r\nmore\n")
    assert result.output == "Added alice@example.org.\n"
    [account] = listed(run)
    assert account["address"] == "alice@example.org" and account["disabled"] is False
    assert (account["quota"], account["usage"]) == (5 << 30, 0)
    assert str(account["created"]).endswith("Z")
    assert verify_password(hash_of(config, "alice@example.org"), PASSWORD), "of the line without its end"


def test_the_list_is_a_table(config: Path, run: Run) -> None:
    add(run, "alice@example.org", "--quota", "none")
    add(run, "bob@example.net", "--quota", "1500KiB")
    heading, first, second = run("account", "list").output.splitlines()
    assert heading.split() == ["address", "state", "used", "quota", "created"]
    assert first.split()[:5] == ["alice@example.org", "enabled", "0", "B", "none"]
    assert second.split()[:6] == ["bob@example.net", "enabled", "0", "B", "1.5", "MiB"]


def test_an_address_of_another_domain_is_refused_with_the_hosted_ones(config: Path, run: Run) -> None:
    result = run("account", "add", "alice@exmaple.org", "--password-stdin", stdin=PASSWORD, status=1)
    assert result.stderr == (
        f"waypost: exmaple.org is not hosted here; the hosted domains are: example.org, example.net ({config})\n"
    )


def test_a_send_only_account_may_be_of_a_domain_that_is_hosted_elsewhere(config: Path, run: Run) -> None:
    add(run, "app@elsewhere.example", "--send-only")
    assert listed(run)[0]["address"] == "app@elsewhere.example"


@pytest.mark.parametrize(
    ("arguments", "stdin", "words"),
    [
        (["add", "alice"], PASSWORD, "alice: there is no @ with a domain; write for example alice@example.org"),
        (["add", '""@example.org', "--password-stdin"], PASSWORD, '""@example.org: there is nothing before the @'),
        (["add", "alice@example.org", "--password-stdin"], "", "the password is empty"),
        (["add", "alice@example.org", "--password-stdin"], "\n12345678", "the password is empty"),
        (
            ["add", "alice@example.org", "--password-stdin"],
            "1234567\n",
            "the password has 7 characters; it needs at least 8",
        ),
        (["add", "alice@example.org", "--password-stdin"], b"white-rabbit\xff\n", "the password is not UTF-8"),
        (["add", "alice@example.org", "--password-stdin"], "white\x07rabbit\n", "this can't be a password: "),
        (["add", "alice@example.org", "--password-stdin"], "x" * 5000, "the password is longer than 4096 octets"),
        (
            ["add", "alice@example.org"],
            PASSWORD,
            "there is no terminal to ask for the password on; use --password-stdin",
        ),
        (["passwd", "nobody@example.org", "--password-stdin"], PASSWORD, "there is no account nobody@example.org"),
        (["disable", "nobody@example.org"], "", "there is no account nobody@example.org"),
        (["enable", "nobody@example.org"], "", "there is no account nobody@example.org"),
        (["quota", "nobody@example.org", "1MiB"], "", "there is no account nobody@example.org"),
        (["remove", "nobody@example.org"], "y\n", "there is no account nobody@example.org"),
    ],
)
def test_what_can_not_be_done_is_one_line_without_the_password(
    arguments: list[str], stdin: str | bytes, words: str, config: Path, run: Run
) -> None:
    result = run("account", *arguments, stdin=stdin, status=1)
    assert result.stderr.startswith(f"waypost: {words}") and result.stderr.count("\n") == 1
    assert "rabbit" not in result.output and listed(run) == []


def test_an_address_is_taken_once(config: Path, run: Run) -> None:
    add(run, "alice@example.org")
    result = run("account", "add", "ALICE@example.org", "--password-stdin", stdin=PASSWORD, status=1)
    assert result.stderr == "waypost: there is an account alice@example.org already\n"


def test_a_password_is_changed(config: Path, run: Run) -> None:
    add(run, "alice@example.org")
    run("account", "passwd", "alice@example.org", "--password-stdin", stdin="queen of hearts\n")
    kept = hash_of(config, "alice@example.org")
    assert verify_password(kept, "queen of hearts") and not verify_password(kept, PASSWORD)


def test_an_account_is_disabled_and_enabled(config: Path, run: Run) -> None:
    add(run, "alice@example.org")
    assert run("account", "disable", "alice@example.org").output == "alice@example.org is disabled.\n"
    assert listed(run)[0]["disabled"] is True
    run("account", "enable", "alice@example.org")
    assert listed(run)[0]["disabled"] is False


def test_a_quota_is_changed(config: Path, run: Run) -> None:
    add(run, "alice@example.org")
    assert run("account", "quota", "alice@example.org", "10 MiB").output == "alice@example.org may store 10 MiB.\n"
    assert listed(run)[0]["quota"] == 10 << 20
    run("account", "quota", "alice@example.org", "none")
    assert listed(run)[0]["quota"] == 0
    assert "not a size" in run("account", "quota", "alice@example.org", "much", status=2).output


def test_removing_an_account_asks_first(config: Path, run: Run) -> None:
    add(run, "alice@example.org")
    assert "nothing was done" in run("account", "remove", "alice@example.org", stdin="n\n", status=1).stderr
    assert len(listed(run)) == 1
    run("account", "remove", "alice@example.org", stdin="y\n")
    assert listed(run) == []


def test_removing_an_account_names_the_aliases_that_still_lead_to_it(config: Path, run: Run) -> None:
    add(run, "alice@example.org")
    run("alias", "add", "sales@example.org", "Alice@example.org", "bob@elsewhere.example")
    result = run("account", "remove", "alice@example.org", "--yes")
    assert result.stderr == "note: aliases still lead to it: sales@example.org\n"


def test_on_a_terminal_the_password_is_asked_for_twice_and_never_shown(config: Path, run: Run) -> None:
    ours, theirs = pty.openpty()
    arguments = [sys.executable, "-m", "waypost", "account", "add", "alice@example.org"]
    shown = b""
    with subprocess.Popen(arguments, stdin=theirs, stdout=theirs, stderr=theirs, start_new_session=True) as process:
        os.close(theirs)
        for question in (b"Password: ", b"The same again: "):
            while not shown.endswith(question):
                shown += os.read(ours, 1024)
            os.write(ours, PASSWORD.encode() + b"\n")
        while b"Added alice@example.org." not in shown:
            shown += os.read(ours, 1024)
    os.close(ours)
    assert process.returncode == 0
    assert b"rabbit" not in shown


def test_a_password_that_is_too_short_is_refused_before_it_is_typed_again(config: Path, run: Run) -> None:
    ours, theirs = pty.openpty()
    arguments = [sys.executable, "-m", "waypost", "account", "add", "alice@example.org"]
    shown = b""
    answers = [
        (b"Password: ", b"short"),
        (b"Password: ", b"a long password"),
        (b"The same again: ", b"another password"),
        (b"Password: ", b"a long password"),
        (b"The same again: ", b"a long password"),
    ]
    with subprocess.Popen(arguments, stdin=theirs, stdout=theirs, stderr=theirs, start_new_session=True) as process:
        os.close(theirs)
        for question, answer in answers:
            said = b""
            while not said.endswith(question):
                said += os.read(ours, 1024)
            shown += said
            os.write(ours, answer + b"\n")
        while b"Added alice@example.org." not in shown:
            shown += os.read(ours, 1024)
    os.close(ours)
    assert process.returncode == 0
    assert b"the password has 5 characters; it needs at least 8; please try another" in shown
    assert b"the two entries are not the same" in shown


def test_domains_are_listed_with_who_lives_there(config: Path, run: Run) -> None:
    add(run, "alice@example.org")
    run("alias", "add", "@example.org", "alice@example.org")
    assert json.loads(run("domain", "list", "--json").stdout) == [
        {"domain": "example.org", "accounts": 1, "aliases": 1},
        {"domain": "example.net", "accounts": 0, "aliases": 0},
    ]
    assert run("domain", "list").output.splitlines()[1].split() == ["example.org", "1", "1"]
