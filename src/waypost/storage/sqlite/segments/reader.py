"""Reading octets of segments. Files stay open for a while; those that were removed are let go, or their space stays."""

import os
import threading
from collections import OrderedDict
from pathlib import Path

from waypost.storage.sqlite.segments.segments import segment_path


class _File:
    __slots__ = ("fd", "users")

    def __init__(self, fd: int) -> None:
        self.fd = fd
        self.users = 0


class SegmentReader:
    """Reads segments, from any thread; keeps up to `keep` files open that nobody reads."""

    def __init__(self, folder: Path, *, keep: int = 64) -> None:
        self._folder = folder
        self._keep = keep
        self._lock = threading.Lock()
        self._files: OrderedDict[int, _File] = OrderedDict()

    @property
    def open_files(self) -> int:
        """How many files are open."""
        return len(self._files)

    def read(self, segment: int, offset: int, length: int) -> bytes:
        """Return octets, fewer where the segment ends. Raises `FileNotFoundError` when it is gone, `OSError`."""
        file = self._take(segment)
        try:
            pieces: list[bytes] = []
            while length > 0:
                data = os.pread(file.fd, length, offset)
                if not data:
                    break
                pieces.append(data)
                offset += len(data)
                length -= len(data)
        finally:
            self._give_back(file)
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)

    def read_cached(self, segment: int, offset: int, length: int) -> bytes | None:  # hot: bench/relay
        """Return octets when the system holds them in memory; None when reading may wait for the disk."""
        buffer = bytearray(length)
        try:
            file = self._take(segment)
            try:
                done = os.preadv(file.fd, [buffer], offset, os.RWF_NOWAIT)
            finally:
                self._give_back(file)
        except OSError:  # EAGAIN: not in memory; EOPNOTSUPP: this file system can't tell; others: `read` says it
            return None
        return bytes(buffer) if done == length else None

    def _take(self, segment: int) -> _File:
        with self._lock:
            file = self._files.get(segment)
            if file is None:
                flags = os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC  # a pipe under that name keeps nobody waiting
                file = self._files[segment] = _File(os.open(segment_path(self._folder, segment), flags))
                self._make_room()
            else:
                self._files.move_to_end(segment)
            file.users += 1
            return file

    def _give_back(self, file: _File) -> None:
        with self._lock:
            file.users -= 1

    def _make_room(self) -> None:
        for segment in list(self._files)[:-1]:
            if len(self._files) <= self._keep:
                return
            self._close_unused(segment)

    def forget_removed(self) -> int:
        """Close files that have no name any more, whose space waits for that; returns how many."""
        with self._lock:
            removed = [segment for segment, file in self._files.items() if not os.fstat(file.fd).st_nlink]
            return sum(self._close_unused(segment) for segment in removed)

    def _close_unused(self, segment: int) -> bool:
        file = self._files[segment]
        if file.users:
            return False
        del self._files[segment]
        os.close(file.fd)
        return True

    def close(self) -> None:
        """Close all files."""
        with self._lock:
            for file in self._files.values():
                os.close(file.fd)
            self._files.clear()
