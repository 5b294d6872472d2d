"""Digests (SHA-256, FIPS 180-4) of what a backup holds: of its database, of pieces of its segments, of its manifest.

A segment grows from backup to backup, so each piece that was added at once has a digest. A manifest ends with the
digest of everything before it, `,"digest":"sha256:…"}`, and is still one JSON object. A manifest without a digest was
written before there were any; it must hold exactly the fields of that time, so that no changed octet makes a new one
look old.
"""

import hashlib
import os
import re
from pathlib import Path
from typing import TypeVar

import msgspec

from waypost.storage.errors import StorageError
from waypost.storage.sqlite.backup.files import Missing, read_small, reading

_CHUNK = 1 << 20
_SEAL = re.compile(rb'(.*),"digest":"sha256:([0-9a-f]{64})"\}', re.DOTALL)

T = TypeVar("T")
B = TypeVar("B", bound=msgspec.Struct)


class FileDigest(msgspec.Struct, frozen=True):
    """How many octets a file has, and their SHA-256."""

    octets: int
    sha256: str


class Piece(msgspec.Struct, frozen=True, array_like=True):
    """Octets of a segment from the end of the piece before (or its start) up to `end`, and their SHA-256."""

    end: int
    sha256: str


Pieces = tuple[Piece, ...]


class Changed(StorageError):
    """A file does not hold what was written to it."""


def digest_of(path: Path) -> FileDigest:
    """Return the digest of a whole file. Raises `Missing`, `Replaced`, `OSError`."""
    found, position = hashlib.sha256(), 0
    with reading(path) as fd:
        while data := os.pread(fd, _CHUNK, position):
            found.update(data)
            position += len(data)
    return FileDigest(position, found.hexdigest())


def copy_file(source: Path, target: Path) -> FileDigest:
    """Copy a whole file into a new one; return the digest of it. Raises `Missing`, `Replaced`, `OSError`."""
    found, position = hashlib.sha256(), 0
    with reading(source) as there:
        fd = os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        try:
            while data := os.pread(there, _CHUNK, position):
                found.update(data)
                position += len(data)
                while data:
                    data = data[os.write(fd, data) :]
        finally:
            os.close(fd)
    return FileDigest(position, found.hexdigest())


def require_digest(path: Path, expected: FileDigest) -> None:
    """See that a file holds what was written to it. Raises `Changed`, `Missing`, `Replaced`, `OSError`."""
    found = digest_of(path)
    if found.octets != expected.octets:
        raise Changed(f"{path} is damaged: it has {found.octets} octets, and {expected.octets} were written")
    if found != expected:
        raise Changed(f"{path} is damaged: it holds other octets than were written")


def piece_of(path: Path, start: int, end: int) -> Piece:
    """Return the piece of a segment from `start` to `end`, or to where the file ends. Raises as `digest_of`."""
    found, position = hashlib.sha256(), start
    with reading(path) as fd:
        while position < end and (data := os.pread(fd, min(_CHUNK, end - position), position)):
            found.update(data)
            position += len(data)
    return Piece(position, found.hexdigest())


def covering(pieces: Pieces, end: int) -> Pieces:
    """Return the pieces that hold octets before `end`."""
    starts = (0, *(piece.end for piece in pieces))
    return tuple(piece for start, piece in zip(starts, pieces, strict=False) if start < end)


def renewed(known: Pieces, source: Path, target: Path, end: int, *, compare: bool) -> Pieces:
    """Return the pieces of a segment in a backup (`target`) up to `end`, after its messages were verified.

    With `compare`, pieces that are known are read, too: one that changed is copied again where the storage (`source`)
    still has it, and otherwise gets the digest of what is there: no message is lost with that. Raises `OSError`.
    """
    try:
        size = _size(target)
    except Missing:
        return ()
    pieces: list[Piece] = []
    start = 0
    for piece in covering(known, end):
        wrong = (compare or size < piece.end) and piece_of(target, start, piece.end) != piece
        if wrong and not _copy_again(piece, source, target, start):
            break
        pieces.append(piece)
        start = piece.end
    if start < min(end, size):
        pieces.append(piece_of(target, start, end))
    return tuple(pieces)


def _size(path: Path) -> int:
    with reading(path) as fd:
        return os.fstat(fd).st_size


def _copy_again(piece: Piece, source: Path, target: Path, start: int) -> bool:
    try:
        if piece_of(source, start, piece.end) != piece:
            return False
    except Missing:
        return False
    fd = os.open(target, os.O_WRONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        with reading(source) as there:
            position = start
            while position < piece.end:
                data = os.pread(there, min(_CHUNK, piece.end - position), position)
                if not data:
                    return False
                position += os.pwrite(fd, data, position)
        os.fsync(fd)
    finally:
        os.close(fd)
    return True


def sealed(value: msgspec.Struct) -> bytes:
    """Return a manifest's JSON with the digest at its end."""
    body = msgspec.json.encode(value)[:-1]
    return b'%s,"digest":"sha256:%s"}' % (body, hashlib.sha256(body).hexdigest().encode())


def read_sealed(path: Path, kind: type[T], before: type[B]) -> T | B:
    """Return what a manifest says: as `kind` when it has a digest, as `before` when it is of a time before digests.

    `before` has to forbid unknown fields. Raises `Changed`, `Missing`, `Replaced`, `OSError`.
    """
    octets = read_small(path)
    found = _SEAL.fullmatch(octets)
    try:
        if found is None:
            return msgspec.json.decode(octets, type=before)
        if hashlib.sha256(found[1]).hexdigest().encode() != found[2]:
            raise Changed(f"{path} is damaged: it holds other octets than were written")
        return msgspec.json.decode(found[1] + b"}", type=kind)
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise Changed(f"{path} can't be read, it is damaged: {error}") from error
