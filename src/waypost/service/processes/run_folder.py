"""`data/run/`: who runs on this data directory. One service holds `service.lock`; each worker holds its number's lock,
so that numbers are unique among live processes even when a supervisor was killed; `service.json` says it to people.

The folder belongs to the workers' user, and root writes into it: so it is reached by descriptor, and no link followed.
"""

import contextlib
import errno
import fcntl
import json
import logging
import os
import stat
from pathlib import Path
from typing import Any

from waypost.disk.ownership import forbidden, whose
from waypost.service.machine.problems import SetupProblem, machine_words
from waypost.service.processes.privileges import Identity

log = logging.getLogger(__name__)

_STATE = "service.json"
CONFIGURATION = "waypost.toml"
"""The copy of the configuration in force."""
_LOCK = "service.lock"
_MAINTENANCE = "maintenance.lock"
_SECRET = "login.secret"
_SECRET_OCTETS = 32
_MOST_WORKERS = 1023  # the largest number is the command line's


class RunFolder:
    """The folder `run` of a data directory, made if it is missing. Raises `SetupProblem`."""

    def __init__(self, data: Path, identity: Identity | None = None) -> None:
        self._path = data / "run"
        self._identity = identity
        try:
            above = os.open(data, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            try:
                with contextlib.suppress(FileExistsError):
                    os.mkdir("run", 0o700, dir_fd=above)
                flags = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
                self._folder = os.open("run", flags, dir_fd=above)
            finally:
                os.close(above)
        except OSError as error:
            raise _problem(error, self._path, data) from None
        self._held: list[int] = []
        self._maintenance: int | None = None

    def close(self) -> None:
        """Let go of the folder and of every lock in it."""
        for fd in self._held:
            os.close(fd)
        self._held.clear()
        os.close(self._folder)

    def lock_service(self) -> None:
        """Become the one service of this data directory. Raises `SetupProblem`."""
        try:
            taken = self._lock(_LOCK)
            if taken:
                self._own(self._folder)
        except OSError as error:
            raise _problem(error, self._path / _LOCK, self._path.parent) from None
        if not taken:
            pid = self._state().get("pid")
            who = f"process {pid}" if pid else "another process"
            raise SetupProblem(f"data: {self._path.parent} is in use: {who} serves it already; stop that one first")

    def take_number(self) -> int:
        """Return a number that no other live worker has, the lowest; it is held until `close`. Raises `OSError`."""
        for number in range(_MOST_WORKERS):
            if self._lock(f"worker-{number}.lock"):
                return number
        raise OSError(f"all {_MOST_WORKERS} worker numbers are taken")

    def take_maintenance(self) -> bool:
        """Become the process that keeps the house in order, unless there is one. Raises `OSError`."""
        if not self._lock(_MAINTENANCE):
            return False
        self._maintenance = self._held[-1]
        return True

    def give_maintenance(self) -> None:
        """Let another process keep the house in order, if it was this one."""
        if self._maintenance is not None:
            self._held.remove(self._maintenance)
            os.close(self._maintenance)
            self._maintenance = None

    def login_secret(self) -> bytes:
        """Return the secret of this data directory that stands in for the credentials of unknown users, made once:
        what they are answered must not change from one start to the next. Raises `SetupProblem`."""
        try:
            fd = os.open(_SECRET, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600, dir_fd=self._folder)
            with os.fdopen(fd, "r+b") as file:
                self._own(fd)
                secret = file.read(_SECRET_OCTETS)
                if len(secret) < _SECRET_OCTETS:
                    secret = os.urandom(_SECRET_OCTETS)
                    file.seek(0)
                    file.write(secret)
                    file.flush()
                    os.fsync(fd)  # else a power loss could leave 32 zeros for a secret
                    os.fsync(self._folder)
            return secret
        except OSError as error:
            raise _problem(error, self._path / _SECRET, self._path.parent) from None

    def write(self, state: dict[str, Any]) -> None:
        """Write `service.json`; a disk that does not take it is logged and no more."""
        self._replace(_STATE, json.dumps(state).encode(), 0o644)

    def write_configuration(self, octets: bytes) -> None:
        """Keep the configuration in force, for commands that meet a broken file; a full disk is logged and no more."""
        self._replace(CONFIGURATION, octets, 0o600)

    def _replace(self, name: str, octets: bytes, mode: int) -> None:
        fresh = f"{name}.new"
        try:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(fresh, dir_fd=self._folder)
            flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
            with os.fdopen(os.open(fresh, flags, mode, dir_fd=self._folder), "wb") as file:
                self._own(file.fileno())
                file.write(octets)
            os.rename(fresh, name, src_dir_fd=self._folder, dst_dir_fd=self._folder)
        except OSError as error:
            with contextlib.suppress(OSError):
                os.unlink(fresh, dir_fd=self._folder)
            if error.errno in (errno.ENOSPC, errno.EDQUOT) and self._written_over(name, octets):
                return
            log.warning("state not written", extra={"fields": {"file": str(self._path / name), "error": str(error)}})

    def _written_over(self, name: str, octets: bytes) -> bool:
        """Write over a file where it stands, in the blocks that it has: a full disk has no others. False when they are
        too few, or it is no file that only this folder names."""
        try:
            flags = os.O_WRONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
            fd = os.open(name, flags, dir_fd=self._folder)
            try:
                found = os.fstat(fd)
                if not stat.S_ISREG(found.st_mode) or found.st_nlink != 1 or len(octets) > found.st_blocks * 512:
                    return False
                # Blanks to the old end: who reads before the file is cut reads the same.
                text = octets.ljust(found.st_size)
                whole = os.pwrite(fd, text, 0) == len(text)
                os.ftruncate(fd, len(octets))
                return whole
            finally:
                os.close(fd)
        except OSError:
            return False

    def forget(self) -> None:
        """Remove what says that a service runs."""
        for name in (_STATE, CONFIGURATION):
            with contextlib.suppress(OSError):
                os.unlink(name, dir_fd=self._folder)

    def _state(self) -> dict[str, Any]:
        with contextlib.suppress(OSError, ValueError):
            fd = os.open(_STATE, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=self._folder)
            with os.fdopen(fd) as file:
                state = json.load(file)
                return state if isinstance(state, dict) else {}
        return {}

    def _lock(self, name: str) -> bool:
        fd = os.open(name, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600, dir_fd=self._folder)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            self._own(fd)
        except BlockingIOError:
            os.close(fd)
            return False
        except OSError:
            os.close(fd)
            raise
        self._held.append(fd)
        return True

    def _own(self, fd: int) -> None:
        if self._identity is not None:
            os.fchown(fd, self._identity.uid, self._identity.gid)


def _problem(error: OSError, path: Path, data: Path) -> SetupProblem:
    """Return the problem with a file; where it is another user's, whose it is and what mends it."""
    if isinstance(error, PermissionError):
        return SetupProblem(f"data: {whose(forbidden((data, path.parent, path)) or path, data)}")
    return SetupProblem(f"data: {path}: {machine_words(error)}")
