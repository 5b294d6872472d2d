"""docs/configuration.md, made from `settings.py`: the types, the defaults, and the docstrings under the fields.

`python -m waypost.config.reference > docs/configuration.md`
"""

import ast
import inspect
import sys
from collections.abc import Iterator
from typing import Any

from waypost.config import settings
from waypost.config.kinds import kind_of
from waypost.config.reader import FileKey, keys_of, tables_of
from waypost.config.settings import Settings
from waypost.config.template import configuration

_OPENING = """\
<!-- Made by `python -m waypost.config.reference` from src/waypost/config/settings.py: change that file. -->

# Configuration

One TOML file. `waypost init` writes one; `waypost check` names each error by file, line and key, and what would be
right. Commands look for it at `--config FILE`, `$WAYPOST_CONFIG`, `./waypost.toml` and `/etc/waypost/waypost.toml`, in
this order. A running service reads it again by `waypost reload`.

## The fewest keys

```toml
{template}```

## How values are written

| value | form |
|---|---|
| duration | a whole number with `ms`, `s`, `m`, `h` or `d`: `"500ms"`, `"2s"`, `"5m"`, `"4h"`, `"5d"` |
| size | octets, or a text with `KiB`, `MiB`, `GiB` or `TiB`: `65536`, `"64 KiB"` |
| domain name | in any form: `"bücher.example"` is `"xn--bcher-kva.example"` |
| path | relative to the configuration file, or absolute |
| IP address and port | `"192.0.2.1:25"`, `"[2001:db8::1]:25"` |
"""


def render() -> str:
    """Return the whole page."""
    manuals = _manuals()
    parts = [_OPENING.format(template=configuration(hostname="mx.example.org", domains=("example.org",)))]
    parts.append("\n## At the top of the file\n\n")
    parts.append(_table(_plain_keys(Settings), manuals["Settings"][1]))
    for path, table, key in tables_of(Settings):
        opening, fields = manuals[table.__name__]
        name = ".".join(path)
        heading = f"[[{name}]]" if key.many else f"[{name}]"
        parts.append(f"\n## {heading}\n\n{_paragraphs(opening, heading)}\n\n")
        parts.append(_table(_plain_keys(table), fields))
    return "".join(parts)


def _plain_keys(table: type[Any]) -> list[FileKey]:
    """Return the keys of a table that open no further one."""
    return [key for key in keys_of(table).values() if key.table is None]


def _table(keys: list[FileKey], manual: dict[str, str]) -> str:
    lines = ["| key | value | default | meaning |", "|---|---|---|---|"]
    for key in keys:
        kind = kind_of(key.annotation)
        cells = (f"`{key.name}`", kind.name, _default(key), " ".join(manual[key.field.name].split()))
        lines.append("| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |")
    return "\n".join(lines) + "\n"


def _default(key: FileKey) -> str:
    if key.required:
        return "required"
    default: Any = key.field.default
    return "" if default is None else f"`{kind_of(key.annotation).write(default)}`"


def _paragraphs(opening: str, heading: str) -> str:
    """Return a class's docstring without the name of the table, which is the heading already."""
    text = inspect.cleandoc(opening).removeprefix(f"`{heading}`: ")
    return text[:1].upper() + text[1:]


def _manuals() -> dict[str, tuple[str, dict[str, str]]]:
    """Return for each class of `settings.py` its docstring and those of its fields."""
    tree = ast.parse(inspect.getsource(settings))
    classes = [node for node in tree.body if isinstance(node, ast.ClassDef)]
    return {each.name: (ast.get_docstring(each) or "", dict(_field_docstrings(each))) for each in classes}


def _field_docstrings(node: ast.ClassDef) -> Iterator[tuple[str, str]]:
    for field, behind in zip(node.body, node.body[1:], strict=False):
        if (
            isinstance(field, ast.AnnAssign)
            and isinstance(field.target, ast.Name)
            and isinstance(behind, ast.Expr)
            and isinstance(behind.value, ast.Constant)
        ):
            yield field.target.id, str(behind.value.value)


def undocumented() -> list[str]:
    """Return the settings without a docstring, as `table.key`; there should be none."""
    manuals = _manuals()
    tables: list[type[Any]] = [Settings, *(table for _, table, _ in tables_of(Settings))]
    return [
        f"{table.__name__}.{key.name}"
        for table in tables
        for key in _plain_keys(table)
        if key.field.name not in manuals[table.__name__][1]
    ]


if __name__ == "__main__":
    sys.stdout.write(render())
