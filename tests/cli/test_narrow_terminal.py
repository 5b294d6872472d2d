"""On a terminal of 80 columns no command breaks a line inside a word."""

from pathlib import Path

import pytest
from tests.cli.conftest import Run
from tests.cli.dialogue import shown_at


@pytest.mark.parametrize(
    ("command", "status"),
    [("check", 0), ("account list", 0), ("alias list", 0), ("domain list", 0), ("status", 3), ("settings ADDRESS", 0)],
)
def test_no_line_is_broken_inside_a_word(config: Path, run: Run, command: str, status: int) -> None:
    address = f"{'a-long-name.' * 4}x@example.org"
    run("account", "add", address, "--password-stdin", stdin="white-rabbit\n")
    run("alias", "add", "everybody@example.org", *(f"person-{number}@elsewhere.example" for number in range(5)))
    (config.parent / "tls" / "key.pem").chmod(0o644)  # one more note
    lines = shown_at(80, *command.replace("ADDRESS", address).split(), status=status)
    assert len(lines) > 1
    for line in lines:
        assert len(line) <= 80 or " " not in line.strip(), line  # one word, such as the path of a file


def test_what_a_new_host_has_to_do_is_wrapped_between_words(tmp_path: Path) -> None:
    names = ["--domain", "example.org", "--hostname", "mx.example.org", "--no-ask"]
    lines = shown_at(80, "init", str(tmp_path / "h"), *names)
    at = lines.index("Publish in DNS, with this host's public address for 192.0.2.1 (and an AAAA")
    assert lines[at + 1] == "record if it has IPv6):"


def test_a_narrow_terminal_shows_every_target_of_an_alias(config: Path, run: Run) -> None:
    people = [f"person-{number}@elsewhere.example" for number in range(5)]
    run("alias", "add", "everybody@example.org", *people)
    shown = " ".join(" ".join(shown_at(80, "alias", "list")).split())
    assert shown == f"everybody@example.org leads to {', '.join(people)}"
    assert shown_at(200, "alias", "list")[0].split() == ["address", "leads", "to"]


@pytest.mark.parametrize(
    ("command", "words"), [("account list", "There is no account.\n"), ("alias list", "There is no alias.\n")]
)
def test_an_empty_list_says_so(config: Path, run: Run, command: str, words: str) -> None:
    assert run(*command.split()).stdout == words
    assert run(*command.split(), "--json").stdout == "[]\n"


def test_a_host_without_domains_says_so(config: Path, run: Run) -> None:
    text = config.read_text()
    config.write_text(text.replace('domains = ["example.org", "example.net"]', "domains = []"))
    assert run("domain", "list").stdout == "No domain is hosted here: this host only sends.\n"
