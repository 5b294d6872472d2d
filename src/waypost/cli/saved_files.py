"""Saves messages of a mailbox as files: each under its unique id, whole or not at all, and without overwriting."""

from __future__ import annotations

import contextlib
import errno
import filecmp
import hashlib
import os
import tempfile
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO
from urllib.parse import quote

from waypost.cli.frame import fail
from waypost.cli.terminal import echo
from waypost.client.errors import RefusedByServer
from waypost.disk.files import exists

if TYPE_CHECKING:
    from waypost.client.maildrop import RemoteMaildrop

_LONGEST_NAME = 200  # octets; a digest and `.eml` may follow
_DIGEST = 16  # letters of a digest in a name


@dataclass(frozen=True, slots=True)
class Saved:
    """The result for one message: its file, and whether it is new; or the server's refusal."""

    number: int
    path: Path
    fresh: bool = True
    refusal: str | None = None


def save_to(box: RemoteMaildrop, numbers: Sequence[int], stream: BinaryIO) -> bool:
    """Write messages one after the other; return False when the server refused one. Raises `ClientError`."""
    whole = True
    for number in numbers:
        try:
            box.save(number, stream)
        except RefusedByServer as refusal:
            echo(f"waypost: {refusal}", err=True)
            whole = False
    stream.flush()
    return whole


def save_as(box: RemoteMaildrop, number: int, path: Path) -> Iterator[Saved]:
    """Save one message as a new file, for its owner alone. Raises `ClientError`."""
    try:
        if os.path.lexists(path):
            raise FileExistsError
        with _fetched(box, number, path.parent) as part:
            _name(part, path)
    except FileExistsError:
        fail(f"{path}: the file exists already, and is not changed")
    except OSError as error:
        fail(f"{path}: {error.strerror}")
    yield Saved(number, path)


def save_into(box: RemoteMaildrop, numbers: Sequence[int], folder: Path) -> Iterator[Saved]:
    """Save each message as its own file, named by its unique id: a message that was saved before is not fetched again.

    An id is trusted if no other message has it and the file has the size of the message. Otherwise the message is
    fetched and compared with the file: some servers give one id to two messages (which RFC 1939 7 forbids), and neither
    may count as saved because the other is. If the server refuses a message, the others are still saved.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        fail(f"{folder}: {error.strerror}")
    ids = box.unique_ids()
    uses = Counter(ids[number] for number in box.sizes if number in ids)
    for number in numbers:
        unique_id = ids.get(number)
        name = _file_name(str(number) if unique_id is None else unique_id)
        alone = unique_id is not None and unique_id != "" and uses[unique_id] == 1
        try:
            yield _save_one(box, number, folder, name, alone=alone, named=alone or unique_id is None)
        except RefusedByServer as refusal:
            yield Saved(number, folder, fresh=False, refusal=str(refusal))
        except OSError as error:
            fail(f"{error.filename or folder}: {error.strerror}")


def _save_one(box: RemoteMaildrop, number: int, folder: Path, name: str, *, alone: bool, named: bool) -> Saved:
    """Save one message. `alone`: no other message has this name; `named`: the file may have it without a digest."""
    path = folder / f"{name}.eml"
    if alone and exists(path) and path.stat().st_size == box.sizes[number]:
        return Saved(number, path, fresh=False)
    with _fetched(box, number, folder) as part:
        with part.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()[:_DIGEST]
        by_content = folder / f"{name}{'.' if name else ''}{digest}.eml"
        for candidate in (path, by_content) if named else (by_content,):
            try:
                _name(part, candidate)
            except FileExistsError:
                if filecmp.cmp(part, candidate, shallow=False):
                    return Saved(number, candidate, fresh=False)
            else:
                return Saved(number, candidate)
        raise FileExistsError(errno.EEXIST, "the file exists already, and is not changed", str(by_content))


@contextlib.contextmanager
def _fetched(box: RemoteMaildrop, number: int, folder: Path) -> Iterator[Path]:
    """Fetch a message into a temporary file, which is removed at the end.

    A message gets its final name only when it is whole and durable, even if this process is killed: under that name it
    counts as saved, and people may then delete it on the server.
    """
    fd, name = tempfile.mkstemp(dir=folder, prefix=".waypost-", suffix=".part")
    part = Path(name)
    try:
        with os.fdopen(fd, "wb") as file:
            box.save(number, file)
            file.flush()
            os.fsync(file.fileno())
        yield part
    finally:
        part.unlink(missing_ok=True)


def _name(part: Path, path: Path) -> None:
    """Give a file its name; unlike a rename, never overwrite an existing file. Raises `OSError`."""
    try:
        path.hardlink_to(part)
    except OSError as error:
        if error.errno not in (errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS):
            raise
        if os.path.lexists(path):  # the file system has no hard links
            raise FileExistsError from None
        part.rename(path)


def _file_name(unique_id: str) -> str:
    """Return a unique id as a file name; an id that is longer than RFC 1939 allows is replaced by its digest."""
    name = quote(unique_id, safe="")
    return name if len(name) <= _LONGEST_NAME else hashlib.sha256(unique_id.encode()).hexdigest()
