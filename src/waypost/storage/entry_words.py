"""What is told of queue entries that leave the schedule, come back to it or are deleted: the same by every engine.

The events go into the journal; the texts are an entry's last error, which operators filter by.
"""

from waypost.journal import Deleted, Event, Held, HeldAction
from waypost.message.trace import Micros, TraceId

SINCE_RESTORE = "held since a restore: it may have left after the backup"
"""The last error after a restore; `waypost queue release --error "held since a restore"` lets such entries go."""


def held_event(trace: TraceId, now: Micros) -> Event:
    """Return what the journal tells of an entry that an operator holds."""
    return Event(trace, now, Held(action=HeldAction.HELD))


def released_event(trace: TraceId, now: Micros) -> Event:
    """Return what the journal tells of an entry that an operator releases."""
    return Event(trace, now, Held(action=HeldAction.RELEASED))


def restored_event(trace: TraceId, now: Micros) -> Event:
    """Return what the journal tells of an entry that a restore holds."""
    return Event(trace, now, Held(action=HeldAction.HELD, problem=SINCE_RESTORE))


def set_aside_event(trace: TraceId, now: Micros, problem: str) -> Event:
    """Return what the journal tells of an entry that storage sets aside, because of a problem."""
    return Event(trace, now, Held(action=HeldAction.SET_ASIDE, problem=problem))


def deleted_event(trace: TraceId, now: Micros, destination: str) -> Event:
    """Return what the journal tells of an entry that an operator deletes."""
    return Event(trace, now, Deleted(destination=destination))


def set_aside_error(problem: str) -> str:
    """Return the last error of an entry whose outcome storage refuses."""
    return f"set aside: {problem}"


def damaged_error(damage: str) -> str:
    """Return the last error of an entry that can't be read."""
    return f"this entry is damaged: {damage}"
