"""Files that become segments of their own: a large message while it arrives, or what compaction keeps.

Such a file has no number yet: it is `arriving-...` until the writer gives it one, after its octets are durable. It is
locked (flock) from its first moment, so that what a dead process left behind can be told and swept away.
"""

import asyncio
import contextlib
import fcntl
import itertools
import os
from collections.abc import Callable
from concurrent.futures import Executor
from pathlib import Path
from typing import Any, TypeVar

from waypost.disk.files import close_quietly, still_named
from waypost.storage.errors import StorageError
from waypost.storage.sqlite.segments.segments import segment_path, storage_error

T = TypeVar("T")

ARRIVING = "arriving-"
_serial = itertools.count()


class ArrivingFile:
    """A file that is written by several threads in turn, and closed only when none of them holds it.

    `hold`, `let_go`, `close` and `in_thread` are for the event loop. The octets go by `write`, from any one thread.
    """

    def __init__(self, folder: Path) -> None:
        """Create the file. Raises `StorageFull`, `StorageError`."""
        self._folder = folder
        self._path = folder / f"{ARRIVING}{os.getpid()}-{next(_serial)}"
        self._holds = 0
        self._closing = False
        self._broken: StorageError | None = None
        self.size = 0
        self.number = 0
        self.kept = False
        """The file belongs to the database now: closing leaves it in its place."""
        self.durable = False
        """All octets are on the disk; only the name is not."""
        self._fd = -1
        try:
            self._make()
        except OSError as error:
            self.close()
            raise storage_error(error, f"{self._path}: could not be made") from error

    def _make(self) -> None:
        while True:
            try:
                self._fd = os.open(self._path, os.O_CREAT | os.O_EXCL | os.O_RDWR | os.O_CLOEXEC, 0o600)
            except FileExistsError:  # a process that had our number before us left it, as in a container
                self._path = self._folder / f"{ARRIVING}{os.getpid()}-{next(_serial)}"
                continue
            fcntl.flock(self._fd, fcntl.LOCK_EX)  # who looks whether it is abandoned holds the lock for a moment
            if still_named(self._path, self._fd):
                return
            fd, self._fd = self._fd, -1  # who sweeps saw it before it was locked
            os.close(fd)

    def write(self, data: bytes) -> None:
        """Append octets. Raises `StorageFull`, `StorageError`: then the file is of no use any more."""
        self._whole()
        self.durable = False
        try:
            self._write_at(data, self.size)
        except OSError as error:
            raise self._break(error, "could not be written") from error
        self.size += len(data)

    def flush(self) -> None:
        """Wait until the disk has what was written so far. Raises as `finish` does."""
        self._make_durable(b"")

    def finish(self, header: bytes = b"") -> None:
        """Write `header` over the first octets, and make everything durable; may be called again.

        After a failed fdatasync the next one proves nothing, so it isn't tried. Raises `StorageFull`, `StorageError`.
        """
        self._make_durable(header)
        self.durable = True

    def _make_durable(self, header: bytes) -> None:
        self._whole()
        try:
            self._write_at(header, 0)
            os.fdatasync(self._fd)
        except OSError as error:
            raise self._break(error, "could not be made durable") from error

    def place(self, number: int) -> None:
        """Give the file its number; the caller makes the name durable. Raises `StorageFull`, `StorageError`."""
        target = segment_path(self._folder, number)
        try:
            self._path.rename(target)
        except OSError as error:
            raise storage_error(error, f"{self._path}: could not become {target.name}") from error
        self._path, self.number = target, number

    def hold(self) -> None:
        """Another thread works with the file from now on."""
        self._holds += 1

    def let_go(self) -> None:
        """That thread is done."""
        self._holds -= 1
        if self._closing:
            self.close()

    async def in_thread(self, work: Callable[..., T], *arguments: Any, threads: Executor | None = None) -> T:
        """Let another thread (one of `threads`, or of the loop's own) work with the file.

        It is held until that is over, though nobody waits any more. Raises what the work raises; `StorageError` when no
        thread can be had.
        """
        loop = asyncio.get_running_loop()

        def held() -> T:
            try:
                return work(*arguments)
            finally:
                with contextlib.suppress(RuntimeError):  # the loop is closed, and the process ends
                    loop.call_soon_threadsafe(self.let_go)

        self.hold()
        try:
            working = loop.run_in_executor(threads, held)
        except RuntimeError as error:  # the work stays queued for a free thread, and releases the file then
            raise StorageError(f"{self._path}: {error}") from error
        return await asyncio.shield(working)

    def close(self) -> None:
        """Close the file, and remove it unless it was kept: now, or when nobody holds it; may be called twice."""
        self._closing = True
        if self._fd < 0 or self._holds:
            return
        fd, self._fd = self._fd, -1
        if not self.kept:
            with contextlib.suppress(OSError):  # gone already, or the disk refuses: then the sweep does it
                self._path.unlink()
        close_quietly(fd)

    def _write_at(self, data: bytes, position: int) -> None:
        view = memoryview(data)
        while view:
            done = os.pwrite(self._fd, view, position)
            position += done
            view = view[done:]

    def _whole(self) -> None:
        if self._broken is not None:
            raise self._broken

    def _break(self, error: OSError, what: str) -> StorageError:
        self._broken = storage_error(error, f"{self._path}: {what}")
        return self._broken
