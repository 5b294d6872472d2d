"""Times for people and for programs: local time, how long something is or was, ISO 8601 (RFC 3339)."""

from __future__ import annotations

import time
from datetime import datetime

from waypost.message.trace import Micros, iso_time

__all__ = ["iso_time", "local_time", "now", "span_text"]

_SECOND = 1_000_000


def now() -> Micros:
    """Return the time."""
    return time.time_ns() // 1000


def local_time(when: Micros) -> str:
    """Return a time in this machine's zone, to the second: `2026-11-25 02:07:00`."""
    return datetime.fromtimestamp(when // _SECOND).astimezone().strftime("%Y-%m-%d %H:%M:%S")


def span_text(span: Micros) -> str:
    """Return a span of time by its two largest units: `12s`, `3m05s`, `2h10m`, `5d3h`."""
    seconds = max(0, span) // _SECOND
    if seconds < 60:
        return f"{seconds}s"
    if seconds < 3600:
        return f"{seconds // 60}m{seconds % 60:02}s"
    if seconds < 86_400:
        return f"{seconds // 3600}h{seconds % 3600 // 60:02}m"
    return f"{seconds // 86_400}d{seconds % 86_400 // 3600}h"
