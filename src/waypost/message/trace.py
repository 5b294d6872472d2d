"""The trace id: the one number by which a message is followed from submission to mailbox or bounce.

It has 62 bits: the high bits are microseconds since 1970, the low bits the number of the process that accepted the
message. So ids grow with time, which keeps the storage's B-trees append-only, and they need no coordination.
People see it as 13 characters of Crockford's base 32 (no I, L, O, U), case-insensitive.
"""

from collections.abc import Callable
from datetime import UTC, datetime
from typing import NewType

TraceId = NewType("TraceId", int)
"""A message's identity in storage, in logs and on the command line."""

Micros = int
"""Microseconds since 1970-01-01T00:00:00Z: the form of every time in storage."""

_ALPHABET = "0123456789abcdefghjkmnpqrstvwxyz"
_VALUES = {character: value for value, character in enumerate(_ALPHABET)} | {"i": 1, "l": 1, "o": 0}
_PAIRS = [high + low for high in _ALPHABET for low in _ALPHABET]
_LENGTH = 13
_BITS = 62
_MAKER_BITS = 10
_DAY: Micros = 86_400_000_000


class TraceIdMaker:
    """Makes trace ids for one process: unique while no two live processes share `maker`.

    `maker` is 0..1023 (workers count from 0, the command line takes 1023); `now` gives `Micros`.
    Ids grow even when the clock steps back, and also across a restart when `after` is the newest id in use. An `after`
    more than a day in the future is ignored: the clock was wrong when that id was made.
    """

    def __init__(self, maker: int, now: Callable[[], Micros], *, after: TraceId = TraceId(0)) -> None:
        if not 0 <= maker < 1 << _MAKER_BITS:
            raise ValueError(f"maker {maker} is outside 0..{(1 << _MAKER_BITS) - 1}")
        self._maker = maker
        self._now = now
        self._last = time_of(after) if time_of(after) <= now() + _DAY else 0

    def __call__(self) -> TraceId:
        """Return a new id, larger than every id that this maker returned before."""
        self._last = max(self._last + 1, self._now())
        return TraceId(self._last << _MAKER_BITS | self._maker)


def format_trace_id(trace: TraceId) -> str:
    """Return the 13 characters that people see, such as `03afpkd2vvg00`."""
    value = int(trace)
    pairs = [_PAIRS[value >> shift & 1023] for shift in (50, 40, 30, 20, 10, 0)]
    return _ALPHABET[value >> 60 & 31] + "".join(pairs)


def parse_trace_id(text: str) -> TraceId:
    """Read the form of `format_trace_id`, in either case. Raises `ValueError` for any other text."""
    if len(text) != _LENGTH:
        raise ValueError(f"{text!r} is not a trace id: it has {len(text)} characters, not {_LENGTH}")
    value = 0
    for character in text.lower():
        if character not in _VALUES:
            raise ValueError(f"{text!r} is not a trace id: {character!r} is not in Crockford's base 32")
        value = value << 5 | _VALUES[character]
    if value >> _BITS:
        raise ValueError(f"{text!r} is not a trace id: it is too large")
    return TraceId(value)


def time_of(trace: TraceId) -> Micros:
    """Return the approximate time at which the id was made, in microseconds since 1970."""
    return int(trace) >> _MAKER_BITS


def earliest_id(time: Micros) -> TraceId:
    """Return the smallest id that is made at `time` or later."""
    return TraceId(time << _MAKER_BITS)


def iso_time(time: Micros) -> str:
    """Return a time as programs read it, in UTC, to the millisecond (RFC 3339): `2026-11-25T01:07:00.123Z`."""
    text = datetime.fromtimestamp(time / 1_000_000, UTC).isoformat(timespec="milliseconds")
    return text.removesuffix("+00:00") + "Z"
