"""Inputs that are almost right: valid ones, cut, repeated, swapped, flipped and spiced; the same for the same seed."""

import itertools
import random
from collections.abc import Callable, Sequence

LONGEST = 20_000
"""Octets of one input."""

SPICES: tuple[bytes, ...] = (
    *(b"\r\n", b"\n", b"\r", b"\0", b"\r\n.\r\n", b"\n.\n", b"\r\n.\n", b"\r.\r", b".", b"..", b"\r\n\r\n"),
    *(b"\xff", b"\xc3", b"\xed\xa0\x80", b"\xe2\x80\xae", b"\x1b[2J", b"\x7f", b"\x85", b"\xf4\x8f\xbf\xbf"),
    *(b" ", b"\t", b":", b"@", b"<", b">", b'"', b"\\", b"(", b")", b",", b";", b"=", b"%", b"*", b"-", b"--"),
    *(b"0", b"-1", b"65536", b"4294967296", b"99999999999999999999", b"9" * 400, b"A" * 64, b"A" * 300, b"A" * 5000),
)

Change = Callable[[bytes, random.Random, Sequence[bytes]], bytes]


def mutated(corpus: Sequence[bytes], words: Sequence[bytes], rng: random.Random) -> bytes:
    """Return an input made of the corpus; `words` are what this target understands."""
    data = rng.choice(corpus)
    spices = (*words, *SPICES)
    for _ in range(rng.choice((0, 1, 1, 2, 3, 5, 8))):
        change = rng.choice(_CHANGES)
        data = change(data, rng, (*corpus, *spices) if change is _spliced else spices)[:LONGEST]
    return data


def pieces(data: bytes, rng: random.Random) -> list[bytes]:
    """Return the same octets in random pieces, octet by octet now and then."""
    if len(data) < 2:
        return [data]
    if len(data) < 400 and rng.random() < 0.2:
        return [data[position : position + 1] for position in range(len(data))]
    edges = sorted({0, len(data), *(rng.randrange(len(data)) for _ in range(rng.randrange(1, 12)))})
    return [data[start:end] for start, end in itertools.pairwise(edges)]


def _span(data: bytes, rng: random.Random) -> tuple[int, int]:
    start = rng.randrange(len(data) + 1)
    return start, min(len(data), start + rng.choice((1, 1, 2, 4, 16, 64, 512)))


def _flipped(data: bytes, rng: random.Random, spices: Sequence[bytes]) -> bytes:
    if not data:
        return data
    position = rng.randrange(len(data))
    return data[:position] + bytes([data[position] ^ (1 << rng.randrange(8))]) + data[position + 1 :]


def _inserted(data: bytes, rng: random.Random, spices: Sequence[bytes]) -> bytes:
    position = rng.randrange(len(data) + 1)
    return data[:position] + rng.choice(spices) + data[position:]


def _replaced(data: bytes, rng: random.Random, spices: Sequence[bytes]) -> bytes:
    start, end = _span(data, rng)
    return data[:start] + rng.choice(spices) + data[end:]


def _deleted(data: bytes, rng: random.Random, spices: Sequence[bytes]) -> bytes:
    start, end = _span(data, rng)
    return data[:start] + data[end:]


def _repeated(data: bytes, rng: random.Random, spices: Sequence[bytes]) -> bytes:
    start, end = _span(data, rng)
    return data[:end] + data[start:end] * rng.choice((1, 2, 10, 100, 1000)) + data[end:]


def _swapped(data: bytes, rng: random.Random, spices: Sequence[bytes]) -> bytes:
    lines = data.split(b"\r\n")
    first, second = rng.randrange(len(lines)), rng.randrange(len(lines))
    lines[first], lines[second] = lines[second], lines[first]
    return b"\r\n".join(lines)


def _spliced(data: bytes, rng: random.Random, others: Sequence[bytes]) -> bytes:
    other = rng.choice(others)
    return data[: rng.randrange(len(data) + 1)] + other[rng.randrange(len(other) + 1) :]


def _truncated(data: bytes, rng: random.Random, spices: Sequence[bytes]) -> bytes:
    return data[: rng.randrange(len(data) + 1)]


_CHANGES: tuple[Change, ...] = (
    *(_flipped, _inserted, _inserted, _replaced, _replaced, _deleted, _repeated, _swapped, _spliced, _spliced),
    _truncated,
)
