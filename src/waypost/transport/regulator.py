"""How many connections a destination gets now from one source: slow start and back-off, as one pure decision.

What happened comes in as signals, one after the other; `decide` gives what is allowed from now on. It starts
with few connections and adds one for each round of messages that were taken; a connection too many is not tried
again for a while, a dropped one halves their number, and a destination that nobody answers for is left alone. No
clock and no memory in here: the owner keeps the record, which is a value.

The pause after a failure is a share of the time for which the destination has been in trouble, so it fits a
schedule of seconds as well as one of hours, and delays no notice and no expiry by more than `longest_pause`.

Each decision carries its reason: which term binds now. `waypost queue show` prints it.
"""

from dataclasses import dataclass
from enum import StrEnum

import msgspec
from msgspec.structs import replace

from waypost.message.trace import Micros

_MINUTE = 60_000_000


class Signal(StrEnum):
    """What happened at a destination."""

    TAKEN = "taken"  # a transaction was answered, and somebody has the message now
    ANSWERED = "answered"  # a transaction was answered, and nobody has it: it was about this message
    REFUSED = "refused"  # a connection was refused while others stand: one too many
    DROPPED = "dropped"  # a connection was closed in the middle of a message, or instead of one
    UNREACHABLE = "unreachable"  # no server took a connection


class Reason(StrEnum):
    """Why so many connections are allowed, and no more."""

    BEGINNING = "beginning"  # few connections to begin with; each round of messages that are taken adds one
    GROWING = "growing"  # the last round of messages was taken
    CEILING = "ceiling"  # outbound.max_connections_per_destination
    TOO_MANY = "too many"  # one more was refused lately
    DROPPED = "dropped"  # a connection was dropped: half as many
    LEFT_ALONE = "left alone"  # refused or dropped too often in a row
    UNREACHABLE = "unreachable"  # no server took a connection


@dataclass(frozen=True, slots=True)
class Pace:
    """The terms. `ceiling` and `start` are connections; a number that was too many is not tried again for the time
    of `respect`; a destination with `patience` refused or dropped connections in a row is left alone; the pause is
    one part in `share` of the time in trouble. Records older than `memory` say nothing."""

    ceiling: int = 20
    start: int = 2
    respect: Micros = 10 * _MINUTE
    patience: int = 3
    share: int = 8
    longest_pause: Micros = 5 * _MINUTE
    memory: Micros = 60 * _MINUTE


class DestinationRecord(msgspec.Struct, frozen=True):
    """What is known of a destination, as one source sees it; the default is nothing.

    `limit` 0 means that it has not been used; `taken` counts the messages of the present round; `wall` connections
    were too many at the time `wall_at` (0: never); `trouble_since` is when the first of the bad signals in a row
    came, `push_backs` how many of them were refused or dropped connections. `answered`: a transaction was answered.
    Nobody tries before `not_before`. `reason` is that of the last decision.
    """

    limit: int = 0
    taken: int = 0
    wall: int = 0
    wall_at: Micros = 0
    push_backs: int = 0
    trouble_since: Micros | None = None
    at: Micros = 0
    answered: bool = False
    not_before: Micros = 0
    reason: Reason = Reason.BEGINNING


class Decision(msgspec.Struct, frozen=True):
    """What is allowed now: at most `connections` at once. With 0, nobody tries again before `not_before`.

    `connections` of a decision to begin with is never 0: `not_before` then says until when only the first one tries.
    """

    record: DestinationRecord
    connections: int
    not_before: Micros = 0

    @property
    def reason(self) -> Reason:
        """Which term binds."""
        return self.record.reason


def decide(
    record: DestinationRecord, signal: Signal | None, now: Micros, pace: Pace, *, standing: int = 0
) -> Decision:  # hot: bench/relay
    """Return what is allowed after a signal; with None, what is allowed to begin with.

    `standing` is how many connections stood when one more was refused.
    """
    record = _remembered(record, now, pace)
    match signal:
        case None:
            wait = record.not_before - now
            not_before = record.not_before if 0 < wait <= pace.longest_pause else 0  # else the clock was set back
            return Decision(record, 1 if record.trouble_since is not None else record.limit, not_before)
        case Signal.TAKEN:
            record = _after_taken(record, now, pace)
        case Signal.ANSWERED:
            record = replace(record, push_backs=0, trouble_since=None, at=now, answered=True, not_before=0)
            if record.reason in STOPPED:
                record = replace(record, reason=Reason.BEGINNING)
        case Signal.REFUSED:
            limit = max(1, min(record.limit, standing))
            record = _in_trouble(record, now, Reason.TOO_MANY, limit=limit, push_backs=record.push_backs + 1)
            record = replace(record, wall=limit + 1, wall_at=now)
        case Signal.DROPPED:
            limit = max(1, record.limit // 2)
            record = _in_trouble(record, now, Reason.DROPPED, limit=limit, push_backs=record.push_backs + 1)
        case Signal.UNREACHABLE:
            record = _in_trouble(record, now, Reason.UNREACHABLE, limit=1, push_backs=record.push_backs)
    if signal is Signal.UNREACHABLE or record.push_backs >= pace.patience:
        reason = record.reason if signal is Signal.UNREACHABLE else Reason.LEFT_ALONE
        record = replace(record, reason=reason, not_before=now + _pause(record, now, pace))
        return Decision(record, 0, record.not_before)
    return Decision(record, record.limit)


STOPPED = frozenset({Reason.LEFT_ALONE, Reason.UNREACHABLE})
"""Reasons for which nobody tries before a time."""


def answered_lately(record: DestinationRecord, now: Micros, pace: Pace) -> bool:
    """True when the destination has answered a transaction, not long ago, and has been in no trouble since."""
    return record.answered and record.trouble_since is None and now - record.at <= pace.memory


def _remembered(record: DestinationRecord, now: Micros, pace: Pace) -> DestinationRecord:
    if not record.limit or now - record.at > pace.memory:
        return DestinationRecord(limit=min(pace.start, pace.ceiling), at=now)
    return record if record.limit <= pace.ceiling else replace(record, limit=pace.ceiling)


def _after_taken(record: DestinationRecord, now: Micros, pace: Pace) -> DestinationRecord:
    ceiling = pace.ceiling
    reason = Reason.CEILING
    if record.wall and now - record.wall_at < pace.respect and record.wall <= ceiling:
        ceiling, reason = record.wall - 1, Reason.TOO_MANY
    limit, taken = record.limit, record.taken + 1
    if taken >= limit and limit < ceiling:
        limit, taken = limit + 1, 0
    if limit < ceiling:
        reason = Reason.BEGINNING if limit <= pace.start else Reason.GROWING
    return DestinationRecord(
        limit, min(taken, limit), record.wall, record.wall_at, at=now, answered=True, reason=reason
    )


def _in_trouble(
    record: DestinationRecord, now: Micros, reason: Reason, *, limit: int, push_backs: int
) -> DestinationRecord:
    since = now if record.trouble_since is None else record.trouble_since
    return replace(
        record,
        limit=limit,
        taken=0,
        push_backs=push_backs,
        trouble_since=since,
        at=now,
        not_before=0,
        reason=reason,
    )


def _pause(record: DestinationRecord, now: Micros, pace: Pace) -> Micros:
    in_trouble = now - (now if record.trouble_since is None else record.trouble_since)
    return max(0, min(in_trouble // pace.share, pace.longest_pause))
