"""Durations as people write them: "500ms", "2s", "5m", "4h", "5d"."""

import re

_UNITS = {"d": 86_400_000_000, "h": 3_600_000_000, "m": 60_000_000, "s": 1_000_000, "ms": 1_000}
_DURATION = re.compile(r"([0-9]{1,18})(ms|s|m|h|d)\Z")
_LONGEST = 3650 * _UNITS["d"]

_NOT_ONE = 'not a duration; write for example "5d" or "120h"'


def parse_duration(text: str) -> int:
    """Return microseconds. Raises `ValueError` that says what is wrong and gives a correct form."""
    match = _DURATION.match(text)
    if match is None:
        raise ValueError(_NOT_ONE)
    duration = int(match[1]) * _UNITS[match[2]]
    if duration > _LONGEST:
        raise ValueError('longer than ten years; write at most "3650d"')
    return duration


def format_duration(duration: int) -> str:
    """Return microseconds in the largest unit that divides them; less than a millisecond is cut off."""
    for unit, length in _UNITS.items():
        if duration and duration % length == 0:
            return f"{duration // length}{unit}"
    return f"{duration // _UNITS['ms']}ms" if duration else "0s"
