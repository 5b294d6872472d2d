"""The long form of the tortures: `python -m tests.torture.long --kills 200 --lives 20 --seed 1` (`make torture`).
`--mistakes 20` makes each mistake of an operator so often (`make torture-operators`).

It tells its progress, and then what it did as a table. When a promise broke, it ends with 1 and leaves its folder.
"""

import argparse
import asyncio
import logging
import shutil
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from tests.torture.kills import KillFigures, KillTorture, PromiseBroken
from tests.torture.operators import MistakePunished, OperatorFigures, OperatorTorture
from tests.torture.power import PowerFigures, PowerLossError, PowerTorture

NETWORK = "127.61.0"
DEEDS, IMAGES = 160, 100  # of each life

Row = tuple[str, int | str]


def main(arguments: Sequence[str]) -> int:
    """Torture as the arguments say; return the exit status."""
    parser = argparse.ArgumentParser(prog="python -m tests.torture.long", description=__doc__)
    parser.add_argument("--kills", type=int, default=200, help="kills of running hosts (%(default)s)")
    parser.add_argument("--lives", type=int, default=20, help=f"power losses, with {IMAGES} images each (%(default)s)")
    parser.add_argument("--mistakes", type=int, default=0, help="rounds of operators' mistakes (%(default)s)")
    parser.add_argument("--seed", type=int, default=int(time.time()), help="what decides on everything (the time)")
    wanted = parser.parse_args(arguments)
    print(f"seed {wanted.seed}", flush=True)
    folder = Path(tempfile.mkdtemp(prefix="waypost-torture-"))
    try:
        rows = [
            *_kill(folder, wanted.kills, wanted.seed),
            *_cut_power(folder, wanted.lives, wanted.seed),
            *_mistake(folder, wanted.mistakes, wanted.seed),
        ]
    except (PromiseBroken, PowerLossError, MistakePunished) as broken:
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


def _mistake(folder: Path, rounds: int, seed: int) -> list[Row]:
    if not rounds:
        return []
    log = logging.getLogger("waypost")
    before = log.level
    log.setLevel(logging.CRITICAL + 1)  # each mistake is said in the log, too
    began = time.monotonic()
    try:
        figures = asyncio.run(OperatorTorture(folder / "operators", seed, _tell).run(rounds))
    finally:
        log.setLevel(before)
    return mistake_rows(figures, time.monotonic() - began)


def mistake_rows(figures: OperatorFigures, seconds: float) -> list[Row]:
    """Return the lines of the table about operators' mistakes."""
    return [
        ("mistakes of operators", figures.mistakes.total()),
        *((f"  {mistake}", count) for mistake, count in figures.mistakes.items()),
        ("refused with what to do, and nothing changed", figures.refused),
        ("went on", figures.went_on),
        ("  of those, noticed as a restore, the queue held", figures.noticed),
        ("records of messages that had to be there still", figures.records),
        ("visits of mail programs that leave mail on the server", figures.visits),
        ("backups taken, verified and restored", figures.backups),
        ("messages that `storage recover` brought out", figures.recovered),
        ("seconds", round(seconds)),
    ]


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
