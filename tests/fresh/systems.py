"""The systems that `make fresh` tries, and what can be tried on each: values only."""

import itertools
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class System:
    """A system that is installed from Debian's packages.

    `suite` is Debian's name of the release. `interpreter` is the version of CPython ("3.12") that Debian does not have
    and this machine lends; empty for the system's own `python3`.
    """

    name: str
    suite: str
    about: str
    interpreter: str = ""


SYSTEMS = {
    system.name: system
    for system in (
        System("debian12", "bookworm", "Debian 12, its own Python 3.11"),
        System("debian13", "trixie", "Debian 13, its own Python 3.13"),
        System("python3.12", "bookworm", "Debian 12, CPython 3.12 from elsewhere", interpreter="3.12"),
        System("python3.14", "testing", "Debian testing, its own Python 3.14"),
    )
}
"""By name."""

PEOPLE = ("root", "user")
COMMANDS = ("demo", "test")

INTERPRETER_HOME = "/opt"
"""Where an interpreter that this machine lends stands on the fresh one."""


@dataclass(frozen=True, slots=True)
class Trial:
    """One command by one person on one system."""

    system: System
    person: str
    command: str
    tests: str = ""
    """What `make test` runs; empty for everything."""

    @property
    def name(self) -> str:
        return f"{self.system.name}-{self.person}-{self.command}"

    @property
    def python(self) -> str:
        """The interpreter on the fresh machine."""
        version = self.system.interpreter
        return f"{INTERPRETER_HOME}/python{version}/bin/python{version}" if version else "python3"

    @property
    def make(self) -> str:
        """The command line."""
        python = f"PYTHON={self.python} " if self.system.interpreter else ""
        tests = f"TESTS='{self.tests}' " if self.tests and self.command == "test" else ""
        return f"make {python}{tests}{self.command}"


def trials(systems: list[str], people: list[str], commands: list[str], tests: str = "") -> Iterator[Trial]:
    """Yield every combination; an empty list stands for all. The short command comes first."""
    names = systems or list(SYSTEMS)
    for command, name, person in itertools.product(commands or COMMANDS, names, people or PEOPLE):
        yield Trial(SYSTEMS[name], person, command, tests)


def interpreter_of(version: str, named: dict[str, Path], homes: list[Path]) -> Path | None:
    """Return the prefix of a CPython `version`: the one `named` for it, else the newest below `homes`; None without.

    A prefix holds `bin/pythonX.Y` and `lib/pythonX.Y`. The homes are searched in their order.
    """
    if version in named:
        return named[version]
    for home in homes:
        for prefix in sorted((home, *home.glob(f"{version}.*")), key=_patch_level, reverse=True):
            if (prefix / "bin" / f"python{version}").exists() and (prefix / "lib" / f"python{version}").is_dir():
                return prefix
    return None


def _patch_level(prefix: Path) -> int:
    last = prefix.name.rpartition(".")[2]
    return int(last) if last.isdigit() else -1
