"""Sizes as people write them: a number of octets, or with a binary unit, "64 KiB", "50 MiB", "5 GiB"."""

import re

_UNITS = {"TiB": 1 << 40, "GiB": 1 << 30, "MiB": 1 << 20, "KiB": 1 << 10}
_SIZE = re.compile(r"([0-9]{1,18}) ?(KiB|MiB|GiB|TiB)?\Z", re.IGNORECASE)
_LARGEST = 1 << 50
_EXACT = {unit.lower(): size for unit, size in _UNITS.items()}

_NOT_ONE = 'not a size; write a number of octets, or for example "50 MiB" (KiB, MiB, GiB or TiB)'


def parse_size(text: str) -> int:
    """Return octets. Raises `ValueError` that says what is wrong and gives a correct form."""
    match = _SIZE.match(text)
    if match is None:
        raise ValueError(_NOT_ONE)
    return check_size(int(match[1]) * _EXACT.get((match[2] or "").lower(), 1))


def check_size(octets: int) -> int:
    """Return the number of octets. Raises `ValueError`, as `parse_size` does, when it is too large for a size."""
    if octets < 0:
        raise ValueError(_NOT_ONE)
    if octets > _LARGEST:
        raise ValueError('too large; write at most "1024 TiB"')
    return octets


def format_size(octets: int) -> str:
    """Return octets exactly, for files: in the largest unit that divides them, else as a plain number."""
    for unit, size in _UNITS.items():
        if octets and octets % size == 0:
            return f"{octets // size} {unit}"
    return str(octets)


def rounded_size(octets: int) -> str:
    """Return octets with a unit and at most one decimal, for people: `1.4 MiB`, `312 B`."""
    for unit, size in _UNITS.items():
        if octets >= size:
            return f"{octets / size:.1f}".removesuffix(".0") + f" {unit}"
    return f"{octets} B"
