"""The worked examples that are kept as diffs apply to the source as it is, and what they add works."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from tests.docs.pages import ROOT

IMAP = ROOT / "docs/examples/imap-listener.diff"
_PARTS = ("src", "tests", "docs", "pyproject.toml", "CHANGELOG.md")


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    """A copy of the repository, without what was built in it."""
    for part in _PARTS:
        if (ROOT / part).is_dir():
            shutil.copytree(ROOT / part, tmp_path / part, ignore=shutil.ignore_patterns("__pycache__", "*.egg-info"))
        else:
            shutil.copy(ROOT / part, tmp_path / part)
    return tmp_path


def run(folder: Path, *command: str) -> str:
    """Run a command in the copy, whose source comes before ours; return what it said."""
    away = {"PYTEST_XDIST_WORKER", "PYTEST_CURRENT_TEST", "PYTEST_ADDOPTS"}
    environment = {name: value for name, value in os.environ.items() if name not in away}
    # Git must not find the repository around the copy, nor any other.
    environment |= {"PYTHONPATH": str(folder / "src"), "GIT_CEILING_DIRECTORIES": str(folder.parent)}
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_an_imap_listener_is_a_short_diff_in_the_rooms_where_it_belongs_and_works(copy: Path) -> None:
    run(copy, "git", "apply", "--check", str(IMAP))
    run(copy, "git", "apply", str(IMAP))
    touched = {line[6:] for line in IMAP.read_text().splitlines() if line.startswith("+++ b/")}
    assert {name for name in touched if name.startswith("src/")} == {
        "src/waypost/access/imap.py",
        "src/waypost/config/listener_protocols.py",
        "src/waypost/config/settings.py",  # its manual
        "src/waypost/protocol/imap/__init__.py",
        "src/waypost/protocol/imap/server.py",
        "src/waypost/service/session_makers.py",
    }
    mine = ("tests/access/test_imap.py", "tests/config/test_config_reference.py", "tests/service/test_protocols.py")
    said = run(copy, sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *mine)
    assert " passed" in said
