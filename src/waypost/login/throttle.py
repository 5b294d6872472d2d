"""Which logins wait, and which are refused unseen: decisions over counters and the clock (decision 0026).

A network (an IPv4 address, an IPv6 /64) from which an account has logged in before is *known* to it: there, only
failures of this account from this network count. From anywhere else, all failures of the network count together.

- Up to 20 failures in ten minutes: a login waits once, until 1, 2, 4, 8, and at last 15 seconds after the last failure.
- Beyond them answers come one at a time: one a second, and after a thousand in a row fewer. Then an account gets one
  every 5 seconds from a network that it knows. From another network, the accounts at which that one has failed three
  times get one every 15 seconds, and the others one every 2 seconds, in a lane of their own: a new phone, say. A login
  that would wait for longer than a minute is refused unseen.
- Where more than ten networks failed at an account within an hour, one that it does not know has five tries a day; all
  networks of one IPv6 /56 together have them, since one customer may have as many.

No other login is refused unseen, so a right password gets in whatever others do.

Nothing here asks whether an account exists: a name that does not is counted like any other.
"""

from collections.abc import Callable
from dataclasses import dataclass
from enum import IntEnum

from waypost.login.counters import Counters, Failures, Lane
from waypost.login.memory import LoginMemory
from waypost.message.trace import Micros
from waypost.protocol.network import site_of

MAX_DELAY = 15
"""Seconds after a failure for which the next answer is held back at most."""

LONGEST_LINE = 60
"""Seconds until a turn, beyond which a login is refused."""

MOST_FAILURES = 20
"""Failures in `WINDOW` seconds after which turns are taken, and a wrong password is answered as temporary."""

WINDOW = 600

_SECOND = 1_000_000
_HOUR = 3600
_DAY = 24 * _HOUR
_TURN = 1  # seconds between turns
_TURNS_AT_ONCE = 1000  # before they are only as often as this:
_KNOWN_EVERY = 5  # seconds, from a network that the account knows
_FAILED_EVERY = 15  # of others who have failed at the same account already
_FRESH_EVERY = 2  # and who have not
_OWN_TRIES = 3  # failures before one is taken for a guesser
_MANY_NETWORKS = 10
_TRIES_UNDER_ATTACK = 5


class Standing(IntEnum):
    """In which order passwords are checked."""

    KNOWN = 0  # the account has logged in from this network, and nothing failed
    CLEAN = 1  # nothing failed from this network, nor at this account
    FAILED = 2


@dataclass(frozen=True, slots=True)
class Origin:
    """Where a login comes from and whom it is about; `known` when this account has logged in from this network."""

    network: str
    account: str
    known: bool = False


@dataclass(frozen=True, slots=True)
class Entry:
    """What a login may do now: go on after `wait` seconds, or nothing, when it is `refused`.

    With a `turn`, it goes on then whatever happens meanwhile; without, it asks again, as one that has `waited`.
    `refused` is the seconds after which it makes sense to try again, 0 when it is not refused.
    """

    wait: float = 0.0
    turn: bool = False
    refused: int = 0


@dataclass(frozen=True, slots=True)
class Pass:
    """How a login was let through: with a turn of its own, or else after it `waited` or at once."""

    turn: bool
    waited: bool


class Throttle:
    """Counts failures for all processes that share `memory`, and says which logins wait."""

    def __init__(self, memory: LoginMemory, now: Callable[[], Micros]) -> None:
        self._memory = memory
        self._counters = Counters(memory)
        self._now = now

    def enter(self, origin: Origin, *, waited: bool = False) -> Entry:
        """Say whether a login may go on. Where turns are taken, this takes one; elsewhere a login waits once."""
        now = self._now()
        with self._memory.locked():
            own = self._own(origin, now)
            if not origin.known and self._attacked(origin, own, now):
                return Entry(refused=_HOUR)
            counted = own if origin.known else self._of_network(origin, now)
            failures = counted.within(WINDOW, now)
            if failures <= MOST_FAILURES:
                return Entry() if waited else Entry(_delay(counted.last, failures, now))
            fresh = not origin.known and own.within(_DAY, now) < _OWN_TRIES
            return self._take_turn(origin, counted, fresh=fresh, now=now)

    def must_wait(self, origin: Origin, admitted: Pass) -> bool:
        """Say whether a login that was let through would have to wait now, since others failed meanwhile."""
        if admitted.turn:
            return False
        now = self._now()
        with self._memory.locked():
            counted = self._own(origin, now) if origin.known else self._of_network(origin, now)
        failures = counted.within(WINDOW, now)
        return failures > MOST_FAILURES or (not admitted.waited and _delay(counted.last, failures, now) > 0)

    def failed(self, origin: Origin) -> int:
        """Count a failure. Returns 0, or beyond 20 in ten minutes, the seconds until they are less."""
        now = self._now()
        with self._memory.locked():
            own = self._own(origin, now)
            first = own.within(_HOUR, now) == 0
            own.add(now)
            self._counters.put("pair", origin.network, origin.account, failures=own)
            if origin.known:
                return _overdrawn(own, now)
            network = self._of_network(origin, now)
            network.add(now)
            self._counters.put("network", origin.network, failures=network)
            if (site := site_of(origin.network)) != origin.network:
                tries = self._counters.get("pair", site, origin.account, now=now)
                tries.add(now)
                self._counters.put("pair", site, origin.account, failures=tries)
            if first and origin.account:  # each network counts once: not how much one of them tries
                account = self._counters.get("account", origin.account, now=now)
                account.add(now)
                self._counters.put("account", origin.account, failures=account)
            return _overdrawn(network, now)

    def standing(self, origin: Origin) -> Standing:
        """Return the standing of a login in the queue for password checks."""
        now = self._now()
        with self._memory.locked():
            if self._own(origin, now).within(WINDOW, now):
                return Standing.FAILED
            if origin.known:
                return Standing.KNOWN
            network = self._of_network(origin, now).within(WINDOW, now)
            account = self._counters.get("account", origin.account, now=now).within(_HOUR, now)
            return Standing.FAILED if network or account else Standing.CLEAN

    def _own(self, origin: Origin, now: Micros) -> Failures:
        return self._counters.get("pair", origin.network, origin.account, now=now)

    def _of_network(self, origin: Origin, now: Micros) -> Failures:
        return self._counters.get("network", origin.network, now=now)

    def _attacked(self, origin: Origin, own: Failures, now: Micros) -> bool:
        site = site_of(origin.network)
        tries = own if site == origin.network else self._counters.get("pair", site, origin.account, now=now)
        if tries.within(_DAY, now) < _TRIES_UNDER_ATTACK:
            return False
        account = self._counters.get("account", origin.account, now=now)
        return account.within(_HOUR, now) > _MANY_NETWORKS

    def _take_turn(self, origin: Origin, counted: Failures, *, fresh: bool, now: Micros) -> Entry:
        lane = counted.fresh if fresh else counted.failed
        every = _FRESH_EVERY if fresh else _KNOWN_EVERY if origin.known else _FAILED_EVERY
        turn = _next_turn(lane, every, now)
        if turn > now + LONGEST_LINE * _SECOND:
            return Entry(refused=_overdrawn(counted, now))
        lane.next = turn + _TURN * _SECOND
        lane.even = max(lane.even, turn // _SECOND) + every
        if origin.known:
            self._counters.put("pair", origin.network, origin.account, failures=counted)
        else:
            self._counters.put("network", origin.network, failures=counted)
        return Entry((turn - now) / _SECOND, turn=True)


def _next_turn(lane: Lane, every: int, now: Micros) -> Micros:
    """Return when a lane has its next turn. A lane that lies far ahead is one of a clock that was set back since."""
    most = _TURNS_AT_ONCE * every
    soonest = lane.next if lane.next <= now + (LONGEST_LINE + _TURN) * _SECOND else now
    if lane.even > now // _SECOND + most + LONGEST_LINE + every:
        lane.even = 0
    return max(now, soonest, (lane.even - most) * _SECOND)


def _delay(last: Micros, failures: int, now: Micros) -> float:
    """Return the seconds for which the next answer is held back after the last of some failures."""
    if not failures:
        return 0.0
    delay = min(1 << min(failures - 1, 16), MAX_DELAY) * _SECOND
    return max(0, last + delay - now) / _SECOND


def _overdrawn(failures: Failures, now: Micros) -> int:
    """Return the seconds until failures are within the limit again; 0 when they are."""
    if failures.within(WINDOW, now) <= MOST_FAILURES:
        return 0
    return max(1, failures.times[MOST_FAILURES] + WINDOW - now // _SECOND)
