"""What a storage was told to do, and from which moment on it must remember it.

Moments are positions in the record of the disk's steps. A deed that was acknowledged before the power went must be
there afterwards; one that had not begun must not; one that was on its way is there wholly or not at all.
"""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from enum import Enum

from waypost.message.trace import TraceId

LONG_AGO = -1


class Fate(Enum):
    """What a deed is at the moment of a power loss."""

    NOT_BEGUN = "not begun"
    OPEN = "on its way"
    DONE = "acknowledged"


@dataclass(slots=True, eq=False)
class Deed:
    """One change that is made with one commit: begun at a moment, acknowledged at another."""

    name: str
    began: int
    acknowledged: int | None = None

    def fate(self, moment: int) -> Fate:
        """Return what it is when the steps before `moment` were taken, and no more."""
        if self.began >= moment:
            return Fate.NOT_BEGUN
        return Fate.DONE if self.acknowledged is not None and self.acknowledged <= moment else Fate.OPEN


def done(name: str) -> Deed:
    """Return a deed of an earlier life of the storage."""
    return Deed(name, LONG_AGO - 1, LONG_AGO)


@dataclass(frozen=True, slots=True)
class Place:
    """Where a message is: in the queue for a destination, or in a mailbox."""

    trace: TraceId
    where: str | int  # destination, or mailbox id


@dataclass(slots=True)
class Fact:
    """A message is at a place, from one deed to another. `octets` are what a reader must find there."""

    octets: bytes
    born: Deed
    gone: Deed | None = None
    tried: list[Deed] = field(default_factory=list)  # deferrals
    attempts: int = 0  # of earlier lives


@dataclass(frozen=True, slots=True)
class Seen:
    """A reader saw a UID of a mailbox, at a moment."""

    moment: int
    mailbox: int
    uid: int
    trace: TraceId


@dataclass(slots=True)
class Ledger:
    """All that is known."""

    facts: dict[Place, Fact] = field(default_factory=dict)
    seen: list[Seen] = field(default_factory=list)
    boxes: dict[int, tuple[Deed, str, int]] = field(default_factory=dict)  # mailbox: (made by, address, UIDVALIDITY)
    events: list[tuple[Deed, TraceId, str]] = field(default_factory=list)  # what the journal must tell
    deeds: int = 0

    def begin(self, name: str, moment: int) -> Deed:
        """A deed begins."""
        self.deeds += 1
        return Deed(name, moment)

    def acknowledgements(self) -> list[int]:
        """Return the moments at which something was acknowledged in this life."""
        deeds = {deed for fact in self.facts.values() for deed in (fact.born, fact.gone, *fact.tried) if deed}
        return sorted({deed.acknowledged for deed in deeds if deed.acknowledged is not None and deed.acknowledged >= 0})

    def known(self) -> set[TraceId]:
        """Return every message that was ever handed in."""
        return {place.trace for place in self.facts}

    def survive(
        self, found: Iterable[Place], attempts: dict[Place, int], told: dict[TraceId, Counter[str]], moment: int
    ) -> "Ledger":
        """Return what is known after a power loss at `moment`, when this was found: the places, how often each entry
        was tried, and what the journal tells of each message.
        """
        there = set(found)
        past, never = done("an earlier life"), done("lost or removed in an earlier life")
        after = Ledger(deeds=self.deeds)
        for place, fact in self.facts.items():
            gone = None if place in there else never
            after.facts[place] = Fact(fact.octets, past, gone, attempts=attempts.get(place, 0))
        after.seen = [Seen(LONG_AGO, seen.mailbox, seen.uid, seen.trace) for seen in self.seen if seen.moment <= moment]
        after.boxes = {
            box: (past, address, validity)
            for box, (deed, address, validity) in self.boxes.items()
            if deed.fate(moment) is Fate.DONE
        }
        after.events = [(past, trace, station) for trace, events in told.items() for station in events.elements()]
        return after
