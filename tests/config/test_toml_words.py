"""Mistakes that people make in TOML, and what they are told."""

from pathlib import Path

import pytest

from waypost.config.errors import ConfigErrors
from waypost.config.load import parse


@pytest.mark.parametrize(
    ("text", "line", "words"),
    [
        ('hostname = "mx.example.org\ndomains = []\n', 1, "a quote is missing"),
        ("hostname = 'mx.example.org\n", 2, "a quote is missing"),
        ("hostname = mx.example.org\n", 1, "a text stands in quotes"),
        ("hostname = \u201cmx.example.org\u201d\n", 1, "a text stands in quotes"),
        ("a = 5d\n", 1, "a text stands in quotes"),
        ("a = 1\na = 2\n", 2, "this key has a value already"),
        ('domains = ["a.example" "b.example"]\n', 1, "a comma is missing"),
        ("hostname\n", 1, 'a "=" is missing'),
        ('[listener\nprotocol = "smtp"\n', 1, 'a "]" is missing'),
        ('data = "C:\\mail"\n', 1, "a backslash stands for itself in single quotes only"),
        ("[listener]\na = 1\n[listener]\na = 2\n", 3, "write [[listener]], with two brackets"),
        ("[[route]]\na = 1\n[route]\na = 2\n", 3, "write [[route]], with two brackets"),
        ("[tls]\na = 1\n[tls]\nb = 2\n", 3, "[tls] stands here a second time; write it once"),
    ],
)
def test_a_mistake_in_toml_is_told_with_what_would_be_right(text: str, line: int, words: str) -> None:
    with pytest.raises(ConfigErrors) as told:
        parse(text.encode(), Path("waypost.toml"))
    [error] = told.value.errors
    assert str(error).startswith(f"waypost.toml:{line}: not TOML") and words in str(error)
