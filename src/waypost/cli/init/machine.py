"""The changes of `waypost init` outside its directory, as root: the user of the workers, the owner of the data, the
systemd unit. Each is a separate step, which an option or an answer asks for.
"""

from __future__ import annotations

import importlib.resources
import os
import pwd
import re
import shlex
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from waypost.disk.files import exists, is_folder

UNIT = "waypost.service"
_USER = re.compile(r"[a-z_][a-z0-9_-]{0,31}")  # the names that useradd(8) accepts
_HOMES = (Path("/home"), Path("/root"), Path("/run/user"))  # the folders that ProtectHome= hides (systemd.exec(5))


class StepFailed(Exception):
    """A step failed; the message says why, and what to do by hand."""


@dataclass(frozen=True, slots=True)
class System:
    """The places of the machine's own files. `root` is another root folder, for tests and for building images."""

    root: Path = Path("/")

    @property
    def unit(self) -> Path:
        """The path of the unit."""
        return self.root / "etc/systemd/system" / UNIT

    @property
    def has_systemd(self) -> bool:
        """True where units can be installed."""
        return is_folder(self.root / "etc/systemd/system")

    @property
    def runs_systemd(self) -> bool:
        """True where systemd is the service manager now (sd_booted(3))."""
        return self.root == Path("/") and is_folder(Path("/run/systemd/system"))


def check_steps(system: System, *, user: str | None, unit: bool, start: bool, asks: bool) -> None:
    """Raise `StepFailed`, before any step is taken, when a step that an option asks for is impossible here."""
    root = os.geteuid() == 0
    if user is not None:
        if not root:
            raise StepFailed("--user: only root can make users and give data away")
        if user == "root":
            raise StepFailed("--user: the workers must not be root: name another user, such as waypost")
        if not _USER.fullmatch(user) and not user_exists(user):
            raise StepFailed(f"--user: {user!a} can't be the name of a system user; for example: waypost")
    if unit and not (root and system.has_systemd):
        raise StepFailed("--unit: it needs root, and /etc/systemd/system")
    if start and not (root and system.runs_systemd and (unit or asks or exists(system.unit))):
        raise StepFailed("--start: it needs root, a running systemd and the unit (--unit)")


def unit_differs(system: System, text: str) -> bool:
    """True when a different unit is installed."""
    return exists(system.unit) and system.unit.read_text() != text


def program() -> tuple[str, ...]:
    """Return the command by which a service manager starts this program."""
    called = Path(sys.argv[0]).absolute()
    return (str(called),) if called.name == "waypost" else (sys.executable, "-m", "waypost")


def user_exists(name: str) -> bool:
    """True when the machine has this user."""
    try:
        pwd.getpwnam(name)
    except KeyError:
        return False
    return True


def user_id(name: str) -> int:
    """Return the number of a user that exists."""
    return pwd.getpwnam(name).pw_uid


def make_user(name: str) -> None:
    """Make a system user without login and home. Raises `StepFailed`."""
    _run("useradd", "--system", "--user-group", "--no-create-home", "--shell", "/usr/sbin/nologin", name)


def give_data(data: Path, user: str) -> None:
    """Give the data directory to a user. Raises `StepFailed`."""
    from waypost.service.machine.problems import SetupProblem
    from waypost.service.processes.privileges import own_data, service_identity

    try:
        own_data(data, service_identity(user, data))
    except SetupProblem as problem:
        raise StepFailed("; ".join(problem.problems)) from None


def unit_text(words: Sequence[str], config: Path, data: Path) -> str:
    """Return the unit for a program, its configuration and its data directory."""
    text = importlib.resources.files("waypost.service").joinpath(UNIT).read_text()
    command = " ".join(map(_word, words))
    text = text.replace("/opt/waypost/.venv/bin/waypost", command)
    text = text.replace("/etc/waypost/waypost.toml", _word(str(config)))
    text = text.replace("ReadWritePaths=-/etc/waypost/data -/var/lib/waypost", f"ReadWritePaths={_word(f'-{data}')}")
    places = [Path(word) for word in words if word.startswith("/")] + [config, data]
    if any(place.is_relative_to(home) for place in places for home in _HOMES):
        text = text.replace("ProtectHome=yes", "ProtectHome=read-only")
    return text


def _word(text: str) -> str:
    """Return one word of a unit's line (systemd.syntax(7)): specifiers escaped, quoted if necessary."""
    escaped = text.replace("\\", "\\\\").replace("%", "%%").replace('"', '\\"')
    return f'"{escaped}"' if any(character.isspace() for character in text) or '"' in text else escaped


def install_unit(system: System, text: str) -> None:
    """Write the unit, and make systemd read it if systemd runs. Raises `StepFailed`."""
    fresh = system.unit.with_name(UNIT + ".new")
    try:
        fresh.write_text(text)
        fresh.chmod(0o644)
        fresh.replace(system.unit)
    except OSError as error:
        raise StepFailed(f"{system.unit}: {error.strerror}") from None
    if system.runs_systemd:
        _run("systemctl", "daemon-reload")


def start() -> None:
    """Start the service now and at each boot. Raises `StepFailed`."""
    _run("systemctl", "enable", "--now", "waypost")


def _run(*command: str) -> None:
    words = shlex.join(command)
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    except FileNotFoundError:
        raise StepFailed(f"there is no {command[0]} on this machine; do by hand what `{words}` would") from None
    if done.returncode:
        raise StepFailed(f"`{words}` failed: {(done.stderr or done.stdout).strip() or f'status {done.returncode}'}")
