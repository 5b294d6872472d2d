"""A host to run commands on: made as an operator makes it, without processes."""

from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from waypost.cli import program

Run = Callable[..., Result]


@pytest.fixture(autouse=True)
def no_configuration_from_outside(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Commands see neither the environment's configuration nor one in the working directory."""
    monkeypatch.delenv("WAYPOST_CONFIG", raising=False)
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def run() -> Run:
    """Run `waypost` in this process: `run("account", "list", stdin="...")`."""

    def run(*arguments: str, stdin: str | bytes = "", status: int = 0) -> Result:
        result = CliRunner().invoke(program, arguments, input=stdin, prog_name="waypost")
        assert result.exit_code == status, f"{arguments}: {result.exit_code}: {result.output}"
        return result

    return run


@pytest.fixture
def config(tmp_path: Path, run: Run, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The configuration of a fresh host for example.org and example.net, which commands find by $WAYPOST_CONFIG."""
    names = ["--domain", "example.org", "--domain", "example.net", "--hostname", "mx.example.org"]
    run("init", str(tmp_path / "host"), *names)
    config = tmp_path / "host" / "waypost.toml"
    monkeypatch.setenv("WAYPOST_CONFIG", str(config))
    return config
