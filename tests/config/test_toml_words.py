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
        ("hostname = \u201cmx.example.org\u201d\n", 1, "these quotes are straight"),
        ("hostname = \u2018mx.example.org\u2019\n", 1, "these quotes are straight"),
        ("domains = [\u00aba.example\u00bb]\n", 1, "these quotes are straight"),
        ("\u201chostname\u201d = 1\n", 1, "these quotes are straight"),
        ("hostname = \n", 1, 'a value is missing after the "="'),
        ("hostname =", 1, 'a value is missing after the "="'),
        ("hostname = # mx\n", 1, 'a value is missing after the "="'),
        ("a = True\n", 1, "write true or false, in small letters"),
        ("a = yes\n", 1, "write true or false, in small letters"),
        ("a = 010\n", 1, "a number does not begin with 0"),
        ('alice@example.org = ["a@example.org"]\n', 1, "a key with such characters stands in quotes"),
        ('data: "data"\n', 1, 'a "=" is missing'),
        ("hostname = 1\rdomains = 2\r", 1, "the line ends of Unix"),
        ("[listener]\na = 1\n[[listener]]\na = 2\n", 3, "write [[listener]], with two brackets"),
        ("[[listener]\na = 1\n", 1, 'a "]" is missing'),
        ("[listener]]\na = 1\n", 1, "write [table], or [[listener]]"),
        ("\0\0\0\n", 1, "write key = value, or [table]"),
        ("[trusted_network]\na = 1\n[trusted_network]\na = 2\n", 3, "write [[trusted_network]], with two brackets"),
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


def test_a_number_with_thousands_of_digits_is_told_with_its_line() -> None:
    with pytest.raises(ConfigErrors) as told:
        parse(b'hostname = "mx.example.org"\nx = ' + b"9" * 5000 + b"\n", Path("waypost.toml"))
    assert str(told.value.errors[0]) == "waypost.toml:2: not usable: a number has thousands of digits"


def test_the_mark_that_some_editors_write_at_the_beginning_is_no_error() -> None:
    text = 'hostname = "mx.example.org"\ndomains = []\ndata = "data"\n'
    assert parse(b"\xef\xbb\xbf" + text.encode(), Path("waypost.toml")).settings.hostname == "mx.example.org"


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        ('[queue]\nretry = "1m, 5m"\n', 'write ["1m", "5m"]'),
        ('[queue]\nretry = "1m"\n', 'write ["1m"]'),
        ('[submission.send_as]\n"a@b.example" = 1\n', "write its values in brackets"),
        ('[outbound]\nsource_addresses = "192.0.2.1, 192.0.2.2"\n', 'write ["192.0.2.1", "192.0.2.2"]'),
    ],
)
def test_values_without_brackets_are_told_as_the_array_that_is_meant(written: str, meant: str) -> None:
    text = 'hostname = "mx.example.org"\ndomains = []\ndata = "data"\n' + written
    with pytest.raises(ConfigErrors) as told:
        parse(text.encode(), Path("waypost.toml"))
    assert f"not an array; {meant}" in str(told.value.errors[0])
