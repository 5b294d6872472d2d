"""From which of our addresses a message leaves, and why it moved to another one (`[[outbound.source]]`).

A message keeps its source at a destination: receivers that greylist know a client by its address. The first attempt's
source is chosen by rendezvous hashing over sender and first recipient, so that every worker chooses alike, a restart
changes nothing, and a change of the list moves as few messages as can be. A message that stays in the queue then has
its source in its row, and no change of the list moves it while that source is there (docs/decisions/0040).
"""

import hashlib
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass

from waypost.config.settings import MINUTE, EgressSource, IpAddress
from waypost.message.trace import Micros
from waypost.storage import QueueEntry
from waypost.storage.queue import reverse_path_text

_UNUSABLE_FOR = MINUTE
_FAMILIES = (6, 4)  # in the order in which they are preferred, as the servers of a host are


@dataclass(frozen=True, slots=True, eq=False)
class Egress:
    """The source of a message at a destination. `other` serves servers of the family that `source` can't reach.

    Both None: the system chooses. There is one object for each source: they are compared by identity.
    """

    source: EgressSource | None
    other: EgressSource | None = None

    def to(self, address: IpAddress) -> EgressSource | None:
        """Return the source of a server's family; None if there is none."""
        for source in (self.source, self.other):
            if source is not None and source.address.version == address.version:
                return source
        return None

    @property
    def name(self) -> str | None:
        """The address by which it is known."""
        return None if self.source is None else str(self.source.address)


SYSTEM = Egress(None)
"""Where no source is configured."""


class EgressSources:
    """Chooses the source of each message, and remembers for a while which ones this machine does not have."""

    def __init__(self, sources: Sequence[EgressSource], *, now: Callable[[], Micros]) -> None:
        self._now = now
        self._known = {str(source.address): Egress(source, _counterpart(source, sources)) for source in sources}
        self._one = SYSTEM if not sources else next(iter(self._known.values())) if len(sources) == 1 else None
        self._unusable: dict[str, Micros] = {}
        self.none = not sources
        """True where the system chooses."""

    @property
    def names(self) -> Collection[str | None]:
        """The addresses of all; only None where the system chooses."""
        return self._known.keys() or (None,)

    @property
    def all(self) -> Collection[Egress]:
        """All that `of` may return."""
        return self._known.values() or (SYSTEM,)

    @property
    def count(self) -> int:
        """How many there are to choose from."""
        return max(1, len(self._known))

    def of(self, entry: QueueEntry, families: Collection[int]) -> Egress:  # hot: bench/relay
        """Return the source of a message at a destination whose servers are of these families (4, 6)."""
        if self._one is not None:
            return self._one
        kept = self._known.get(entry.source) if entry.source is not None else None
        if kept is not None and self._is_usable(kept):
            return kept
        return self._best(entry, families, self._is_usable)

    def unusable(self, source: EgressSource) -> None:
        """Connections can't come from this source now: it is no address of this machine."""
        self._unusable[str(source.address)] = self._now() + _UNUSABLE_FOR

    def keeps(self, entry: QueueEntry, used: str | None) -> str | None:
        """Return the source that a message has from now on, when an attempt went out from `used` (None: from none)."""
        return entry.source if used is None else used if used in self._known else None

    def moved(self, entry: QueueEntry, used: str | None, families: Collection[int]) -> str | None:
        """Return why an attempt went out from another source than the message had, or would have had by the list."""
        if used is None or used == entry.source:
            return None
        had = entry.source
        if had is None:
            if not self._unusable or self._one is not None:
                return None
            first = self._best(entry, families, lambda _: True)
            if used in (first.name, first.other and str(first.other.address)):
                return None
            had = str(first.name)
        if had not in self._known:
            return f"{had} is no source any more (outbound.source)"
        if not self._is_usable(self._known[had]):
            return f"{had} is no address of this machine"
        return f"no server took a connection from {had}"

    def _is_usable(self, egress: Egress) -> bool:
        return not self._unusable or self._unusable.get(egress.name or "", 0) <= self._now()

    def _best(self, entry: QueueEntry, families: Collection[int], allowed: Callable[[Egress], bool]) -> Egress:
        known = list(self._known.values())
        for family in _FAMILIES:
            fit = [each for each in known if family in families and _version(each) == family and allowed(each)]
            if fit:
                return _winner(entry, fit)
        return _winner(entry, [each for each in known if _version(each) in families] or known)


def _version(egress: Egress) -> int:
    return 0 if egress.source is None else egress.source.address.version


def _winner(entry: QueueEntry, among: Sequence[Egress]) -> Egress:
    """Rendezvous hashing: each message ranks the sources by a hash of its own, and takes the first."""
    if len(among) == 1:
        return among[0]
    recipient = entry.recipients[0].address if entry.recipients else ""
    key = f"{reverse_path_text(entry.envelope.reverse_path)}\0{recipient}\0{entry.destination}".lower()
    return max(among, key=lambda egress: _weight(egress.name or "", key))


def _counterpart(source: EgressSource, sources: Sequence[EgressSource]) -> EgressSource | None:
    others = [other for other in sources if other.address.version != source.address.version]
    return max(others, key=lambda other: _weight(str(other.address), str(source.address)), default=None)


def _weight(source: str, key: str) -> bytes:
    return hashlib.blake2b(f"{source}\0{key}".encode("utf-8", "surrogatepass"), digest_size=8).digest()
