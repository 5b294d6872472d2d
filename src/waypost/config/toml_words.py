"""Explains the errors of the TOML parser in plain words."""

import re

_TABLE_TWICE = re.compile(r"Cannot declare \((.*?),?\) twice")
_HEADER = re.compile(r"\s*\[+\s*([^\[\]]*?)\s*\]")
_ARRAYS = ("listener", "route", "trusted_network")
_A_TEXT = 'a text stands in quotes, as in "mx.example.org"'
_TYPOGRAPHIC = re.compile("[\u2018-\u201f\u00ab\u00bb]")
_BOOLEAN = re.compile(r"(?:true|false|yes|no|on|off)\b", re.IGNORECASE)
_KEY_WITH_MARKS = re.compile(r"[^\s=:\"'\[\]{}#,][^=:\"'\[\]{}#]*=")

# The beginning of tomllib's message -> its meaning, and a correct form.
_MEANT = (
    ("Illegal character '\\n'", 'a quote is missing: a text ends on its line, as in "mx.example.org"'),
    ('Expected "\'"', "a quote is missing: a text ends on its line, as in 'mx.example.org'"),
    ("Invalid value", f"not a value: {_A_TEXT}"),
    ("Cannot overwrite a value", "this key has a value already; write it once"),
    ("Unclosed array", 'an array is not closed, or a comma is missing: write ["a.example", "b.example"]'),
    (
        "Expected newline or end of document",
        'there is more on the line than a value: a text stands in quotes, as in "5d"',
    ),
    ("Expected '=' after a key", 'a "=" is missing: write key = value'),
    ("Expected ']' at the end of a table", 'a "]" is missing: write [table], or [[listener]]'),
    ("Expected ']]' at the end of an array", 'a "]" is missing: write [[listener]], or [table]'),
    ("Invalid statement", "neither a key nor a table: write key = value, or [table]"),
    ("Unescaped '\\'", "a backslash stands for itself in single quotes only: write 'a\\b'"),
)


def toml_words(said: str, line: str, column: int) -> str:
    """Return tomllib's message without its position; for common mistakes, in plainer words.

    `line` is the line at which tomllib stopped, or the last line that is not blank; `column`, from 1, the place in it.
    """
    twice = _TABLE_TWICE.match(said)
    if twice is not None:
        name = ".".join(part.strip().strip("'\"") for part in twice[1].split(","))
        if name in _ARRAYS:
            return f"[{name}] stands here a second time: write [[{name}]], with two brackets, above each of them"
        return f"[{name}] stands here a second time; write it once"
    by_line = _words_by_line(said, line, column)
    if by_line is not None:
        return by_line
    found = next((words for beginning, words in _MEANT if said.startswith(beginning)), None)
    return found or said[:1].lower() + said[1:]


def _words_by_line(said: str, line: str, column: int) -> str | None:
    """Return what the line itself tells; None when it tells nothing more."""
    before, rest = line[: column - 1], line[column - 1 :]
    header = _HEADER.match(line)
    if said.startswith("Cannot overwrite a value") and header is not None:
        return (
            f"[{header[1]}] with one bracket stands above: write [[{header[1]}]], with two brackets, above each of them"
        )
    if "\r" in line.removesuffix("\r"):
        return "a line ends with a carriage return alone; save the file with the line ends of Unix"
    if said.startswith("Expected newline or end of document") and header is not None:
        return "there is more on the line than a table: write [table], or [[listener]]"
    if said.startswith("Expected newline or end of document") and before.endswith("0") and rest[:1].isdigit():
        return "a number does not begin with 0"
    if said.startswith(("Invalid value", "Invalid statement")) and _TYPOGRAPHIC.match(rest):
        return f"typographic quotes: {_A_TEXT}, and these quotes are straight"
    if said.startswith("Invalid value") and before.rstrip().endswith("=") and not rest.partition("#")[0].strip():
        return 'a value is missing after the "="'
    if said.startswith("Invalid value") and _BOOLEAN.match(rest):
        return "not a value: write true or false, in small letters"
    if said.startswith("Expected '=' after a key") and _KEY_WITH_MARKS.match(rest):
        return 'a key with such characters stands in quotes, as in "alice@example.org" = ["sales@example.org"]'
    return None
