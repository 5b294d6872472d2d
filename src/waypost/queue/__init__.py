"""Store and forward: decides when delivery is tried, reported and given up; carriers decide how mail is delivered."""

from waypost.queue.carrier import AttemptResult, Carrier, CarryResult, EntrySource, Fate, RecipientResult
from waypost.queue.dispatcher import Dispatcher
from waypost.queue.outcomes import discard, return_entry
from waypost.queue.reporter import Reporter
from waypost.queue.schedule import Schedule

__all__ = [
    "AttemptResult",
    "Carrier",
    "CarryResult",
    "Dispatcher",
    "EntrySource",
    "Fate",
    "RecipientResult",
    "Reporter",
    "Schedule",
    "discard",
    "return_entry",
]
