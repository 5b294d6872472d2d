"""A fresh machine: an overlay on a root file system, with mount, pid, net and uts namespaces of its own.

Its way out leads through slirp4netns, which cannot reach this machine's own addresses. Nothing of it is left afterwards
but the overlay's folder, and that only when it is to be kept.
"""

import fcntl
import json
import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from tests.fresh import registries

USER = "ann"
CHECKOUT = {"root": "/root/waypost", "user": f"/home/{USER}/waypost"}
OPEN_FILES = 1024
"""The soft limit of any login on Debian."""

_HERE = Path(__file__).parent
_NAME_SERVER = "10.0.2.3"  # slirp4netns answers there
_SYSTEM_PATH = "/usr/local/bin:/usr/bin:/bin"


@dataclass(frozen=True, slots=True)
class State:
    """What runs, and what would run after the next boot."""

    enabled: frozenset[str]
    running: frozenset[str]
    policy: bool
    """True when a `policy-rc.d` keeps services from starting."""

    def changes_to(self, after: "State") -> list[str]:
        """Say what `after` has that was not there before."""
        faults = [f"enabled since: {name}" for name in sorted(after.enabled - self.enabled)]
        faults += [f"still running: {name}" for name in sorted(after.running - self.running)]
        if after.policy and not self.policy:
            faults.append("left behind: /usr/sbin/policy-rc.d")
        return faults


@dataclass(frozen=True, slots=True)
class Machine:
    """A machine that runs. `process` is its first process, as this machine numbers it."""

    process: int

    def run(self, command: str, person: str, output: IO[str]) -> int:
        """Run a shell command in the home of a person ("root" or "user"), as after a login; returns its status."""
        output.write(f"{'#' if person == 'root' else '$'} {command}\n")
        output.flush()
        name, home = ("root", "/root") if person == "root" else (USER, f"/home/{USER}")
        path = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin" if person == "root" else _SYSTEM_PATH
        variables = registries.environment() | {
            **{"HOME": home, "USER": name, "LOGNAME": name, "SHELL": "/bin/bash", "PATH": path, "TERM": "dumb"},
            "PIP_CACHE_DIR": f"/var/cache/pip-{person}",
        }
        words = [f"{key}={value}" for key, value in variables.items()]
        become = [] if person == "root" else ["setpriv", "--reuid", name, "--regid", name, "--init-groups"]
        within = f"ulimit -Sn {OPEN_FILES} && cd ~ && {command}"
        return subprocess.run(
            [*self._enter(), "env", "-i", *words, *become, "bash", "-c", within],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            check=False,
        ).returncode

    def state(self) -> State:
        """Look at services and processes."""
        values = json.loads(self.ask("python3", "-c", (_HERE / "state.py").read_text()))
        return State(frozenset(values["enabled"]), frozenset(values["running"]), values["policy"])

    def ask(self, *command: str) -> str:
        """Return what a command of root prints. Raises `CalledProcessError`."""
        return subprocess.run([*self._enter(), *command], stdout=subprocess.PIPE, text=True, check=True).stdout

    def unpack(self, archive: bytes, folder: str, person: str) -> None:
        """Unpack a tar archive, without its first folder, into a new folder of a person."""
        owner = "root" if person == "root" else USER
        script = (
            f"mkdir {folder} && tar -C {folder} --strip-components=1 --no-same-owner -x && chown -R {owner}: {folder}"
        )
        subprocess.run([*self._enter(), "sh", "-c", script], input=archive, check=True)

    def _enter(self) -> list[str]:
        return ["nsenter", "--target", str(self.process), "--mount", "--pid", "--net", "--uts", "--"]


@contextmanager
def fresh(layers: list[Path], folder: Path, name: str, archives: Path, *, keep: bool = False) -> Iterator[Machine]:
    """Start a machine named `name` on these layers, the uppermost first, and end it.

    `folder` holds what it writes; `archives` the downloads that machines share. Raises `OSError`.
    """
    folder.parent.mkdir(parents=True, exist_ok=True)
    with folder.with_name(f"{folder.name}.lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise OSError(f"{folder} belongs to another run that goes on") from None
        with _started(layers, folder, name, archives, keep=keep) as machine:
            yield machine


@contextmanager
def _started(layers: list[Path], folder: Path, name: str, archives: Path, *, keep: bool) -> Iterator[Machine]:
    if folder.exists():
        shutil.rmtree(folder)
    for part in ("upper", "work", "root", "caches/apt"):
        (folder / part).mkdir(parents=True)
    for cache in ("apt", "pip-root", "pip-user"):
        (archives / cache).mkdir(parents=True, exist_ok=True)
        target = folder / "caches" / ("apt/archives" if cache == "apt" else cache)
        target.symlink_to((archives / cache).absolute())
    first = subprocess.Popen(
        ["unshare", "--mount", "--pid", "--net", "--uts", "--fork", "--kill-child"]
        + ["sh", str(_HERE / "inside.sh"), ":".join(map(str, layers)), str(folder), name],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        text=True,
    )
    way_out = None
    try:
        assert first.stdout is not None
        if first.stdout.readline() != "ready\n":
            raise OSError(f"no machine could be made in {folder}")
        [process] = Path(f"/proc/{first.pid}/task/{first.pid}/children").read_text().split()
        way_out = _open_way_out(int(process))
        machine = Machine(int(process))
        _furnish(machine, name)
        yield machine
    finally:
        for end in (first, way_out):
            if end is not None:
                end.kill()
                end.wait()
        if not keep:
            shutil.rmtree(folder)


def _open_way_out(process: int) -> subprocess.Popen[bytes]:
    """Start slirp4netns; returns when the network is there."""
    reader, writer = os.pipe()
    with os.fdopen(reader) as ready:
        command = ["slirp4netns", "--configure", "--mtu=65520", "--disable-host-loopback", f"--ready-fd={writer}"]
        running = subprocess.Popen(
            [*command, str(process), "tap0"],
            pass_fds=(writer,),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        os.close(writer)
        if ready.read(1) != "1":
            running.kill()
            running.wait()
            raise OSError("slirp4netns gave the machine no network")
    return running


def _furnish(machine: Machine, name: str) -> None:
    """What Debian's installer does beyond the packages: the host's name and its line in /etc/hosts, a first user."""
    hosts = rf"127.0.0.1\tlocalhost\n127.0.1.1\t{name}\n::1\tlocalhost ip6-localhost ip6-loopback\n"
    steps = (
        f"echo {name} > /etc/hostname",
        f"printf '{hosts}' > /etc/hosts",
        f"echo nameserver {_NAME_SERVER} > /etc/resolv.conf",
        f"useradd --create-home --shell /bin/bash {USER}",
        f"chown root: /var/cache/pip-root; chown -R {USER}: /var/cache/pip-user",
        "for lib in /opt/python*/lib; do [ ! -d $lib ] || echo $lib > /etc/ld.so.conf.d/lent.conf; done; ldconfig",
    )
    with Path(os.devnull).open("w") as nowhere:
        for step in steps:
            if machine.run(step, "root", nowhere) != 0:
                raise OSError(f"a step of the machine's set-up failed: {step}")
