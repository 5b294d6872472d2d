"""What people type who guess: each gets a word on what is wanted; and no line of a group's help is cut."""

from collections.abc import Iterator

import click
import pytest
from tests.cli.conftest import Run

from waypost.cli import program


@pytest.mark.parametrize("group", ["queue", "account", "alias", "domain", "storage", "backup", "session"])
def test_no_line_of_a_help_is_cut(run: Run, group: str) -> None:
    output = run(group, "--help").stdout.partition("\nCommands:")[2]
    assert output
    assert "..." not in output and "\N{HORIZONTAL ELLIPSIS}" not in output
    assert max(map(len, output.splitlines())) <= 80


@pytest.mark.parametrize("word", ["add", "remove", "delete"])
def test_who_wants_to_add_a_domain_hears_where_they_stand(run: Run, word: str) -> None:
    result = run("domain", word, "example.net", status=2)
    assert "the domains stand in `domains` of waypost.toml" in result.stderr


@pytest.mark.parametrize("command", ["check", "serve", "status", "reload", "queue list", "account list"])
def test_a_configuration_as_a_bare_word_is_answered_with_the_option(run: Run, command: str) -> None:
    result = run(*command.split(), "/etc/waypost/waypost.toml", status=2)
    assert "name a configuration with --config FILE" in result.stderr


@pytest.mark.parametrize("people", [["--to", "bob"], ["--to", "Bob B."], ["--from", "bob", "--to", "a@b.example"]])
def test_an_address_without_a_domain_is_said_to_lack_it(run: Run, people: list[str]) -> None:
    sender = [] if "--from" in people else ["--from", "a@b.example"]
    result = run("send", "--via", "smtp://127.0.0.1:9", *sender, *people, "hi", status=1)
    assert "it has no @ with a domain; write bob@example.org" in result.stderr


def test_mail_without_a_sender_is_answered_with_both_ways_to_name_one(run: Run) -> None:
    result = run("send", "--via", "submissions://127.0.0.1:9", "--to", "bob@example.org", "hi", status=1)
    assert "no sender: use --from ADDRESS, or name the user" in result.stderr


def _helps(command: click.Command, words: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    yield words
    if isinstance(command, click.Group):
        for name in command.list_commands(click.Context(command)):
            below = command.get_command(click.Context(command), name)
            assert below is not None
            yield from _helps(below, (*words, name))


@pytest.mark.parametrize("words", list(_helps(program)), ids=" ".join)
def test_every_help_fits_a_terminal(run: Run, words: tuple[str, ...]) -> None:
    output = run(*words, "--help").stdout
    assert max(map(len, output.splitlines())) <= 80
    assert "or...\n" not in output and "\N{HORIZONTAL ELLIPSIS}" not in output
