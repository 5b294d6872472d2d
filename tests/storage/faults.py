"""Faults below the sqlite engine: a disk whose files or whose database refuse what they are told to refuse."""

import errno
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import apsw


@contextmanager
def failing(call: str, error: int = errno.EIO, *, after: int = 0, times: int = 1 << 30) -> Iterator[list[int]]:
    """Let `os.<call>` fail, after so many good calls, so many times; yields a list with the failed calls' numbers."""
    real: Callable[..., object] = getattr(os, call)
    calls = 0
    failed: list[int] = []

    def fail(*arguments: object, **named: object) -> object:
        nonlocal calls
        calls += 1
        if after < calls <= after + times:
            failed.append(calls)
            raise OSError(error, os.strerror(error))
        return real(*arguments, **named)

    setattr(os, call, fail)
    try:
        yield failed
    finally:
        setattr(os, call, real)


class FaultyFile(apsw.VFSFile):
    """A file of the database that fails when its file system says so."""

    def __init__(self, system: "FaultySystem", name: object, flags: list[int]) -> None:
        super().__init__("unix", name, flags)
        self._system = system

    def xSync(self, flags: int) -> None:
        self._system.check("sync")
        super().xSync(flags)

    def xWrite(self, data: bytes, offset: int) -> None:
        self._system.check("write")
        super().xWrite(data, offset)


class FaultySystem(apsw.VFS):
    """The default file system of SQLite while a test runs; `broken` names what fails, and how."""

    def __init__(self, name: str) -> None:
        super().__init__(name, base="unix")
        self.broken: dict[str, type[apsw.Error]] = {}
        self.log: list[str] = []

    def check(self, deed: str) -> None:
        self.log.append(f"database {deed}")
        if deed in self.broken:
            raise self.broken[deed](f"the test breaks {deed}")

    def xOpen(self, name: object, flags: list[int]) -> FaultyFile:
        return FaultyFile(self, name, flags)


@contextmanager
def faulty_system() -> Iterator[FaultySystem]:
    """Let every database that is opened now be on a file system that can fail."""
    before = apsw.vfs_names()[0]
    system = FaultySystem("waypost-faulty")
    apsw.set_default_vfs("waypost-faulty")
    try:
        yield system
    finally:
        apsw.set_default_vfs(before)
        system.unregister()


@contextmanager
def watched(log: list[str], *calls: str) -> Iterator[None]:
    """Note each of these calls of `os` in a log, in the order in which they return."""
    real = {call: getattr(os, call) for call in calls}

    def watch(call: str) -> Callable[..., object]:
        def noted(*arguments: object, **named: object) -> object:
            result: object = real[call](*arguments, **named)
            log.append(call)
            return result

        return noted

    for call in calls:
        setattr(os, call, watch(call))
    try:
        yield
    finally:
        for call, function in real.items():
            setattr(os, call, function)
