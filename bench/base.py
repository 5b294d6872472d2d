"""Another commit of Waypost as a contender: built from its own sources, measured by its own benchmark.

A commit is exported to `.bench/HASH` with a virtual environment of its own, which is kept for the next run. Each run is
a process of that environment, so that both sides meet the storage, settings and libraries that belong to them. What
is asked of a commit's benchmark is `run`, `waypost` and `VARIANTS` of its `bench/accept.py`.
"""

import json
import shutil
import statistics
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from bench.harness import Result, Run, give_way, report, take_turns
from bench.meter import Cost

ROOT = Path(__file__).parents[1]
_KEPT = ROOT / ".bench"
_BUILDS = 3  # builds that are kept: each takes about 150 MB

_ONE_RUN = """
import dataclasses, json, sys
from bench.accept import VARIANTS, run, waypost
name, messages = sys.argv[1:]
done = run(waypost, VARIANTS[name], int(messages))
print(json.dumps({"units": done.units, "cost": dataclasses.asdict(done.cost)}))
"""


def compare_with(revision: str, variant: str, messages: int, rounds: int, *, most: float) -> float:
    """Run this tree and another commit in turn; return the median ratio of the server's CPU time a message.

    `most` is the aim: the ratio that may not be exceeded. Ends the process with a message when the commit can't be
    built.
    """
    base = build(revision)
    contenders: list[tuple[str, Callable[[], Run]]] = [
        ("this tree", lambda: _one_run(ROOT, Path(sys.executable), variant, messages)),
        (revision, lambda: _one_run(base, base / ".venv/bin/python", variant, messages)),
    ]
    give_way()  # each run is a process of its own, which takes the machine for itself
    results = take_turns(contenders, rounds)
    report(f"accept {variant}: {messages} messages, this tree and {revision}", "message", results)
    ratio = cpu_ratio(results)
    words = "ok" if ratio <= most else "MISSED"
    print(f"  the server's CPU a message, median of {rounds} pairs: {ratio:.3f}   aim: at most {most:.2f}: {words}")
    return ratio


def cpu_ratio(results: Sequence[Result]) -> float:
    """Return the median, over the pairs, of the first one's CPU time a message over the second one's."""
    first, second = ([run.cost.server / run.units for run in result.runs] for result in results[:2])
    return statistics.median(ours / theirs for ours, theirs in zip(first, second, strict=True))


def build(revision: str) -> Path:
    """Return the folder of a commit, exported and installed; ends the process when that fails."""
    named = subprocess.run(
        ["git", "rev-parse", "--verify", "--quiet", f"{revision}^{{commit}}"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    if named.returncode:
        sys.exit(
            f"--base {revision}: no such commit in {ROOT} (a shallow clone lacks older ones: git fetch --unshallow)"
        )
    folder = _KEPT / named.stdout.strip()[:12]
    built = folder / ".venv/.built"
    if built.exists():
        return folder
    print(f"building {revision} in {folder}", flush=True)
    _keep_newest(_BUILDS - 1)
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    archive = subprocess.run(["git", "archive", named.stdout.strip()], cwd=ROOT, capture_output=True, check=True)
    subprocess.run(["tar", "-x"], input=archive.stdout, cwd=folder, check=True)
    venv = folder / ".venv"
    subprocess.run([sys.executable, "-m", "venv", str(venv)], check=True)
    pip = [str(venv / "bin/python"), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    # Libraries that both sides need have the same version on both.
    frozen = subprocess.run(
        [sys.executable, "-m", "pip", "freeze", "--exclude-editable"], capture_output=True, text=True, check=True
    )
    constraints = folder / ".venv/constraints.txt"
    constraints.write_text(
        "".join(line for line in frozen.stdout.splitlines(True) if "==" in line and "waypost" not in line)
    )
    if subprocess.run([*pip, "--constraint", str(constraints), "--editable", str(folder)], check=False).returncode:
        sys.exit(f"--base {revision}: its libraries could not be installed")
    built.touch()
    return folder


def _keep_newest(count: int) -> None:
    """Remove all builds but the newest ones."""
    builds = sorted(_KEPT.glob("*/"), key=lambda folder: folder.stat().st_mtime, reverse=True)
    for folder in builds[count:]:
        shutil.rmtree(folder)


def _one_run(folder: Path, python: Path, variant: str, messages: int) -> Run:
    done = subprocess.run(
        [str(python), "-c", _ONE_RUN, variant, str(messages)],
        cwd=folder,
        stdout=subprocess.PIPE,
        text=True,
        check=False,
    )
    if done.returncode:
        raise RuntimeError(f"the benchmark of {folder} failed")
    said = json.loads(done.stdout.splitlines()[-1])
    return Run(said["units"], Cost(**said["cost"]))
