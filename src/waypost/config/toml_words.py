"""What is wrong with a file that is not TOML, in words for somebody who did not write the parser."""

import re

_TABLE_TWICE = re.compile(r"Cannot declare \((.*?),?\) twice")

# What tomllib says, as it begins -> what is meant, and what would be right.
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
    """Return what tomllib said, without its position, in plainer words where it is one of the usual mistakes."""
    twice = _TABLE_TWICE.match(said)
    if twice is not None:
        name = ".".join(part.strip().strip("'\"") for part in twice[1].split(","))
        if name in ("listener", "route"):
            return f"[{name}] stands here a second time: write [[{name}]], with two brackets, above each of them"
        return f"[{name}] stands here a second time; write it once"
    found = next((words for beginning, words in _MEANT if said.startswith(beginning)), None)
    return found or said[:1].lower() + said[1:]
