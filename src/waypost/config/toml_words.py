"""Explains the errors of the TOML parser in plain words."""

import re

_TABLE_TWICE = re.compile(r"Cannot declare \((.*?),?\) twice")

# The beginning of tomllib's message -> its meaning, and a correct form.
_MEANT = (
    ("Illegal character '\\n'", 'a quote is missing: a text ends on its line, as in "mx.example.org"'),
    ("Illegal character '\\r'", "a line ends with a carriage return alone; save the file with the line ends of Unix"),
    ('Expected "\'"', "a quote is missing: a text ends on its line, as in 'mx.example.org'"),
    ("Invalid value", 'not a value: a text stands in quotes, as in "mx.example.org"'),
    ("Cannot overwrite a value", "this key has a value already; write it once"),
    ("Unclosed array", 'an array is not closed, or a comma is missing: write ["a.example", "b.example"]'),
    (
        "Expected newline or end of document",
        'there is more on the line than a value: a text stands in quotes, as in "5d"',
    ),
    ("Expected '=' after a key", 'a "=" is missing: write key = value'),
    ("Expected ']' at the end of a table", 'a "]" is missing: write [table], or [[listener]]'),
    ("Unescaped '\\'", "a backslash stands for itself in single quotes only: write 'a\\b'"),
)


def toml_words(said: str) -> str:
    """Return tomllib's message without its position; for common mistakes, in plainer words."""
    twice = _TABLE_TWICE.match(said)
    if twice is not None:
        name = ".".join(part.strip().strip("'\"") for part in twice[1].split(","))
        if name in ("listener", "route"):
            return f"[{name}] stands here a second time: write [[{name}]], with two brackets, above each of them"
        return f"[{name}] stands here a second time; write it once"
    found = next((words for beginning, words in _MEANT if said.startswith(beginning)), None)
    return found or said[:1].lower() + said[1:]
