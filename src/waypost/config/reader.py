"""Reads the tables of a configuration into the frozen dataclasses of `settings.py`, by their fields' types.

It knows no setting by name. Every error is reported to the `Complaints`; a value that can't be read is left at its
default, so that the rest is still read and checked.
"""

import dataclasses
import difflib
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import Any, TypeVar, cast, get_args, get_origin, get_type_hints

from waypost.config.errors import Complaints, KeyPath, WrongValue
from waypost.config.kinds import kind_of
from waypost.config.settings import Settings

T = TypeVar("T")


@dataclasses.dataclass(frozen=True, slots=True)
class FileKey:
    """One key that a table of the file may have: its name, its field and the field's type."""

    name: str
    field: dataclasses.Field[Any]
    annotation: Any

    @property
    def required(self) -> bool:
        """True when the key has no default."""
        return self.field.default is dataclasses.MISSING and self.field.default_factory is dataclasses.MISSING

    @property
    def table(self) -> type[Any] | None:
        """The dataclass of the table that this key opens; None when it has a plain value."""
        candidates = [self.annotation, *get_args(self.annotation)]
        return next((each for each in candidates if dataclasses.is_dataclass(each) and isinstance(each, type)), None)

    @property
    def many(self) -> bool:
        """True for an array of tables."""
        return self.table is not None and get_origin(self.annotation) is tuple


def keys_of(table: type[Any]) -> dict[str, FileKey]:
    """Return the keys that may stand in a table, by name; a field's `metadata["key"]` may name it differently.

    Left out are fields that the loader fills ("key": None), and fields read from the end of another field's value
    ("behind").
    """
    hints = get_type_hints(table, include_extras=True)
    keys = {}
    for field in dataclasses.fields(table):
        name = field.metadata.get("key", field.name)
        if name is not None and "behind" not in field.metadata:
            keys[name] = FileKey(name, field, hints[field.name])
    return keys


class Reader:
    """Reads one document. `folder` is where relative paths begin."""

    def __init__(self, folder: Path, complaints: Complaints) -> None:
        self._folder = folder
        self._complaints = complaints
        self.places: dict[KeyPath, list[KeyPath]] = {}
        """For each array of tables: the paths of those tables that could be read, in their order."""

    def table(self, into: type[T], raw: Mapping[str, Any], path: KeyPath, given: Mapping[str, Any]) -> T | None:
        """Read a table; None when a required key is missing or wrong.

        `given` are values for fields that could not be read, or that are not in the file.
        """
        keys = keys_of(into)
        for name in raw:
            if name not in keys:
                self._complaints.about_key((*path, name), _unknown(name, path, keys))
        values = dict(given)
        for name, key in keys.items():
            if name in raw:
                self._read(key, raw[name], (*path, name), values)
            elif key.required:
                self._complaints.about_key((*path, name), f"missing; write for example {name} = {_example(key, path)}")
        fields: tuple[dataclasses.Field[Any], ...] = dataclasses.fields(cast(Any, into))
        for field in fields:
            origin = field.metadata.get("behind")
            if origin in values:
                values[origin], values[field.name] = values[origin]
        needed = {key.field.name for key in keys.values() if key.required}
        return into(**values) if needed <= values.keys() else None

    def _read(self, key: FileKey, raw: Any, path: KeyPath, values: dict[str, Any]) -> None:
        """Read one key's value into `values`; report it when it can't be read."""
        if key.table is None:
            try:
                values[key.field.name] = kind_of(key.annotation).read(raw, self._folder)
            except WrongValue as error:
                value = error.value if error.inside else raw
                self._complaints.about_value((*path, *error.inside), value, str(error))
        elif key.many:
            values[key.field.name] = self._tables(key.table, raw, path)
        elif not isinstance(raw, Mapping):
            self._complaints.about_value(path, raw, f"not a table; write [{'.'.join(map(str, path))}]")
        else:
            table = self.table(key.table, raw, path, {})
            if table is not None:
                values[key.field.name] = table

    def _tables(self, into: type[Any], raw: Any, path: KeyPath) -> tuple[Any, ...]:
        if not isinstance(raw, list) or not all(isinstance(each, Mapping) for each in raw):
            name = ".".join(map(str, path))
            self._complaints.about_key(path, f"not an array of tables; write [[{name}]] above the keys of each")
            return ()
        tables: list[Any] = []
        for index, each in enumerate(raw):
            table = self.table(into, each, (*path, index), {})
            if table is not None:
                tables.append(table)
                self.places.setdefault(path, []).append((*path, index))
        return tuple(tables)


def _unknown(name: str, path: KeyPath, known: Collection[str]) -> str:
    """Return words about an unknown key: the most similar known one, or the table where it belongs."""
    near = difflib.get_close_matches(name, known, n=1)
    if near:
        return f'no such key; did you mean "{near[0]}"?'
    here = tuple(part for part in path if isinstance(part, str))
    homes = [table for table, keys in _known_tables().items() if name in keys and table != here]
    if len(homes) == 1:
        place = f"[{'.'.join(homes[0])}]" if homes[0] else "the top of the file, above every [table]"
        return f"no such key here; it belongs to {place}"
    return "no such key; known here are " + ", ".join(known)


def _known_tables() -> dict[tuple[str, ...], dict[str, FileKey]]:
    return {(): keys_of(Settings)} | {path: keys_of(table) for path, table, _ in tables_of(Settings)}


def tables_of(table: type[Any], path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], type[Any], FileKey]]:
    """Yield all tables below a table, each before the tables inside it: its path of names, its class, and its key."""
    for name, key in keys_of(table).items():
        if key.table is not None:
            yield (*path, name), key.table, key
            yield from tables_of(key.table, (*path, name))


_EXAMPLES = {
    "hostname": '"mx.example.org"',
    "domains": '["example.org"]',
    "data": '"data"',
    "protocol": '"smtp"',
    "address": '"0.0.0.0:25"',
    "outbound.source.address": '"192.0.2.1"',
    "certificate": '"tls/cert.pem"',
    "key": '"tls/key.pem"',
    "host": '"relay.example.net"',
    "networks": '["192.168.7.40/32"]',
    "account": '"devices@example.org"',
    "senders": '["scanner@example.org"]',
}


def _example(key: FileKey, path: KeyPath) -> str:
    full = ".".join([part for part in path if isinstance(part, str)] + [key.name])
    return _EXAMPLES.get(full) or _EXAMPLES.get(key.name) or f"a {kind_of(key.annotation).name}"
