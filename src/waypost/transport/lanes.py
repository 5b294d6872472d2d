"""The state of each source in a round: its lanes, its limits, and the entries that wait for its turn.

Values and counts; the round (`round.py`) moves the entries.
"""

from collections import deque
from collections.abc import Callable, Hashable, Iterator
from typing import Any

from msgspec.structs import replace

from waypost.message.trace import Micros
from waypost.queue.carrier import DestinationFailure
from waypost.storage import QueueEntry
from waypost.transport.egress import Egress, EgressSources
from waypost.transport.regulator import Decision, Signal

_MOST_ASIDE = 20  # entries that lanes have taken, and that wait for a source's turn

Regulate = Callable[[str | None, Signal | None, int], Decision]
"""The regulator for one destination: a source, a signal (None: to begin with), and how many connections stand."""


class Group:
    """The entries of a round that leave from one source. `key` is what its connections are good for."""

    __slots__ = (
        "allowed",
        "connected",
        "egress",
        "failure",
        "key",
        "lanes",
        "name",
        "not_before",
        "standing",
        "stopped_at",
        "waiting",
    )

    def __init__(self, egress: Egress, key: Hashable) -> None:
        self.egress = egress
        self.name = egress.name
        self.key = key
        self.allowed = 1
        self.not_before: Micros = 0
        self.lanes = 0
        self.standing = 0
        """How many of its lanes have a connection."""
        self.connected = False
        """True when a server took a connection in this round."""
        self.waiting: deque[QueueEntry] = deque()
        """Entries that a lane took and could not carry."""
        self.failure: DestinationFailure | None = None
        """What holds for everything that would have left from here."""
        self.stopped_at: Micros = 0
        """When the regulator stopped it in this round."""

    @property
    def alive(self) -> bool:
        """True while its messages get through, as far as is known."""
        return self.connected and self.allowed > 0

    @property
    def stopped(self) -> bool:
        """True when nobody tries from here, until the regulator allows it again."""
        return self.allowed <= 0

    def heed(self, decision: Decision, now: Micros) -> None:
        """Follow the regulator; `now` counts where the decision stops this source."""
        if decision.connections <= 0:
            self.stopped_at = now
        self.allowed = decision.connections
        self.not_before = decision.not_before

    def covers(self, entry: QueueEntry, now: Micros) -> bool:
        """True for an entry that was due when this source was stopped, or comes before it may be tried again."""
        return self.stopped and (now < self.not_before or entry.next_attempt <= self.stopped_at)


class Groups:
    """The groups of a round. `key` is what its connections are good for, whatever source they have; `families` are
    those of the servers; `ceiling` is the most connections of the destination.
    """

    def __init__(
        self, sources: EgressSources, families: frozenset[int], key: tuple[Any, ...], regulate: Regulate, ceiling: int
    ) -> None:
        self._sources = sources
        self._families = families
        self._key = key
        self._regulate = regulate
        self._ceiling = ceiling
        self._groups: dict[Egress, Group] = {}
        self._only: Group | None = None  # where there is nothing to choose
        self._aside = 0

    def __iter__(self) -> Iterator[Group]:
        return iter(self._groups.values())

    def of(self, entry: QueueEntry) -> Group:  # hot: bench/relay
        """Return the group of an entry."""
        if self._only is not None:
            return self._only
        egress = self._sources.of(entry, self._families)
        return self._groups.get(egress) or self._begin(egress)

    def _begin(self, egress: Egress) -> Group:
        group = Group(egress, (*self._key, egress))
        decision = self._regulate(group.name, None, 0)
        # The first of a round is tried whatever came before: the queue has waited, or an operator wants it.
        rests = bool(self._groups) and decision.not_before > 0
        group.heed(replace(decision, connections=0 if rests else max(1, decision.connections)), 0)
        self._groups[egress] = group
        if self._sources.count == 1:
            self._only = group
        return group

    @property
    def keys(self) -> list[Hashable]:
        """What connections from all sources are good for."""
        return [(*self._key, egress) for egress in self._sources.all]

    @property
    def allowed(self) -> int:
        """How many lanes there may be."""
        if self._only is not None:
            return self._only.allowed
        return min(sum([group.allowed for group in self._groups.values()]), self._ceiling)

    @property
    def get_through(self) -> bool:
        """True when the messages of some source get through."""
        return any(group.alive for group in self)

    @property
    def all_stopped(self) -> bool:
        """True when nobody tries from any source that was looked at."""
        return bool(self._groups) and all(group.stopped for group in self)

    @property
    def may_look_further(self) -> bool:
        """True when entries of a source that was not tried may be due."""
        return sum(group.stopped for group in self) < self._sources.count and self.may_set_aside

    @property
    def may_set_aside(self) -> bool:
        """True while there is room for one more entry that waits for its source's turn."""
        return self._aside < _MOST_ASIDE

    @property
    def not_before(self) -> Micros:
        """Until when the destination is to be left alone: while no source may try."""
        return min(group.not_before for group in self) if self.all_stopped else 0

    def set_aside(self, group: Group, entry: QueueEntry) -> None:
        """Let an entry wait for a lane of its group."""
        self._aside += 1
        group.waiting.append(entry)

    def take_up(self, group: Group) -> QueueEntry:
        """Return the entry of a group that has waited longest."""
        self._aside -= 1
        return group.waiting.popleft()

    def speaks_for_all(self, entry: QueueEntry) -> bool:
        """True for the entry of the attempt that failed for a whole source."""
        return any(group.failure is not None and group.failure.attempt.entry is entry for group in self)
