"""The command behind `make torture`: a table when all is well, the broken promise and its folder when not."""

import tempfile
from functools import partial
from pathlib import Path

import pytest
from tests.torture import long, operators
from tests.torture.mistakes import MISTAKES
from tests.torture.power import PowerTorture


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(long, "DEEDS", 30)
    monkeypatch.setattr(long, "IMAGES", 8)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))


def test_it_ends_with_a_table(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert long.main(["--kills", "0", "--lives", "1", "--seed", "5"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "seed 5"
    assert "Nothing was lost." in lines
    assert [line.split()[-1] for line in lines if line.startswith("images of the disk")] == ["8"]
    assert list(tmp_path.iterdir()) == []


def test_mistakes_of_operators_are_a_table_too(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(operators, "MISTAKES", {"a segment removed": MISTAKES["a segment removed"]})
    assert long.main(["--kills", "0", "--lives", "0", "--mistakes", "1", "--seed", "5"]) == 0
    assert [line.split()[-1] for line in capsys.readouterr().out.splitlines() if "removed" in line] == ["1"]


def test_a_broken_promise_is_said_and_left_to_be_looked_at(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(long, "PowerTorture", partial(PowerTorture, deaf={"database"}))
    monkeypatch.setattr(long, "IMAGES", 80)
    assert long.main(["--kills", "0", "--lives", "1", "--seed", "5"]) == 1
    assert "BROKEN: seed 5, life 1, power lost at step" in capsys.readouterr().err
    (left,) = tmp_path.iterdir()
    assert (left / "power" / "failed").is_dir()
