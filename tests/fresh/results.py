"""What came out: a file that a later run goes on from, and the table of docs/fresh-machines.md."""

import json
import re
from dataclasses import asdict, dataclass
from pathlib import Path

from tests.fresh.systems import Trial

_SUMMARY = re.compile(r"^=+ (.*\b(?:passed|failed|errors?)\b.*) in [\d.]+s.* =+$", re.M)
_COUNT = re.compile(r"(\d+) (passed|failed|errors?|skipped)")
_ADVICE = re.compile(r"^ +sudo (.+)$", re.M)
_TABLE = re.compile(r"(<!-- results -->\n).*(<!-- end of results -->)", re.S)


@dataclass(frozen=True, slots=True)
class Result:
    """One trial. `date` is of UTC; `seconds` are the whole trial's, downloads included."""

    trial: str
    commit: str
    date: str
    python: str
    seconds: int
    passed: int = 0
    failed: int = 0
    skipped: int = 0
    faults: tuple[str, ...] = ()
    """Why it did not come out right; empty when it did."""
    asked: tuple[str, ...] = ()
    """What the person was told to run as root, and ran."""
    load: int = 0

    @property
    def right(self) -> bool:
        return not self.faults


def counts(log: str) -> dict[str, int]:
    """Return the numbers of pytest's last line: passed, failed (errors included), skipped; all 0 without one."""
    found = {"passed": 0, "failed": 0, "skipped": 0}
    for number, word in _COUNT.findall((_SUMMARY.findall(log) or [""])[-1]):
        found["failed" if word.startswith("error") else word] += int(number)
    return found


def advice(log: str) -> list[str]:
    """Return the commands that an output asks somebody to run as root: lines `    sudo COMMAND`, without `sudo`."""
    return [command.replace("sudo ", "") for command in _ADVICE.findall(log)]


def load(file: Path) -> dict[str, Result]:
    """Return the results so far, by the trial's name."""
    if not file.exists():
        return {}
    rows = json.loads(file.read_text())
    return {
        row["trial"]: Result(**row | {"faults": tuple(row["faults"]), "asked": tuple(row["asked"])}) for row in rows
    }


def save(file: Path, results: dict[str, Result]) -> None:
    """Write the results; the file is whole at any moment."""
    half = file.with_suffix(".half")
    half.write_text(json.dumps([asdict(result) for result in results.values()], indent=1) + "\n")
    half.replace(file)


def line(result: Result) -> str:
    """Return a result in one line for people."""
    tests = f"{result.passed} passed, {result.failed} failed, " if result.passed or result.failed else ""
    words = "as it should" if result.right else "; ".join(result.faults)
    return f"{result.trial}: {tests}{result.seconds} s, Python {result.python}: {words}"


def table(results: dict[str, Result], trials: list[Trial]) -> str:
    """Return the table of the manual: one row a trial, in the trials' order."""
    rows = [
        "| system | person | command | Python | date | tests | minutes | outcome |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for trial in trials:
        cells = [trial.system.about, trial.person, f"`make {trial.command}`"]
        result = results.get(trial.name)
        if result is None:
            rows.append(f"| {' | '.join(cells)} | | | | | not tried |")
            continue
        tests = f"{result.passed} passed, {result.skipped} skipped" if result.passed else ""
        outcome = "as it should" if result.right else "; ".join(result.faults)
        outcome += f", beside {result.load} busy loops" if result.load else ""
        minutes = f"{result.seconds / 60:.1f}"
        rows.append(f"| {' | '.join([*cells, result.python, result.date, tests, minutes, outcome])} |")
    return "\n".join(rows) + "\n"


def rewrite(page: str, rows: str) -> str:
    """Return the page with its table replaced. Raises `ValueError` when the page has no place for it."""
    written, times = _TABLE.subn(lambda found: found[1] + rows + found[2], page)
    if times != 1:
        raise ValueError("the page has no `<!-- results -->` and `<!-- end of results -->`")
    return written
