"""The configuration file -> `Settings`, or every error in it at once.

Only the file itself is read. `waypost check`, and the service when it starts, read the files that it names
(certificates, passwords): other commands may run as a user that can't read a private key.
"""

import codecs
import re
import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from waypost.config.checks import check
from waypost.config.errors import Complaints, ConfigError, ConfigErrors
from waypost.config.reader import Reader
from waypost.config.settings import Settings
from waypost.config.toml_lines import lines_of_keys
from waypost.config.toml_words import toml_words

__all__ = ["ConfigError", "ConfigErrors", "Document", "load", "load_document", "parse"]

_LONG_NUMBER = re.compile(r"[0-9_]{4300,}")
_TOML_POSITION = re.compile(r" \(at (?:line (\d+), column (\d+)|end of document)\)\Z")


@dataclass(frozen=True, slots=True)
class Document:
    """Settings, with the data that is needed to report an error in one of them by its line."""

    settings: Settings
    complaints: Complaints


def load(path: Path) -> Settings:
    """Read a configuration file. Raises `ConfigErrors` with all errors in it, or with the reason it can't be read."""
    return load_document(path).settings


def load_document(path: Path) -> Document:
    """Read a configuration file, and keep its lines for later complaints. Raises `ConfigErrors`."""
    try:
        data = path.read_bytes()
    except OSError as error:
        raise _whole_file(path, None, f"can't be read: {error.strerror}") from None
    return parse(data, path)


def parse(data: bytes, path: Path) -> Document:
    """Read a configuration from its bytes. Errors name `path`, and its folder is where relative paths begin."""
    raw, text = _toml(data, path)
    complaints = Complaints(path, lines_of_keys(text))
    folder = path.absolute().parent
    reader = Reader(folder, complaints)
    # Stand-ins for required keys that are missing, so that the rest is checked too; they never leave this function.
    stand_ins = {"path": path.absolute(), "hostname": "missing.invalid", "domains": (), "data": folder, "source": data}
    settings = reader.table(Settings, raw, (), stand_ins)
    assert settings is not None, "everything required has a stand-in"
    check(settings, raw, reader.places, complaints)
    if complaints:
        raise complaints.errors()
    return Document(settings, complaints)


def _toml(data: bytes, path: Path) -> tuple[dict[str, Any], str]:
    try:
        text = data.removeprefix(codecs.BOM_UTF8).decode()  # some editors write the mark, and mean UTF-8
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise _whole_file(path, line, "not UTF-8; save the file in this encoding") from None
    try:
        return tomllib.loads(text), text
    except tomllib.TOMLDecodeError as error:
        position = _TOML_POSITION.search(str(error))
        words = str(error)[: position.start()] if position else str(error)
        line = int(position[1]) if position and position[1] else text.count("\n") + 1
        column = f" in column {position[2]}" if position and position[2] else " at the end of the file"
        stopped = text.split("\n")[line - 1] if position and position[1] else text.rstrip().rpartition("\n")[2]
        at = int(position[2]) if position and position[2] else len(stopped) + 1
        raise _whole_file(path, line, f"not TOML{column}: {toml_words(words, stopped, at)}") from None
    except RecursionError:
        raise _whole_file(path, None, "not usable: arrays or tables are nested too deep") from None
    except ValueError:  # Python reads no number with so many digits
        number = _LONG_NUMBER.search(text)
        where = text.count("\n", 0, number.start()) + 1 if number else None
        raise _whole_file(path, where, "not usable: a number has thousands of digits") from None


def _whole_file(path: Path, line: int | None, words: str) -> ConfigErrors:
    return ConfigErrors((ConfigError(path, line, None, None, words),))
