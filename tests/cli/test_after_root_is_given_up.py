"""A command becomes the owner of the data, who may be unable to read the program: nothing is imported from then on."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from tests.cli.conftest import Run

# What a process that gave up root can't do where the program stands below /root: read any more of it.
_BLIND = """
import sys
import waypost.cli.frame as frame

class Blind:
    def find_spec(self, name, path=None, target=None):
        raise ImportError(f"{name} is imported after root was given up")

frame.become_owner = lambda data: sys.meta_path.insert(0, Blind())
from waypost.cli import main
main()
"""


@pytest.mark.parametrize(
    "command",
    [
        "account add carol@example.org --password-stdin",
        "account passwd alice@example.org --password-stdin",
        "account list",
        "account disable alice@example.org",
        "account quota alice@example.org 1GiB",
        "account remove alice@example.org --yes",
        "alias add sales@example.org alice@example.org",
        "alias list",
        "domain list",
        "queue list",
        "queue stats --json",
        "queue show --domain builder.test",
        "queue retry --all",
        "queue hold --all --dry-run",
        "queue delete --all --yes",
        "queue return --all --yes",
        "status",
        "storage check",
        "trace nobody@nowhere.test",
    ],
)
def test_nothing_is_imported_after_root_is_given_up(config: Path, run: Run, command: str) -> None:
    run("account", "add", "alice@example.org", "--password-stdin", stdin="white-rabbit\n")
    done = subprocess.run(
        [sys.executable, "-c", _BLIND, *command.split()],
        input="a new password\n",
        env=os.environ | {"WAYPOST_CONFIG": str(config)},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert "after root was given up" not in done.stderr, done.stderr
    assert "Traceback" not in done.stderr, done.stderr
