"""`make fresh`: `make demo` and `make test` on fresh machines, as root and as a user (docs/fresh-machines.md).

What came out right for the same commit is not tried again, so that a call goes on where the last one was stopped.
"""

import argparse
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from tests.fresh import results
from tests.fresh.registries import NoRegistry
from tests.fresh.results import Result
from tests.fresh.systems import COMMANDS, PEOPLE, SYSTEMS, Trial, trials
from tests.fresh.trying import REPOSITORY, Plan, attempt

PAGE = REPOSITORY / "docs" / "fresh-machines.md"


@dataclass(frozen=True, slots=True)
class Options:
    """The command line."""

    wanted: list[Trial]
    plan: Plan
    again: bool
    page: bool

    @property
    def file(self) -> Path:
        return self.plan.cache / "results.json"


def read(arguments: list[str]) -> Options:
    """Read the command line. Ends the program when it cannot be read."""
    parser = argparse.ArgumentParser(prog="make fresh ARGS=…", description=__doc__)
    parser.add_argument("--only", action="append", choices=SYSTEMS, default=[], help="a system; may be repeated")
    parser.add_argument("--as", action="append", choices=PEOPLE, default=[], dest="people", help="who runs it")
    parser.add_argument("--command", action="append", choices=COMMANDS, default=[], help="what is run")
    parser.add_argument("--tests", default="", metavar="PATHS", help="only these tests; the result is not kept")
    parser.add_argument("--load", type=int, default=0, metavar="N", help="beside N busy loops")
    parser.add_argument("--again", action="store_true", help="also what came out right for this commit")
    parser.add_argument("--keep", action="store_true", help="leave each machine's files in CACHE/machines")
    parser.add_argument("--commit", default="HEAD", help="what is tried; the checkout's HEAD if not given")
    parser.add_argument("--interpreter", action="append", type=_interpreter, default=[], metavar="X.Y=PREFIX")
    default = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "waypost-fresh"
    parser.add_argument("--cache", type=Path, default=default, help=f"roots, downloads, logs, results ({default})")
    parser.add_argument("--page", action="store_true", help="only write the results into docs/fresh-machines.md")
    options = parser.parse_args(arguments)
    said = subprocess.run(
        ["git", "-C", REPOSITORY, "rev-parse", "--verify", "--quiet", f"{options.commit}^{{commit}}"],
        capture_output=True,
        text=True,
        check=False,
    )
    if said.returncode != 0:
        parser.error(f"--commit: git knows no commit {options.commit!r}")
    plan = Plan(options.cache.absolute(), said.stdout.strip(), options.load, options.keep, dict(options.interpreter))
    wanted = list(trials(options.only, options.people, options.command, options.tests))
    return Options(wanted, plan, options.again, options.page)


def _interpreter(text: str) -> tuple[str, Path]:
    version, equals, prefix = text.partition("=")
    if not equals or not (Path(prefix) / "bin" / f"python{version}").exists():
        raise argparse.ArgumentTypeError(f"{text!r} is not X.Y=PREFIX with a program PREFIX/bin/pythonX.Y")
    return version, Path(prefix)


def main(arguments: list[str]) -> int:
    """Run; returns the exit status: 0 when all that was wanted came out right."""
    options = read(arguments)
    done = results.load(options.file)
    if options.page:
        return _write_page(done)
    if os.getuid() != 0:
        print("make fresh: only root can make such machines", file=sys.stderr)
        return 2
    options.plan.cache.mkdir(parents=True, exist_ok=True)
    for trial in options.wanted:
        before = done.get(trial.name)
        if before and _stands(before, trial, options):
            print(f"{results.line(before)} (on {before.date})")
            continue
        print(f"{trial.name}: {trial.make} …", flush=True)
        try:
            done[trial.name] = attempt(trial, options.plan)
        except (OSError, subprocess.CalledProcessError, NoRegistry) as error:
            print(f"{trial.name}: no machine: {error}", file=sys.stderr)
            return 2
        if not trial.tests:
            # Another call may run beside this one, and have written since.
            results.save(options.file, results.load(options.file) | {trial.name: done[trial.name]})
        print(results.line(done[trial.name]), flush=True)
    return _verdict([done[trial.name] for trial in options.wanted], options)


def _stands(before: Result, trial: Trial, options: Options) -> bool:
    """True when a trial came out right for this commit already, and is not to be repeated."""
    repeated = options.again or bool(trial.tests)
    return before.right and before.commit == options.plan.commit[:12] and not repeated


def _verdict(tried: list[Result], options: Options) -> int:
    wrong = [result for result in tried if not result.right]
    print(f"{len(tried) - len(wrong)} passed, {len(wrong)} failed")
    for result in wrong:
        print(f"  {results.line(result)}\n    {options.plan.cache}/logs/{result.trial}.log")
    return 1 if wrong else 0


def _write_page(done: dict[str, Result]) -> int:
    rows = results.table(done, list(trials([], [], [])))
    PAGE.write_text(results.rewrite(PAGE.read_text(), rows))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
