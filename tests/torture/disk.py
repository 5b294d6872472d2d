"""A disk that loses power. It keeps what was synced; of everything else any part may be there afterwards, or none.

It promises no more than POSIX and the usual disks do, and so less than any real file system:
- `fsync` and `fdatasync` of a file keep its octets and its length, not its name; `fsync` of a folder keeps its names.
- What was not synced is lost or kept step by step, in any choice: a later write may be there without an earlier one, a
  new name without the octets of its file, a rename without the creation before it.
- A write may be torn: some of its 512-octet sectors are there. Octets outside a write are never touched by it.
- A file may have the new length without the octets: they read as zeros then.
"""

import random
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

ROOT = 0
SECTOR = 512


@dataclass(frozen=True, slots=True)
class Write:
    """Octets were written to a file."""

    node: int
    offset: int
    data: bytes


@dataclass(frozen=True, slots=True)
class Truncate:
    """A file was cut, or extended, to a size."""

    node: int
    size: int


@dataclass(frozen=True, slots=True)
class Link:
    """A file or folder was made."""

    folder: int
    name: str
    node: int
    is_folder: bool = False


@dataclass(frozen=True, slots=True)
class Unlink:
    """A name was removed."""

    folder: int
    name: str
    node: int


@dataclass(frozen=True, slots=True)
class Rename:
    """A file changed its name inside its folder, in one step."""

    folder: int
    old: str
    new: str
    node: int


@dataclass(frozen=True, slots=True)
class Sync:
    """A file's octets, or a folder's names, were made durable."""

    node: int


Naming = Link | Unlink | Rename
Change = Write | Truncate
Step = Write | Truncate | Link | Unlink | Rename | Sync
Tree = dict[str, bytes | None]
"""Paths below the root, folders first: octets of a file, None for a folder."""


@dataclass(slots=True)
class _File:
    octets: bytearray = field(default_factory=bytearray)
    pending: list[Change] = field(default_factory=list)


@dataclass(slots=True)
class _Folder:
    names: dict[str, int] = field(default_factory=dict)
    pending: list[Naming] = field(default_factory=list)


class Losses:
    """What one power loss takes: a choice that `chance` makes, differently for each file and folder."""

    RATES = (0.0, 0.1, 0.5, 0.9, 1.0)

    def __init__(self, chance: random.Random) -> None:
        self._chance = chance
        self._mood = chance.choice((None, None, None, *self.RATES))  # one rate for all, or one for each

    def names(self, pending: list[Naming]) -> list[Naming]:
        """Return the changes of a folder that are there: any, or (as journals do it) all up to one of them."""
        if self._chance.random() < 0.3:
            return pending[: self._chance.randint(0, len(pending))]
        rate = self._rate()
        return [naming for naming in pending if self._chance.random() < rate]

    def change(self, octets: bytearray, pending: list[Change]) -> None:
        """Do what is there of the changes of a file."""
        keep, tear, extend = self._rate(), self._chance.choice((0.0, 0.3, 1.0)), self._chance.choice((0.0, 0.5))
        for change in pending:
            if self._chance.random() >= keep:
                if isinstance(change, Write) and self._chance.random() < extend:
                    _extend(octets, change.offset + len(change.data))
            elif isinstance(change, Write) and self._chance.random() < tear:
                self._tear(octets, change)
            else:
                perform(octets, change)

    def _tear(self, octets: bytearray, change: Write) -> None:
        rate = self._chance.choice((0.2, 0.5, 0.8))
        start, end = change.offset, change.offset + len(change.data)
        while start < end:
            stop = min(end, (start // SECTOR + 1) * SECTOR)
            if self._chance.random() < rate:
                piece = change.data[start - change.offset : stop - change.offset]
                perform(octets, Write(change.node, start, piece))
            start = stop

    def _rate(self) -> float:
        return self._chance.choice(self.RATES) if self._mood is None else self._mood


class NoLosses(Losses):
    """The disk as the programs see it."""

    def __init__(self) -> None:
        super().__init__(random.Random(0))

    def names(self, pending: list[Naming]) -> list[Naming]:
        return pending

    def change(self, octets: bytearray, pending: list[Change]) -> None:
        for change in pending:
            perform(octets, change)


def perform(octets: bytearray, change: Change) -> None:
    """Change the octets of a file."""
    if isinstance(change, Truncate):
        del octets[change.size :]
        _extend(octets, change.size)
        return
    end = change.offset + len(change.data)
    _extend(octets, end)
    octets[change.offset : end] = change.data


def _extend(octets: bytearray, size: int) -> None:
    if size > len(octets):
        octets.extend(bytes(size - len(octets)))


class Disk:
    """What is durable, and what may be: `apply` steps in order, then take images of it."""

    def __init__(self) -> None:
        self._files: dict[int, _File] = {}
        self._folders: dict[int, _Folder] = {ROOT: _Folder()}

    def apply(self, steps: Iterable[Step]) -> None:
        """Let steps happen."""
        for step in steps:
            match step:
                case Write() | Truncate():
                    self._files[step.node].pending.append(step)
                case Sync():
                    self._sync(step.node)
                case Link():
                    if step.is_folder:
                        self._folders[step.node] = _Folder()
                    else:
                        self._files[step.node] = _File()
                    self._folders[step.folder].pending.append(step)
                case Unlink() | Rename():
                    self._folders[step.folder].pending.append(step)

    def _sync(self, node: int) -> None:
        if node in self._folders:
            folder = self._folders[node]
            for naming in folder.pending:
                _rename(folder.names, naming)
            folder.pending.clear()
        else:
            file = self._files[node]
            for change in file.pending:
                perform(file.octets, change)
            file.pending.clear()

    def image(self, losses: Losses) -> Tree:
        """Return the disk as it may be found after a power loss now."""
        tree: Tree = {}
        self._collect(ROOT, "", losses, tree)
        return tree

    def _collect(self, node: int, above: str, losses: Losses, tree: Tree) -> None:
        folder = self._folders[node]
        names = dict(folder.names)
        for naming in losses.names(folder.pending):
            _rename(names, naming)
        for name, below in names.items():
            path = f"{above}{name}"
            if below in self._folders:
                tree[path] = None
                self._collect(below, f"{path}/", losses, tree)
            else:
                file = self._files[below]
                octets = bytearray(file.octets)
                losses.change(octets, file.pending)
                tree[path] = bytes(octets)


def _rename(names: dict[str, int], naming: Naming) -> None:
    match naming:
        case Link():
            names[naming.name] = naming.node
        case Unlink():
            if names.get(naming.name) == naming.node:
                del names[naming.name]
        case Rename():
            if names.get(naming.old) == naming.node:
                del names[naming.old]
            names[naming.new] = naming.node


def write_tree(tree: Tree, folder: Path) -> None:
    """Make a folder with the files of an image."""
    folder.mkdir()
    for path, octets in tree.items():
        if octets is None:
            (folder / path).mkdir()
        else:
            (folder / path).write_bytes(octets)


def read_tree(folder: Path) -> Tree:
    """Return the files under a folder."""
    return {
        str(path.relative_to(folder)): None if path.is_dir() else path.read_bytes()
        for path in sorted(folder.rglob("*"))
    }
