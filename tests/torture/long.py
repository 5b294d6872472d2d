"""The long form of both tortures: `python -m tests.torture.long --kills 200 --lives 20 --seed 1` (`make torture`).

It tells its progress, and then what it did as a table. When a promise broke, it ends with 1 and leaves its folder.
"""

import argparse
import asyncio
import shutil
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from tests.torture.kills import KillFigures, KillTorture, PromiseBroken
from tests.torture.power import PowerFigures, PowerLossError, PowerTorture

NETWORK = "127.61.0"
DEEDS, IMAGES = 160, 100  # of each life

Row = tuple[str, int | str]


def main(arguments: Sequence[str]) -> int:
    """Torture as the arguments say; return the exit status."""
    parser = argparse.ArgumentParser(prog="python -m tests.torture.long", description=__doc__)
    parser.add_argument("--kills", type=int, default=200, help="kills of running hosts (%(default)s)")
    parser.add_argument("--lives", type=int, default=20, help=f"power losses, with {IMAGES} images each (%(default)s)")
    parser.add_argument("--seed", type=int, default=int(time.time()), help="what decides on everything (the time)")
    wanted = parser.parse_args(arguments)
    print(f"seed {wanted.seed}", flush=True)
    folder = Path(tempfile.mkdtemp(prefix="waypost-torture-"))
    try:
        rows = [*_kill(folder, wanted.kills, wanted.seed), *_cut_power(folder, wanted.lives, wanted.seed)]
    except (PromiseBroken, PowerLossError) as broken:
        print(f"\nBROKEN: {broken}\n\nEverything is left in {folder}", file=sys.stderr)
        return 1
    shutil.rmtree(folder)
    print("\nNothing was lost.\n")
    for what, figure in rows:
        print(f"{what:<66}{figure:>10}")
    return 0


def _tell(line: str) -> None:
    print(f"{time.strftime('%H:%M:%S')}  {line}", flush=True)


def _kill(folder: Path, kills: int, seed: int) -> list[Row]:
    if not kills:
        return []
    place = folder / "kills"
    place.mkdir()
    return kill_rows(asyncio.run(KillTorture(place, NETWORK, seed, _tell).run(kills)))


def _cut_power(folder: Path, lives: int, seed: int) -> list[Row]:
    if not lives:
        return []
    place = folder / "power"
    place.mkdir()
    began = time.monotonic()
    figures = asyncio.run(PowerTorture(place, seed, tell=_tell).run(lives=lives, deeds=DEEDS, images=IMAGES))
    return power_rows(figures, time.monotonic() - began)


def kill_rows(figures: KillFigures) -> list[Row]:
    """Return the lines of the table about kills."""
    return [
        ("kills", figures.kills.total()),
        *((f"  of {victim}", count) for victim, count in sorted(figures.kills.items())),
        ("messages acknowledged", figures.messages),
        ("  sent again, since their answer was lost", figures.unanswered),
        ("  of those, stored the first time, too", figures.stored_twice),
        ("ends that were looked at: mailbox, sink or report", figures.ends),
        ("  of those, reports to the sender", figures.reports),
        ("messages deleted by an acknowledged QUIT", figures.deletions),
        ("QUITs without an answer", figures.doubtful_quits),
        ("relayed twice, the answer being in flight at a kill", figures.duplicates),
        ("  at most at one kill", figures.most_duplicates),
        ("data directories checked as a kill left them", figures.checks),
        ("seconds", round(figures.seconds)),
    ]


def power_rows(figures: PowerFigures, seconds: float) -> list[Row]:
    """Return the lines of the table about power losses."""
    return [
        ("lives that ended in a power loss", figures.lives),
        ("deeds: acceptances, outcomes, deletions", figures.deeds),
        ("steps of the disk recorded", figures.steps),
        ("images of the disk inspected", figures.images),
        ("  of those, with the log half moved", figures.checkpoints),
        ("images of a second power loss, in the recovery from the first", figures.recoveries),
        ("seconds", round(seconds)),
    ]


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
