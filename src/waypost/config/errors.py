"""The errors of a configuration: each names file, line and key, and all are reported at once."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from waypost.config.toml_text import key_text, value_text

KeyPath = tuple[str | int, ...]
"""The path to a value: the keys from the top of the file down; a number is an index of an array, from 0."""

_LONGEST_VALUE = 60


class WrongValue(ValueError):
    """A value can't be read. The message says what is wrong and gives a correct form.

    In an array or a table, `inside` is the path to the wrong part, and `value` is that part.
    """

    def __init__(self, words: str, *, inside: KeyPath = (), value: object = None) -> None:
        super().__init__(words)
        self.inside = inside
        self.value = value


@dataclass(frozen=True, slots=True)
class ConfigError:
    """One error: `waypost.toml:12: queue.expire = "5 dayz": not a duration; write for example "5d" or "120h"`.

    `line` counts from 1, and is None when the whole file is meant. `key` and `value` are texts as in the file; None
    when the error is not about a key, or the value is not shown.
    """

    file: Path
    line: int | None
    key: str | None
    value: str | None
    words: str

    def __str__(self) -> str:
        where = f"{self.file}:{self.line}" if self.line else str(self.file)
        what = f"{self.key} = {self.value}: " if self.value is not None else f"{self.key}: " if self.key else ""
        return f"{where}: {what}{self.words}"


class ConfigErrors(Exception):
    """A configuration can't be used; `errors` has every reason, in the order of their lines."""

    def __init__(self, errors: tuple[ConfigError, ...]) -> None:
        super().__init__("\n".join(map(str, errors)))
        self.errors = errors


class Complaints:
    """Collects the errors of one file. `lines` gives the line of each key."""

    def __init__(self, file: Path, lines: Mapping[KeyPath, int]) -> None:
        self._file = file
        self._lines = lines
        self._found: list[ConfigError] = []

    def about_value(self, path: KeyPath, value: object, words: str) -> None:
        """Report that the value of a key is wrong."""
        text = value_text(value)
        if len(text) > _LONGEST_VALUE:
            text = text[:_LONGEST_VALUE] + " ..."
        self._add(path, text, words)

    def about_key(self, path: KeyPath, words: str) -> None:
        """Report that something about a key is wrong, without showing its value."""
        self._add(path, None, words)

    def _add(self, path: KeyPath, value: str | None, words: str) -> None:
        name = ".".join(key_text(part) for part in path if isinstance(part, str))
        self._found.append(ConfigError(self._file, self.line(path), name, value, words))

    def line(self, path: KeyPath) -> int:
        """Return the line of a key, or else that of the table where it would stand."""
        while path and path not in self._lines:
            path = path[:-1]
        return self._lines.get(path, 1)

    def __bool__(self) -> bool:
        return bool(self._found)

    def errors(self) -> ConfigErrors:
        """Return all errors, in the order of their lines."""
        return ConfigErrors(tuple(sorted(self._found, key=lambda error: error.line or 0)))
