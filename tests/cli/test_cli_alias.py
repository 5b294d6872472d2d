"""`waypost alias`."""

import json
from pathlib import Path

import pytest
from tests.cli.conftest import Run


def listed(run: Run) -> dict[str, list[str]]:
    return {each["address"]: each["targets"] for each in json.loads(run("alias", "list", "--json").stdout)}


def test_an_alias_leads_to_one_or_many_and_can_grow(config: Path, run: Run) -> None:
    assert (
        run("alias", "add", "Sales@example.org", "a@else.example").stdout
        == "sales@example.org leads to a@else.example.\n"
    )
    run("alias", "add", "sales@example.org", "b@else.example", "A@else.example")
    assert listed(run) == {"sales@example.org": ["A@else.example", "b@else.example"]}


def test_an_alias_is_removed_whole_or_in_part(config: Path, run: Run) -> None:
    run("alias", "add", "sales@example.org", "a@else.example", "b@else.example")
    assert (
        run("alias", "remove", "sales@example.org", "A@else.example").output
        == "sales@example.org leads to b@else.example.\n"
    )
    run("alias", "remove", "sales@example.org", "b@else.example")
    assert listed(run) == {}
    run("alias", "add", "sales@example.org", "a@else.example", "b@else.example")
    assert run("alias", "remove", "sales@example.org").output == "Removed sales@example.org.\n"
    assert listed(run) == {}


def test_a_domain_has_a_catch_all(config: Path, run: Run) -> None:
    run("alias", "add", "@Example.org", '"odd name"@else.example')
    assert listed(run) == {"@example.org": ['"odd name"@else.example']}
    heading, line = run("alias", "list").output.splitlines()
    assert heading.split() == ["address", "leads", "to"] and line.startswith("@example.org")


def test_a_target_of_ours_that_does_not_exist_is_noted(config: Path, run: Run) -> None:
    result = run("alias", "add", "sales@example.org", "nobody@example.org", "bob@else.example")
    assert result.stderr == "note: nobody@example.org is neither an account nor an alias yet\n"
    assert run("alias", "add", "sales@example.org", "sales@example.net").stderr
    run("alias", "add", "nobody@example.org", "bob@else.example")
    assert run("alias", "add", "sales@example.org", "nobody+tag@example.org").stderr == ""


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["add", "sales@else.example", "a@b.example"], "else.example is not hosted here; the hosted domains are: "),
        (["add", "@else.example", "a@b.example"], "else.example is not hosted here; the hosted domains are: "),
        (["add", "sales", "a@b.example"], "sales: there is no @ with a domain"),
        (["add", "@a..b", "a@b.example"], "@a..b: the domain has an empty label"),
        (["add", "sales@example.org", "bob"], "bob: there is no @ with a domain"),
        (["add", "sales@example.org", "Sales@example.org"], "sales@example.org can't lead to itself"),
        (["remove", "sales@example.org"], "there is no alias sales@example.org"),
        (
            ["remove", "info@example.org", "x@else.example"],
            "info@example.org leads to a@else.example, not to all of these",
        ),
        (["add", "bob@example.org", "a@b.example"], "bob@example.org is an account"),
    ],
)
def test_what_can_not_be_done_is_one_line(arguments: list[str], words: str, config: Path, run: Run) -> None:
    run("account", "add", "bob@example.org", "--password-stdin", stdin="can we fix it?\n")
    run("alias", "add", "info@example.org", "a@else.example")
    result = run("alias", *arguments, status=1)
    assert result.stderr.startswith(f"waypost: {words}") and result.stderr.count("\n") == 1
    assert listed(run) == {"info@example.org": ["a@else.example"]}


@pytest.mark.parametrize(
    ("first", "then", "circle"),
    [
        (["a b"], "b a", "b@example.org -> a@example.org -> b@example.org"),
        (["a b", "b c"], "c a", "c@example.org -> a@example.org -> b@example.org -> c@example.org"),
        (["a b"], "b x a", "b@example.org -> a@example.org -> b@example.org"),
    ],
)
def test_a_circle_of_aliases_is_refused_with_its_way(
    first: list[str], then: str, circle: str, config: Path, run: Run
) -> None:
    def add(words: str, status: int = 0) -> str:
        return run("alias", "add", *(f"{word}@example.org" for word in words.split()), status=status).stderr

    for words in first:
        add(words)
    before = listed(run)
    assert circle in add(then, status=1)
    assert listed(run) == before


def test_two_ways_to_the_same_address_are_not_a_circle(config: Path, run: Run) -> None:
    run("alias", "add", "a@example.org", "x@else.example")
    run("alias", "add", "b@example.org", "a@example.org")
    run("alias", "add", "c@example.org", "a@example.org", "b@example.org")
    assert len(listed(run)) == 3
