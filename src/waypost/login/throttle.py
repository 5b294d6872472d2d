"""Decides which logins wait, and which are refused without a check, from counters and the clock (decision 0026).

A network (an IPv4 address, an IPv6 /64) from which an account has logged in before is *known* to it: there, only
failures of this account from this network count. From anywhere else, all failures of the network count together.

- Up to 20 failures in ten minutes: a login waits once, until 1, 2, 4, 8, then 15 seconds after the last failure.
- After more failures, answers come one at a time, in turns: one each second, and fewer after a thousand in a row. Then
  logins from a network that is known to the account get one every 5 seconds. An unknown network has two lanes: one turn
  every 15 seconds for the accounts at which it has failed three times, and one every 2 seconds for the others (a new
  phone, for example). A login that would wait for longer than a minute is refused without a check.
- After failures from more than ten networks at an account within an hour, a network that is unknown to this account
  has five tries a day. All networks of one IPv6 /56 share them, because one customer may have all of it.

No other login is refused without a check, so a right password succeeds whatever others do.

Nothing here depends on whether an account exists: a name without an account is counted like any other.
"""

from collections.abc import Callable
from dataclasses import dataclass
from enum import IntEnum

from waypost.login.counters import Counters, Failures, Lane
from waypost.login.memory import LoginMemory
from waypost.message.trace import Micros
from waypost.protocol.network import site_of

MAX_DELAY = 15
"""The longest time in seconds after a failure for which the next answer is held back."""

LONGEST_LINE = 60
"""A login whose turn would come later than this many seconds from now is refused."""

MOST_FAILURES = 20
"""After more failures than this in `WINDOW` seconds, logins take turns, and a wrong password gets a temporary reply."""

WINDOW = 600

_SECOND = 1_000_000
_HOUR = 3600
_DAY = 24 * _HOUR
_TURN = 1  # seconds between turns
_TURNS_AT_ONCE = 1000  # turns before the lasting rates apply, in seconds between turns:
_KNOWN_EVERY = 5  # from a network that is known to the account
_FAILED_EVERY = 15  # from an unknown network, for accounts at which it has failed already
_FRESH_EVERY = 2  # from an unknown network, for the other accounts
_OWN_TRIES = 3  # failures at an account after which a network counts as having failed there
_MANY_NETWORKS = 10
_TRIES_UNDER_ATTACK = 5


class Standing(IntEnum):
    """The order in which passwords are checked: low values first."""

    KNOWN = 0  # the account has logged in from this network, and nothing failed
    CLEAN = 1  # nothing failed from this network, nor at this account
    FAILED = 2


@dataclass(frozen=True, slots=True)
class Origin:
    """The network and the account of a login; `known` when this account has logged in from this network before."""

    network: str
    account: str
    known: bool = False


@dataclass(frozen=True, slots=True)
class Entry:
    """What a login may do now: go on after `wait` seconds, or not at all when it is `refused`.

    With a `turn`, it goes on after the wait whatever happens meanwhile; without, it calls `enter` again with `waited`.
    `refused` is the seconds after which another try makes sense; 0 when the login is not refused.
    """

    wait: float = 0.0
    turn: bool = False
    refused: int = 0


@dataclass(frozen=True, slots=True)
class Pass:
    """How a login was let through: with its own turn, or else after it `waited`, or at once."""

    turn: bool
    waited: bool


class Throttle:
    """Counts failures for all processes that share `memory`, and says which logins wait."""

    def __init__(self, memory: LoginMemory, now: Callable[[], Micros]) -> None:
        self._memory = memory
        self._counters = Counters(memory)
        self._now = now

    def enter(self, origin: Origin, *, waited: bool = False) -> Entry:
        """Decide whether a login may go on. With too many failures it takes a turn; otherwise the login waits once."""
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
        """True when a login that was let through would have to wait now, because others failed meanwhile."""
        if admitted.turn:
            return False
        now = self._now()
        with self._memory.locked():
            counted = self._own(origin, now) if origin.known else self._of_network(origin, now)
        failures = counted.within(WINDOW, now)
        return failures > MOST_FAILURES or (not admitted.waited and _delay(counted.last, failures, now) > 0)

    def failed(self, origin: Origin) -> int:
        """Count a failure. Return the seconds until failures are within the limit again; 0 when they are."""
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
            if first and origin.account:  # count networks, not tries: each network once
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
    """Return when a lane has its next turn. A time too far ahead does not count: the clock was set back since."""
    most = _TURNS_AT_ONCE * every
    soonest = lane.next if lane.next <= now + (LONGEST_LINE + _TURN) * _SECOND else now
    if lane.even > now // _SECOND + most + LONGEST_LINE + every:
        lane.even = 0
    return max(now, soonest, (lane.even - most) * _SECOND)


def _delay(last: Micros, failures: int, now: Micros) -> float:
    """Return the seconds for which the next answer is still held back after the newest failure."""
    if not failures:
        return 0.0
    delay = min(1 << min(failures - 1, 16), MAX_DELAY) * _SECOND
    return max(0, last + delay - now) / _SECOND


def _overdrawn(failures: Failures, now: Micros) -> int:
    """Return the seconds until failures are within the limit again; 0 when they are."""
    if failures.within(WINDOW, now) <= MOST_FAILURES:
        return 0
    return max(1, failures.times[MOST_FAILURES] + WINDOW - now // _SECOND)
