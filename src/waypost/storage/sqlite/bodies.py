"""Bodies: message bytes while they arrive, in memory up to a threshold and in a segment of their own past it."""

import asyncio
import contextlib
import os
import zlib
from pathlib import Path

from waypost.message.trace import TraceId
from waypost.storage.sqlite.segments import (
    HEADER,
    Location,
    record_header,
    segment_path,
    storage_error,
    sync_folder,
)

_WRITE_SIZE = 256 * 1024


class SqliteBody:
    """A body of this engine. The writer thread takes `parts` or, when it spilled, `finish`es the file."""

    __slots__ = ("_buffered", "_crc", "_fd", "_folder", "_threshold", "_written", "parts", "path", "size")

    def __init__(self, folder: Path, threshold: int) -> None:
        self._folder = folder
        self._threshold = threshold
        self._fd = -1
        self._crc = 0
        self._written = 0
        self._buffered = 0
        self.parts: list[bytes] = []
        self.path: Path | None = None
        self.size = 0

    @property
    def spilled(self) -> bool:
        """True when the octets are in a file of their own."""
        return self._fd >= 0

    async def write(self, data: bytes) -> None:
        """Append octets. Raises `StorageFull`, `StorageError`."""
        self.parts.append(data)
        self.size += len(data)
        self._buffered += len(data)
        if self.size > self._threshold and self._buffered >= min(_WRITE_SIZE, self._threshold):
            await asyncio.get_running_loop().run_in_executor(None, self._spill)

    def _spill(self) -> None:
        try:
            if self._fd < 0:
                # No segment number yet: numbers are given at acceptance, and the file is renamed to it.
                self.path = self._folder / f"arriving-{os.getpid()}-{id(self):x}"
                flags = os.O_CREAT | os.O_TRUNC | os.O_RDWR | os.O_CLOEXEC
                self._fd = os.open(self.path, flags, 0o600)
                os.pwrite(self._fd, bytes(HEADER.size), 0)
            data = b"".join(self.parts)
            view = memoryview(data)
            while view:
                done = os.pwrite(self._fd, view, HEADER.size + self._written)
                self._written += done
                view = view[done:]
            self._crc = zlib.crc32(data, self._crc)
        except OSError as error:
            raise storage_error(error, "a message that arrives could not be written") from error
        self.parts = []
        self._buffered = 0

    def finish(self, trace: TraceId, segment: int) -> Location:
        """Write what is left, make file and name durable as `segment`; returns where the octets are.

        Called in the writer thread, once. Raises `StorageFull`, `StorageError`.
        """
        if self.parts:
            self._spill()
        assert self.path is not None
        try:
            os.pwrite(self._fd, record_header(trace, self.size, self._crc), 0)
            os.fdatasync(self._fd)
            target = segment_path(self._folder, segment)
            self.path.rename(target)
            sync_folder(self._folder)
        except OSError as error:
            raise storage_error(error, "a message that arrived could not be made durable") from error
        self.path = target
        return Location(segment, HEADER.size, self.size, self._crc)

    def kept(self) -> None:
        """The file belongs to a stored message now: `discard` will leave it."""
        self.path = None

    def discard(self) -> None:
        """Forget the octets; remove the file unless it was kept."""
        self.parts = []
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1
        if self.path is not None:
            with contextlib.suppress(FileNotFoundError):
                self.path.unlink()
            self.path = None
