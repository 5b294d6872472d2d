"""One trial: a fresh machine, a clone of the checkout, one command, and what it left behind."""

import shutil
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path

from tests.fresh import results, roots
from tests.fresh.machine import CHECKOUT, Machine, State, fresh
from tests.fresh.results import Result
from tests.fresh.systems import Trial, interpreter_of

REPOSITORY = Path(__file__).parents[2]
_ROUNDS = 3  # a person who does what the output says is done after so many
_PATIENCE = 20.0  # seconds until what was told to end has ended


@dataclass(frozen=True, slots=True)
class Plan:
    """What all trials of a call share."""

    cache: Path
    commit: str
    load: int
    keep: bool
    interpreters: dict[str, Path]


def attempt(trial: Trial, plan: Plan) -> Result:
    """Run a trial. Raises `OSError`, `CalledProcessError` and `NoRegistry` when no machine could be made."""
    began = time.monotonic()
    date = time.strftime("%Y-%m-%d", time.gmtime())
    layers = [roots.built(trial.system, plan.cache)]
    version = trial.system.interpreter
    if version:
        homes = [Path("/usr/local"), Path("/usr"), Path.home() / ".pyenv" / "versions"]
        prefix = interpreter_of(version, plan.interpreters, homes)
        if prefix is None:
            fault = f"no CPython {version} on this machine to lend: name one by --interpreter {version}=PREFIX"
            return Result(trial.name, plan.commit[:12], date, version, 0, faults=(fault,))
        layers.insert(0, roots.lend_interpreter(prefix, version, plan.cache))
    log = plan.cache / "logs" / f"{trial.name}.log"
    log.parent.mkdir(exist_ok=True)
    folder = plan.cache / "machines" / trial.name
    archives = plan.cache / "archives" / trial.system.suite
    with fresh(layers, folder, trial.system.name.replace(".", "-"), archives, keep=plan.keep) as machine:
        _clone(folder, trial, plan.commit, machine)
        before = machine.state()
        log.write_text("")
        busy = [subprocess.Popen(["sh", "-c", "while :; do :; done"]) for _ in range(plan.load)]
        try:
            status, asked = _do_as_told(machine, trial, log)
        finally:
            for process in busy:
                process.kill()
                process.wait()
        faults = before.changes_to(_settled(machine, len(before.running)))
        python = machine.ask(trial.python, "-c", "import platform; print(platform.python_version())").strip()
    text = log.read_text(errors="replace")
    found = results.counts(text)
    if status != 0:
        faults.insert(0, f"`{trial.make}` ended with {status}")
    elif trial.command == "test" and not found["passed"]:
        faults.insert(0, "no test ran")
    seconds = round(time.monotonic() - began)
    return Result(
        trial.name, plan.commit[:12], date, python, seconds, **found, faults=tuple(faults), asked=asked, load=plan.load
    )


def _do_as_told(machine: Machine, trial: Trial, log: Path) -> tuple[int, tuple[str, ...]]:
    """Run the command; when it asks for something that root has to run, do that and begin again."""
    asked: list[str] = []
    checkout = CHECKOUT[trial.person]
    for _ in range(_ROUNDS):
        begin = log.stat().st_size
        with log.open("a") as output:
            status = machine.run(f"cd {checkout} && {trial.make}", trial.person, output)
        if status == 0:
            break
        wanted = results.advice(log.read_text(errors="replace")[begin:]) if trial.person == "user" else []
        new = [command for command in wanted if command not in asked]
        if not new:
            break
        for command in new:
            asked.append(command)
            with log.open("a") as output:
                machine.run(f"cd {checkout} && {command}", "root", output)
    return status, tuple(asked)


def _clone(folder: Path, trial: Trial, commit: str, machine: Machine) -> None:
    """Put a clone of the commit into the person's home."""
    clone = folder / "clone"
    subprocess.run(["git", "init", "--quiet", clone], check=True)
    # Any commit, also one that no branch has any more.
    server = "git -c uploadpack.allowAnySHA1InWant=true upload-pack"
    subprocess.run(["git", "-C", clone, "fetch", "--quiet", "--upload-pack", server, REPOSITORY, commit], check=True)
    subprocess.run(["git", "-C", clone, "checkout", "--quiet", "--detach", "FETCH_HEAD"], check=True)
    archive = subprocess.run(["tar", "-C", folder, "-c", "clone"], stdout=subprocess.PIPE, check=True).stdout
    shutil.rmtree(clone)
    machine.unpack(archive, CHECKOUT[trial.person], trial.person)


def _settled(machine: Machine, many: int) -> State:
    """Return the state when no more than `many` processes run, or after some patience."""
    until = time.monotonic() + _PATIENCE
    while len((state := machine.state()).running) > many and time.monotonic() < until:
        time.sleep(0.5)
    return state
