"""From which source an entry leaves, who receives it, and how fast that goes and why, for `waypost queue show`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from waypost.cli.times import iso_time, local_time, now, span_text

if TYPE_CHECKING:
    from waypost.config.settings import Outbound
    from waypost.message.trace import Micros
    from waypost.storage import Pacing, QueueEntry

_WHY = {
    "beginning": "few to begin with; each round of messages that are taken adds one",
    "growing": "each round of messages that are taken adds one",
    "ceiling": "outbound.max_connections_per_destination",
    "too many": "one more was refused lately",
    "dropped": "the server dropped a connection",
    "left alone": "connections were refused or dropped too often in a row",
    "unreachable": "no server took a connection",
}
"""The regulator's reasons in words (`transport/regulator.py`)."""

SourceText = Callable[["QueueEntry"], str]
"""Says from where an entry leaves; nothing for one that stays here."""


@dataclass(frozen=True, slots=True)
class WayOut:
    """What is known of the way of a destination: its pace from each source, as the service noted it last."""

    pacing: Sequence[Pacing]
    source_text: SourceText

    @property
    def receiver(self) -> str | None:
        """Who runs the servers."""
        return next((each.receiver for each in self.pacing if each.receiver), None)

    def pace_texts(self, when: Micros) -> list[str]:
        """Return how many connections go out from each source, and why no more."""
        return [_pace_text(each, when) for each in self.pacing]

    def json(self) -> dict[str, Any]:
        """Return the same for JSON; times are ISO 8601 in UTC."""
        return {
            "receiver": self.receiver,
            "pacing": [
                {
                    "source": each.source,
                    "connections": each.connections,
                    "reason": each.reason,
                    "not_before": iso_time(each.not_before) if each.not_before else None,
                    "at": iso_time(each.at),
                }
                for each in self.pacing
            ],
        }


def source_texts(outbound: Outbound) -> SourceText:
    """Return what says from where entries leave.

    All that this needs is read now: later the process may be a user who can't read the program.
    """
    from waypost.delivery.resolve import LOCAL_DESTINATION
    from waypost.transport.egress import EgressSources

    sources = EgressSources(outbound.egress, now=now)

    def text(entry: QueueEntry) -> str:
        if entry.destination == LOCAL_DESTINATION or entry.damage is not None:
            return ""
        if entry.source is not None:
            gone = "" if entry.source in sources.names else ", which is no source any more (outbound.source)"
            return entry.source + gone
        # Which family the servers' addresses are of, DNS says later.
        first = dict.fromkeys(sources.of(entry, families).name for families in ((4, 6), (4,)))
        chosen = " or ".join(name for name in first if name is not None)
        return f"{chosen}, from the first attempt on" if chosen else "the system chooses"

    return text


def _pace_text(pacing: Pacing, when: Micros) -> str:
    source = f"from {pacing.source}: " if pacing.source is not None else ""
    why = _WHY.get(pacing.reason, pacing.reason)
    ago = f", {span_text(when - pacing.at)} ago"
    if pacing.connections:
        return f"{source}{pacing.connections} {'connection' if pacing.connections == 1 else 'connections'}: {why}{ago}"
    until = f" before {local_time(pacing.not_before)}" if pacing.not_before > when else " until something is due"
    return f"{source}no connection{until}: {why}{ago}"
