"""Finds the line of each key in a TOML document, which `tomllib` does not give.

It reads documents that `tomllib` has accepted already, so it only has to find keys and skip values. If it meets
something unexpected, it returns what it found so far: an error message then names the line of a table instead.
"""

import contextlib
import re
import tomllib
from bisect import bisect_right
from itertools import accumulate

from waypost.config.errors import KeyPath

_BLANKS = re.compile(r"[ \t]*")
_SPACE = re.compile(r"(?:[ \t\r\n]|#[^\n]*)*")
_KEY = re.compile(r"""[ \t]*(?:(?P<bare>[A-Za-z0-9_-]+)|"(?P<basic>(?:[^"\\\n]|\\.)*)"|'(?P<literal>[^'\n]*)')[ \t]*""")
_STRING = re.compile(
    r'''"""(?:[^"\\]|\\.|"{1,2}(?!"))*"{3,5}|\'\'\'(?:[^']|'{1,2}(?!'))*'{3,5}|"(?:[^"\\\n]|\\.)*"|'[^'\n]*\'''',
    re.DOTALL,
)
_BARE_VALUE = re.compile(r"[^,\]}\n#]+")
_REST_OF_LINE = re.compile(r"[^\n]*")


def lines_of_keys(text: str) -> dict[KeyPath, int]:
    """Return the line (from 1) of every key, table and array element in a document that `tomllib` accepts."""
    scanner = _Scanner(text)
    with contextlib.suppress(_Unexpected, RecursionError):
        scanner.scan()
    return scanner.lines


class _Unexpected(Exception):
    """The text has a form that this file does not know."""


class _Scanner:
    def __init__(self, text: str) -> None:
        self.lines: dict[KeyPath, int] = {}
        self._text = text
        self._at = 0
        self._line_ends = list(accumulate(len(line) + 1 for line in text.split("\n")))
        self._tables: dict[KeyPath, int] = {}  # arrays of tables: the index of the last table

    def scan(self) -> None:
        """Read the whole document, statement by statement."""
        table: KeyPath = ()
        self._match(_SPACE)
        while self._at < len(self._text):
            if self._text.startswith("[", self._at):
                table = self._header()
            else:
                self._assignment(table)
            self._match(_REST_OF_LINE)
            self._match(_SPACE)

    def _header(self) -> KeyPath:
        """Read `[table]` or `[[array of tables]]`; return the path of its keys."""
        start = self._at
        double = self._text.startswith("[[", start)
        self._at += 2 if double else 1
        names = self._key()
        self._expect("]]" if double else "]")
        path: KeyPath = ()
        for name in names[:-1]:
            path = self._into_last(path + (name,))
            self._note(path, start)
        path += (names[-1],)
        if double:
            self._note(path, start)
            self._tables[path] = self._tables.get(path, -1) + 1
            path = self._into_last(path)
        self._note(path, start)
        return path

    def _into_last(self, path: KeyPath) -> KeyPath:
        return path + (self._tables[path],) if path in self._tables else path

    def _assignment(self, table: KeyPath) -> None:
        """Read `key = value` below a table."""
        start = self._at
        names = self._key()
        self._expect("=")
        for length in range(1, len(names) + 1):
            self._note(table + tuple(names[:length]), start)
        self._match(_BLANKS)
        self._value(table + tuple(names))

    def _value(self, path: KeyPath) -> None:
        self._note(path, self._at)
        if self._text.startswith("[", self._at):
            self._array(path)
        elif self._text.startswith("{", self._at):
            self._inline_table(path)
        elif not self._match(_STRING) and not self._match(_BARE_VALUE):
            raise _Unexpected

    def _array(self, path: KeyPath) -> None:
        self._at += 1
        index = 0
        while not self._ends("]"):
            self._value(path + (index,))
            index += 1
            self._ends(",")

    def _inline_table(self, path: KeyPath) -> None:
        self._at += 1
        while not self._ends("}"):
            self._assignment(path)
            self._ends(",")

    def _ends(self, mark: str) -> bool:
        """Skip white space, then `mark` if it is next; return whether it was."""
        self._match(_SPACE)
        if self._at >= len(self._text):
            raise _Unexpected
        found = self._text.startswith(mark, self._at)
        self._at += len(mark) if found else 0
        return found

    def _key(self) -> list[str]:
        """Read a key, dotted or not."""
        names = []
        while True:
            match = _KEY.match(self._text, self._at)
            if match is None:
                raise _Unexpected
            self._at = match.end()
            names.append(self._name(match))
            if not self._text.startswith(".", self._at):
                return names
            self._at += 1

    @staticmethod
    def _name(match: re.Match[str]) -> str:
        if match["basic"] is not None:
            return str(tomllib.loads(f'key = "{match["basic"]}"')["key"])
        return str(match["bare"] if match["bare"] is not None else match["literal"])

    def _expect(self, mark: str) -> None:
        if not self._text.startswith(mark, self._at):
            raise _Unexpected
        self._at += len(mark)

    def _match(self, pattern: re.Pattern[str]) -> bool:
        match = pattern.match(self._text, self._at)
        if match is None:
            return False
        self._at = match.end()
        return True

    def _note(self, path: KeyPath, position: int) -> None:
        self.lines.setdefault(path, bisect_right(self._line_ends, position) + 1)
