"""Whether a name exists, on every Python: what can't be told is an error, and never "missing" (disk/files.py)."""

import ast
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from waypost.disk.files import exists, is_file, is_folder

SOURCE = Path(__file__).parents[2] / "src" / "waypost"
SWALLOW = frozenset({"exists", "is_dir", "is_file"})
"""Methods of `pathlib.Path` that return False for any error since Python 3.14."""


def test_what_is_there_is_told_by_its_kind(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.touch()
    found = {path: (exists(path), is_folder(path), is_file(path)) for path in (tmp_path, file, tmp_path / "none")}
    assert list(found.values()) == [(True, True, False), (True, False, True), (False, False, False)]


def test_nothing_is_below_a_file_and_behind_a_link_to_itself(tmp_path: Path) -> None:
    file, link = tmp_path / "file", tmp_path / "link"
    file.touch()
    link.symlink_to(link)
    assert not exists(file / "below")
    assert not exists(link)


@pytest.mark.parametrize("ask", [exists, is_folder, is_file])
def test_what_can_not_be_told_is_an_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, ask: Callable[[Path], bool]
) -> None:
    def forbidden(path: Path, **_: object) -> os.stat_result:
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(Path, "stat", forbidden)
    with pytest.raises(PermissionError):
        ask(tmp_path)


def test_no_file_of_the_program_asks_in_a_way_that_hides_errors() -> None:
    found = [
        f"{file.relative_to(SOURCE)}:{node.lineno}"
        for file in sorted(SOURCE.rglob("*.py"))
        for node in ast.walk(ast.parse(file.read_text()))
        if isinstance(node, ast.Call)
        and isinstance(node.func, ast.Attribute)
        and node.func.attr in SWALLOW
        and not node.args
    ]
    assert not found, f"{found}: use waypost.disk.files"
