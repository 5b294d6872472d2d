"""The program as a whole: its commands, its help, its completion."""

import importlib.util
import subprocess
import sys

import click
import pytest
from tests.cli.conftest import Run

from waypost import __version__
from waypost.cli import COMMANDS
from waypost.cli.lab import lab

HEAVY = ("asyncio", "apsw", "argon2", "cryptography", "dns", "msgspec", "rich", "ssl", "uvloop", "waypost.config.load")


def test_help_names_every_command_and_imports_none_of_what_they_need() -> None:
    code = (
        "import sys\nfrom waypost.cli import program\n"
        "program(['--help'], standalone_mode=False)\n"
        f"print('heavy:', sorted(set({HEAVY!r}) & set(sys.modules)))"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert all(f"\n  {name} " in result.stdout for name in COMMANDS)
    assert result.stdout.endswith("heavy: []\n")


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_has_its_file_and_its_help(name: str, run: Run) -> None:
    assert importlib.util.find_spec(f"waypost.cli.{name}")
    assert f"Usage: waypost {name}" in run(name, "--help").output


def test_the_version_is_told(run: Run) -> None:
    assert run("--version").output == f"waypost {__version__}\n"


def test_a_mistyped_command_is_usage_and_the_nearest_is_named(run: Run) -> None:
    result = run("acount", status=2)
    assert 'There is no command "acount". Did you mean "account"?' in result.output
    assert "Did you mean" not in run("xyz", status=2).output


def test_a_lab_without_messages_in_its_last_scene_is_refused_before_anything_starts() -> None:
    with pytest.raises(click.BadParameter, match="0 is not in the range x>=1"):
        lab.make_context("lab", ["--burst", "0"])


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_a_shell_gets_a_completion_script(shell: str, run: Run) -> None:
    output = run("completion", shell).output
    assert f"_WAYPOST_COMPLETE={shell}_complete" in output and "waypost" in output


def test_commands_are_completed_with_their_help_without_being_imported() -> None:
    code = (
        "import sys\nfrom waypost.cli import main\n"
        "try: main()\n"
        "finally: print([name for name in sys.modules if name.startswith('waypost.cli.')])"
    )
    environment = {"_WAYPOST_COMPLETE": "fish_complete", "COMP_WORDS": "waypost a", "COMP_CWORD": "a"}
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment)
    assert "account" in result.stdout and "alias" in result.stdout and COMMANDS["alias"] in result.stdout
    assert result.stdout.endswith("[]\n"), result.stderr
