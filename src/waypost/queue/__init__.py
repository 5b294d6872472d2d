"""Store and forward: decides when delivery is tried, reported and given up; carriers decide how mail is delivered."""

from waypost.queue.carrier import AttemptResult, Carrier, EntrySource, Fate, Parting, RecipientResult
from waypost.queue.dispatcher import Dispatcher
from waypost.queue.outcomes import discard, return_entry
from waypost.queue.reporter import Reporter
from waypost.queue.schedule import Schedule

__all__ = [
    "AttemptResult",
    "Carrier",
    "Dispatcher",
    "EntrySource",
    "Fate",
    "Parting",
    "RecipientResult",
    "Reporter",
    "Schedule",
    "discard",
    "return_entry",
]
