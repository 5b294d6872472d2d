"""The verdict at the end: every message that was acknowledged came to each of its ends, and to each of them once.

A message has an end for each recipient: a mailbox, the sink, or a report to its sender. A message whose 250 was lost
in a kill is sent again and may arrive twice, under another trace id (RFC 5321 4.2.5); it is never lost. What was
relayed may be there twice under one trace id, when one of the two hosts was killed between: the answer was in flight.
"""

import itertools
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, field
from enum import StrEnum

from tests.torture.hosts import ALPHA, AWAY, BETA, PEOPLE
from tests.torture.letters import Returned, trace_by
from tests.torture.promises import Acknowledged, Maildrop, Promises
from tests.torture.sink import Taken

from waypost.message.trace import parse_trace_id, time_of

_SLACK = 2.0  # seconds in which a receiver still reads what a host sent that is dead already
_HOSTNAMES = {ALPHA: "mx.alpha.test", BETA: "mx.beta.test"}
_REFUSED = ("hard", "late", "nobody")


@dataclass(frozen=True, slots=True)
class End:
    """Where a message must come to: `who` reads it there; `about` is who it was not delivered to, in a report."""

    number: int
    who: str
    about: str | None = None


@dataclass(frozen=True, slots=True)
class Arrival:
    """A copy that was found at an end: when it came, and the trace id that the first host gave it."""

    time: float
    trace: str | None


class Victim(StrEnum):
    """What is killed."""

    HOST = "a host"
    STARTING = "a host as it starts"
    WORKER = "a worker"
    SUPERVISOR = "a supervisor"


@dataclass(frozen=True, slots=True)
class Kill:
    """A kill of a host, or of one of its processes."""

    time: float
    host: str
    victim: Victim

    def explains(self, hosts: Collection[str], first: float, second: float) -> bool:
        """True when a message may have come twice, at these times, because one of the hosts that took part was killed.

        Workers whose supervisor dies end what they do, and what they know is written.
        """
        return self.host in hosts and first - _SLACK < self.time < second and self.victim is not Victim.SUPERVISOR


@dataclass
class Verdict:
    """What is wrong, and the numbers of messages that came twice: relayed twice because of a kill, or sent twice."""

    problems: list[str] = field(default_factory=list)
    stored_twice: set[int] = field(default_factory=set)
    duplicates: dict[Kill, set[int]] = field(default_factory=dict)
    ends: int = 0
    reports: int = 0


def ends_of(taken: Acknowledged) -> list[tuple[End, bool]]:
    """Return where a message must come to, and whether a relay is on the way there."""
    letter = taken.letter
    ends = []
    for recipient in letter.recipients:
        local, _, domain = recipient.partition("@")
        if recipient == AWAY:
            ends.append((End(letter.number, letter.sender, "hard@sink.test"), True))
        elif local in _REFUSED:
            ends.append((End(letter.number, letter.sender, recipient), letter.sender not in PEOPLE[taken.host]))
        else:
            ends.append((End(letter.number, recipient), domain != taken.host))
    return ends


def judge(promises: Promises, maildrops: Iterable[Maildrop], sunk: Sequence[Taken], kills: Sequence[Kill]) -> Verdict:
    """Compare what was promised with what was found."""
    verdict = Verdict(problems=list(promises.problems))
    found = _found_in_maildrops(maildrops, promises, verdict)
    for end, arrivals in _found_in_sink(sunk, promises).items():
        found.setdefault(end, []).extend(arrivals)
    for number in promises.letters.keys() - promises.taken.keys():
        verdict.problems.append(f"message {number} was never acknowledged")
    expected = {end: (taken, relayed) for taken in promises.taken.values() for end, relayed in ends_of(taken)}
    for end, (taken, relayed) in expected.items():
        verdict.ends += 1
        verdict.reports += end.about is not None
        again = promises.unanswered[end.number]
        _judge_end(end, taken, relayed, again, sorted(found.get(end, []), key=lambda one: one.time), kills, verdict)
    for end in found.keys() - expected.keys():
        verdict.problems.append(f"{end}: found, and nobody sent it there")
    return verdict


def _judge_end(
    end: End,
    taken: Acknowledged,
    relayed: bool,
    again: int,
    arrivals: list[Arrival],
    kills: Sequence[Kill],
    verdict: Verdict,
) -> None:
    """Judge one end. `again` is how often its message was sent whole and not answered."""
    if not arrivals:
        verdict.problems.append(f"{end} is lost; {taken.host} had taken it as {taken.trace}")
        return
    traces = {arrival.trace for arrival in arrivals}
    if end.about is None and taken.trace not in traces:
        verdict.problems.append(f"{end}: it was acknowledged as {taken.trace}, and that is lost; it came as {traces}")
    copies = len(traces)
    hosts = {taken.host, end.who.partition("@")[2]}
    for trace in traces:
        same = [arrival for arrival in arrivals if arrival.trace == trace]
        for first, second in itertools.pairwise(same):
            between = [kill for kill in kills if kill.explains(hosts, first.time, second.time)]
            if relayed and between:
                verdict.duplicates.setdefault(between[-1], set()).add(end.number)
            elif end.about is not None:  # each copy of a message has its own report, which names no trace id
                copies += 1
            else:
                verdict.problems.append(f"{end} came twice as {trace}, and nothing explains it")
    if copies > 1:
        verdict.stored_twice.add(end.number)
    if copies > 1 + again:
        verdict.problems.append(
            f"{end} came {copies} times, and its answer was lost {again} times; it is {taken.trace} of {taken.host}"
        )


def _found_in_maildrops(
    maildrops: Iterable[Maildrop], promises: Promises, verdict: Verdict
) -> dict[End, list[Arrival]]:
    found: dict[End, list[Arrival]] = {}
    for maildrop in maildrops:
        hostname = _HOSTNAMES[maildrop.user.partition("@")[2]]
        for copy in maildrop.copies.values():
            if isinstance(copy.about, Returned):
                # Reports to users are made by their own host: they have no Received field, and are never relayed.
                for about in copy.about.recipients:
                    found.setdefault(End(copy.about.number, maildrop.user, about), []).append(Arrival(0.0, None))
                continue
            taken = promises.taken.get(copy.about)
            here = trace_by(copy.header, hostname)
            if taken is None or here is None:
                verdict.problems.append(f"message {copy.about} for {maildrop.user}: no trace of its way")
                continue
            came = time_of(parse_trace_id(here)) / 1e6
            arrival = Arrival(came, trace_by(copy.header, _HOSTNAMES[taken.host]))
            found.setdefault(End(copy.about, maildrop.user), []).append(arrival)
    return found


def _found_in_sink(sunk: Sequence[Taken], promises: Promises) -> dict[End, list[Arrival]]:
    found: dict[End, list[Arrival]] = {}
    for taken in sunk:
        about = taken.copy.about
        if isinstance(about, Returned):
            for failed in about.recipients:
                for who in taken.recipients:
                    found.setdefault(End(about.number, who, failed), []).append(Arrival(taken.time, None))
            continue
        first = promises.taken.get(about)  # None: its sender was never told, which is a problem of its own
        trace = trace_by(taken.copy.header, _HOSTNAMES[first.host]) if first else None
        for who in taken.recipients:
            found.setdefault(End(about, who), []).append(Arrival(taken.time, trace))
    return found
