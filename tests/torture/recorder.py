"""Records every step that a storage takes on its disk: the calls of `os` that the engine makes, and SQLite's own.

While it records, nothing is really synced: what that would have kept is for `disk.py` to say. The files themselves are
as the programs made them, so at the end they prove that no step was missed.

Not recorded: the index of the log that SQLite maps into memory (`-shm`). After a power loss it is whatever it is, and
SQLite makes it anew.
"""

import os
import threading
from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any

import apsw
from tests.torture.disk import ROOT, Disk, Link, NoLosses, Rename, Step, Sync, Truncate, Unlink, Write, read_tree

_UNSEEN = "-shm"
_NAMED_BY_THE_FIRST_SYNC = (
    apsw.SQLITE_OPEN_WAL | apsw.SQLITE_OPEN_MAIN_JOURNAL | apsw.SQLITE_OPEN_SUPER_JOURNAL
)  # unixOpen sets UNIXFILE_DIRSYNC for these when it makes them: their first sync is one of the folder, too


class Recorder:
    """Records what happens under `root` between `with` and its end.

    `deaf` names what the disk only pretends to do, to show that an audit notices: "octets" (fdatasync), "names" (fsync
    of folders), "database" (SQLite's syncs).
    """

    def __init__(self, root: Path, deaf: Collection[str] = ()) -> None:
        self.root = root.resolve()
        self.steps: list[Step] = []
        self.lock = threading.RLock()
        self._deaf = frozenset(deaf)
        self._nodes: dict[str, int] = {str(self.root): ROOT}
        self._open: dict[int, int] = {}  # descriptors
        self._last_node = ROOT
        self.began = 0
        """How many of the steps only say what was there before."""
        self._real: dict[str, Callable[..., Any]] = {}
        self._default_vfs = ""
        self._system: _System | None = None

    def __enter__(self) -> "Recorder":
        self._note_what_is_there()
        for name, watched in self._watched().items():
            self._real[name] = getattr(os, name)
            setattr(os, name, watched)
        self._default_vfs = apsw.vfs_names()[0]
        self._system = _System(self)
        apsw.set_default_vfs(_System.NAME)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for name, function in self._real.items():
            setattr(os, name, function)
        apsw.set_default_vfs(self._default_vfs)
        assert self._system is not None
        self._system.unregister()

    def check(self) -> None:
        """Assert that the steps explain every octet of the files as they are now."""
        with self.lock:  # a thread may still write what its storage gave up when it was closed
            disk = Disk()
            disk.apply(self.steps)
            told = disk.image(NoLosses())
            found = {path: octets for path, octets in read_tree(self.root).items() if not path.endswith(_UNSEEN)}
        assert told.keys() == found.keys(), f"names that the record does not explain: {told.keys() ^ found.keys()}"
        different = [path for path in told if told[path] != found[path]]
        assert not different, f"octets that the record does not explain: {different}"

    def _note_what_is_there(self) -> None:
        for path, octets in read_tree(self.root).items():
            if not path.endswith(_UNSEEN):
                self.link(str(self.root / path), is_folder=octets is None)
                if octets is not None:
                    self.steps.append(Write(self._last_node, 0, octets))
        self.steps += [Sync(node) for node in self._nodes.values()]
        self.began = len(self.steps)

    def nodes_called(self, name: str) -> set[int]:
        """Return the nodes of all files that ever had a name."""
        return {step.node for step in self.steps if isinstance(step, Link) and step.name == name}

    # What the watched calls and SQLite tell; all with the lock held.

    def node(self, path: object) -> int | None:
        """Return the node of a path; None for one that is not there, or not ours."""
        return self._nodes.get(_text(path))

    def is_ours(self, path: object) -> bool:
        """True for a path under the root that is recorded."""
        text = _text(path)
        return text.startswith(f"{self.root}{os.sep}") and not text.endswith(_UNSEEN)

    def link(self, path: object, *, is_folder: bool = False) -> int:
        """A file or folder was made; returns its node."""
        self._last_node += 1
        self._nodes[_text(path)] = self._last_node
        self.steps.append(Link(*self._place(path), self._last_node, is_folder))
        return self._last_node

    def unlink(self, path: object) -> None:
        """A name was removed."""
        node = self._nodes.pop(_text(path))
        self.steps.append(Unlink(*self._place(path), node))

    def sync(self, node: int, what: str) -> None:
        """A file or folder was synced."""
        if what not in self._deaf:
            self.steps.append(Sync(node))

    def sync_folder_of(self, path: object, what: str) -> None:
        """The folder of a file was synced."""
        self.sync(self._place(path)[0], what)

    def _place(self, path: object) -> tuple[int, str]:
        folder, name = os.path.split(_text(path))
        return self._nodes[folder], name

    # The calls of `os`.

    def _watched(self) -> Mapping[str, Callable[..., Any]]:
        return {
            "open": self._os_open,
            "close": self._os_close,
            "write": self._os_write,
            "writev": self._os_writev,
            "pwrite": self._os_pwrite,
            "ftruncate": self._os_ftruncate,
            "truncate": _refuse("truncate"),
            "fsync": lambda fd: self._os_sync("fsync", fd),
            "fdatasync": lambda fd: self._os_sync("fdatasync", fd),
            "rename": self._os_rename,
            "replace": _refuse("replace"),
            "link": self._os_link,
            "unlink": self._os_unlink,
            "remove": _refuse("remove"),
            "mkdir": self._os_mkdir,
            "rmdir": _refuse("rmdir"),
        }

    def _os_open(self, path: Any, flags: int, *more: Any, **named: Any) -> int:
        with self.lock:
            fd: int = self._real["open"](path, flags, *more, **named)
            if self.is_ours(path) or _text(path) == str(self.root):
                node = self.node(path)
                if node is None:
                    assert flags & os.O_CREAT
                    node = self.link(path)
                if flags & os.O_TRUNC:
                    self.steps.append(Truncate(node, 0))
                self._open[fd] = node
            return fd

    def _os_close(self, fd: int) -> None:
        with self.lock:
            self._open.pop(fd, None)
            self._real["close"](fd)

    def _os_write(self, fd: int, data: Any) -> int:
        with self.lock:
            node = self._open.get(fd)
            position = -1 if node is None else os.lseek(fd, 0, os.SEEK_CUR)
            done: int = self._real["write"](fd, data)
            if node is not None:
                self.steps.append(Write(node, position, bytes(memoryview(data)[:done])))
            return done

    def _os_writev(self, fd: int, pieces: Any) -> int:
        return self._os_write(fd, b"".join(pieces))

    def _os_pwrite(self, fd: int, data: Any, offset: int) -> int:
        with self.lock:
            done: int = self._real["pwrite"](fd, data, offset)
            if (node := self._open.get(fd)) is not None:
                self.steps.append(Write(node, offset, bytes(memoryview(data)[:done])))
            return done

    def _os_ftruncate(self, fd: int, size: int) -> None:
        with self.lock:
            self._real["ftruncate"](fd, size)
            if (node := self._open.get(fd)) is not None:
                self.steps.append(Truncate(node, size))

    def _os_sync(self, call: str, fd: int) -> None:
        with self.lock:
            if (node := self._open.get(fd)) is not None:
                self.sync(node, "octets" if call == "fdatasync" else "names")

    def _os_rename(self, old: Any, new: Any, **named: Any) -> None:
        with self.lock:
            self._real["rename"](old, new, **named)
            if self.is_ours(old):
                (folder, name), (target, new_name) = self._place(old), self._place(new)
                node = self._nodes.pop(_text(old))
                self._nodes[_text(new)] = node
                if folder == target:
                    self.steps.append(Rename(folder, name, new_name, node))
                else:  # into another folder: each name is durable by its own folder, which can only lose more
                    self.steps += (Link(target, new_name, node), Unlink(folder, name, node))

    def _os_link(self, old: Any, new: Any, **named: Any) -> None:
        """A second name is recorded as a copy, which can only lose more."""
        with self.lock:
            self._real["link"](old, new, **named)
            if self.is_ours(new):
                self.steps.append(Write(self.link(new), 0, Path(new).read_bytes()))

    def _os_unlink(self, path: Any, **named: Any) -> None:
        with self.lock:
            self._real["unlink"](path, **named)
            if self.node(path) is not None:
                self.unlink(path)

    def _os_mkdir(self, path: Any, *more: Any, **named: Any) -> None:
        with self.lock:
            self._real["mkdir"](path, *more, **named)
            if self.is_ours(path):
                self.link(path, is_folder=True)


def _text(path: object) -> str:
    return os.fspath(path) if isinstance(path, str | Path) else ""


def _refuse(call: str) -> Callable[..., Any]:
    def refused(*arguments: object, **named: object) -> None:
        raise AssertionError(f"os.{call}{arguments}: the recorder does not know this call")

    return refused


class _File(apsw.VFSFile):
    """One of SQLite's files."""

    def __init__(self, recorder: Recorder, name: Any, flags: list[int]) -> None:
        self._recorder = recorder
        self._node: int | None = None
        self._name = str(name.filename() if isinstance(name, apsw.URIFilename) else name or "")
        with recorder.lock:
            super().__init__("unix", name, flags)
            self._node = recorder.node(self._name)
            self._names_too = False
            if self._node is None and recorder.is_ours(self._name):
                self._node = recorder.link(self._name)
                self._names_too = bool(flags[0] & _NAMED_BY_THE_FIRST_SYNC)

    def xWrite(self, data: bytes, offset: int) -> None:
        with self._recorder.lock:
            super().xWrite(data, offset)
            if self._node is not None:
                self._recorder.steps.append(Write(self._node, offset, bytes(data)))

    def xTruncate(self, newsize: int) -> None:
        with self._recorder.lock:
            super().xTruncate(newsize)
            if self._node is not None:
                self._recorder.steps.append(Truncate(self._node, newsize))

    def xSync(self, flags: int) -> None:
        with self._recorder.lock:
            if self._node is not None:
                self._recorder.sync(self._node, "database")
                if self._names_too:
                    self._recorder.sync_folder_of(self._name, "database")
                    self._names_too = False


class _System(apsw.VFS):
    """SQLite's file system while a recorder works."""

    NAME = "waypost-recorded"

    def __init__(self, recorder: Recorder) -> None:
        super().__init__(self.NAME, base="unix")
        self._recorder = recorder

    def xOpen(self, name: Any, flags: list[int]) -> _File:
        return _File(self._recorder, name, flags)

    def xDelete(self, filename: str, syncdir: bool) -> None:
        with self._recorder.lock:
            super().xDelete(filename, syncdir)
            if self._recorder.node(filename) is not None:
                self._recorder.unlink(filename)
            if syncdir and self._recorder.is_ours(filename):
                self._recorder.sync_folder_of(filename, "database")
