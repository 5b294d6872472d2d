"""`waypost settings`: what people type into their mail programs."""

import json
from pathlib import Path

from tests.cli.conftest import Run

PASSWORD = "a long password\n"


def test_a_mail_program_is_told_server_ports_security_and_user(config: Path, run: Run) -> None:
    run("account", "add", "alice@example.org", "--password-stdin", stdin=PASSWORD)
    lines = [" ".join(line.split()) for line in run("settings", "Alice@example.org").output.splitlines()]
    assert lines[1] == "sending SMTP mx.example.org 465 TLS from the start (SSL/TLS)"
    assert "reading POP3 mx.example.org 995 TLS from the start (SSL/TLS)" in lines
    assert "The user name is alice@example.org, for sending and for reading; the password is the account's." in lines
    found = json.loads(run("settings", "alice@example.org", "--json").stdout)
    assert (found["user"], found["server"]) == ("alice@example.org", "mx.example.org")
    assert {(offer["for"], offer["protocol"], offer["port"]) for offer in found["offers"]} == {
        ("sending", "smtp", 465),
        ("sending", "smtp", 587),
        ("reading", "pop3", 995),
        ("reading", "pop3", 110),
    }


def test_an_account_that_is_not_there_is_told(config: Path, run: Run) -> None:
    assert "there is no account bob@example.org" in run("settings", "bob@example.org", status=1).stderr


def test_ports_that_only_this_machine_reaches_are_left_out(config: Path, run: Run) -> None:
    run("account", "add", "alice@example.org", "--password-stdin", stdin=PASSWORD)
    config.write_text(config.read_text().replace('"0.0.0.0:587"', '"127.0.0.1:587"'))
    assert "587" not in run("settings", "alice@example.org").output
    config.write_text(config.read_text().replace("0.0.0.0", "127.0.0.1"))
    words = run("settings", "alice@example.org", status=1).stderr
    assert "no listener that others can reach serves mail programs" in words
