"""The interfaces of storage are of no engine: what they import and say, who names an engine, and what the suite uses.

`[tool.importlinter]` in `pyproject.toml` says the same of imports; here is what it can't see.
"""

import ast
import re
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SOURCE = ROOT / "src" / "waypost"
INTERFACES = sorted((SOURCE / "storage").glob("*.py"))
SUITE = sorted((ROOT / "tests" / "storage").glob("test_storage_*.py"))
NAMING = {SOURCE / "storage" / "engine" / "opening.py", SOURCE / "storage" / "engine" / "upkeep.py"}
"""The files that may name an engine; there are never more than two."""

OF_AN_ENGINE = re.compile(
    r"sqlite|apsw|\b(files?|folders?|descriptors?|threads?|disks?|sockets?|datagrams?|segments?|offsets?|flock|fsync|"
    r"wal|rows?|memory)\b",
    re.IGNORECASE,
)
"""Words for parts and places of the embedded engine."""

ALLOWED = {"logging", "collections.abc", "dataclasses", "enum", "typing", "msgspec", "msgspec.structs"}
"""What the interfaces import beside values of messages and of each other: nothing that a machine has."""


def imports(path: Path) -> Iterator[str]:
    """Yield the modules that a file imports, wherever it does."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (name.name for name in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield node.module or ""


def names(path: Path) -> Iterator[str]:
    """Yield the names of everything that a file defines, and of all parameters."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            yield node.name
        elif isinstance(node, ast.arg):
            yield node.arg
        elif isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
            yield node.target.id


@pytest.mark.parametrize("path", INTERFACES, ids=lambda path: path.name)
def test_an_interface_imports_values_alone(path: Path) -> None:
    others = ("waypost.journal", "waypost.message", "waypost.protocol.canonical", "waypost.storage")
    found = [name for name in imports(path) if name not in ALLOWED and not name.startswith(others)]
    found += [name for name in imports(path) if name.startswith(("waypost.storage.sqlite", "waypost.storage.engine"))]
    assert found == []


@pytest.mark.parametrize("path", INTERFACES, ids=lambda path: path.name)
def test_an_interface_says_nothing_of_an_engines_parts(path: Path) -> None:
    said = [line for line in path.read_text().splitlines() if OF_AN_ENGINE.search(line)]
    assert said == []
    assert not {"place", "fd", "connection"} & set(names(path))


def test_an_engine_makes_no_event_and_knows_no_kind_of_one() -> None:
    """It stores octets; what the journal tells is decided beside the interfaces, and above them."""
    known: set[str] = set()
    made: list[str] = []
    for path in (SOURCE / "storage" / "sqlite").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("waypost.journal"):
                known |= {name.name for name in node.names}
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "Event":
                made.append(f"{path.name}:{node.lineno}")
    assert known == {"Event", "UnreadableEvent", "decode", "encode"} and made == []


def test_two_files_name_the_engine_and_no_other() -> None:
    engine = SOURCE / "storage" / "sqlite"
    naming = {
        path
        for path in SOURCE.rglob("*.py")
        if engine not in path.parents and re.search("sqlite|apsw", path.read_text(), re.IGNORECASE)
    }
    assert naming == NAMING


def test_the_import_rules_know_every_room_and_every_interface() -> None:
    contracts = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]["contracts"]
    (engine,) = (one for one in contracts if one["name"] == "Two files name the engine of storage")
    assert {"waypost.storage.sqlite", "apsw"} <= set(engine["forbidden_modules"])
    rooms = {
        f"waypost.{path.stem}" for path in SOURCE.iterdir() if (path / "__init__.py").exists() or path.suffix == ".py"
    }
    rooms -= {"waypost.__init__", "waypost.storage"}
    interfaces = {f"waypost.storage.{path.stem}" for path in INTERFACES if path.stem != "__init__"}
    assert set(engine["source_modules"]) == rooms | interfaces
    (pure,) = (one for one in contracts if one["name"] == "The interfaces of storage know no machine")
    assert set(pure["source_modules"]) == interfaces


@pytest.mark.parametrize("path", SUITE, ids=lambda path: path.name)
def test_the_suite_uses_the_interfaces_alone(path: Path) -> None:
    assert [name for name in imports(path) if "sqlite" in name or name in ("apsw", "os", "pathlib")] == []
    text = path.read_text()
    assert not re.search(r"sqlite|\.data\b|\._\w|\btmp_path\b|storage\.faults", text, re.IGNORECASE)


def test_the_suite_takes_its_engine_as_a_parameter() -> None:
    """An engine joins the suite by its name in `ENGINES`, and by what opens it."""
    from tests.storage.engines import ENGINES

    assert ENGINES
    text = (ROOT / "tests" / "storage" / "conftest.py").read_text()
    assert "params=ENGINES" in text and "sqlite" not in text


def test_a_decision_says_for_every_method_what_another_engine_would_run() -> None:
    (record,) = (ROOT / "docs" / "decisions").glob("*-what-another-engine-would-run.md")
    told = set(re.findall(r"`(\w+)`", record.read_text()))
    methods = set()
    for path in (*INTERFACES, SOURCE / "storage" / "engine" / "opening.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.ClassDef) and any(ast.unparse(base) == "Protocol" for base in node.bases):
                methods |= {one.name for one in node.body if isinstance(one, ast.FunctionDef | ast.AsyncFunctionDef)}
    assert methods - told - {"size", "storage", "commits"} == set()
