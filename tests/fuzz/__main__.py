"""The fuzzer's long form: `python -m tests.fuzz --seconds 600 [--target NAME] [--seed N] [--case N]`.

It goes round the targets until the time is over, and prints what it found; the exit status is 1 then. A finding names
its target, seed and case; with these three it is run again alone.
"""

import argparse
import sys
import time

from tests.fuzz import parsers, sessions
from tests.fuzz.target import Finding, fuzz

TARGETS = {target.name: target for target in (*sessions.TARGETS, *parsers.TARGETS)}
_ROUND = 200  # cases of one target at a time


def main() -> int:
    """Run; returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz")
    parser.add_argument("--seconds", type=float, default=60.0, help="how long, over all targets")
    parser.add_argument("--target", choices=sorted(TARGETS), action="append", help="may be repeated; default: all")
    parser.add_argument("--seed", type=int, default=None, help="default: another one each time")
    parser.add_argument("--case", type=int, default=None, help="run this one case only")
    options = parser.parse_args()
    seed = time.time_ns() // 1_000_000_000 if options.seed is None else options.seed
    names = options.target or sorted(TARGETS)
    if options.case is not None:
        return _cases(names, seed, range(options.case, options.case + 1))
    found, number, until = 0, 0, time.monotonic() + options.seconds
    while names and time.monotonic() < until:
        for name in list(names):
            if _cases([name], seed, range(number, number + _ROUND)):
                names.remove(name)  # one finding a target is enough for a day
                found = 1
        number += _ROUND
    print(f"seed {seed}: {number} cases of each target")
    return found


def _cases(names: list[str], seed: int, numbers: range) -> int:
    for name in names:
        for number in numbers:
            try:
                fuzz(TARGETS[name], seed, number)
            except Finding as finding:
                print(finding, end="\n\n", flush=True)
                return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
