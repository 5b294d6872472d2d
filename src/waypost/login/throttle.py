"""How long somebody waits after failed logins: a decision over counters and the clock.

Two counters grow with each failure: that of the client's network and that of the account. Each asks for a wait of
1, 2, 4, ... up to 60 seconds. Nobody can use them to lock an account's owner out:

- From a network that has logged in to the account before, only failures from there for that account count.
- From any other network, an account under attack asks for one wait, counted for that network from its own first
  try: when it comes back after that wait it is let through, whatever others did meanwhile.

The tables are bounded; what was not used for the longest time is forgotten first.
"""

from collections.abc import Callable
from dataclasses import dataclass

from waypost.login.bounded import BoundedTable
from waypost.message.trace import Micros

MAX_WAIT = 60
"""Seconds: no wait is longer."""

_SECOND = 1_000_000
_FORGET = 3600 * _SECOND
_ACCOUNT_GRACE = 4  # failures from strange networks before an account asks them to wait


@dataclass(slots=True)
class _Failures:
    count: int = 0
    last: Micros = 0

    def add(self, now: Micros) -> None:
        self.count = self.count + 1 if now - self.last < _FORGET else 1
        self.last = now

    def delay(self, now: Micros, grace: int = 0) -> Micros:
        """Return the wait that the failures ask for, counted from the last one."""
        if self.last > now:  # the clock was set back
            self.last = now
        excess = self.count - grace
        if excess <= 0 or now - self.last >= _FORGET:
            return 0
        return min(1 << min(excess - 1, 16), MAX_WAIT) * _SECOND

    def left(self, now: Micros) -> Micros:
        """Return what is left of the wait."""
        delay = self.delay(now)
        return max(0, self.last + delay - now)


class Throttle:
    """Counts failures and says who waits. `most` bounds each table."""

    def __init__(self, now: Callable[[], Micros], *, most: int = 10_000) -> None:
        self._now = now
        self._networks: BoundedTable[str, _Failures] = BoundedTable(most)
        self._accounts: BoundedTable[str, _Failures] = BoundedTable(most)
        self._known: BoundedTable[tuple[str, str], _Failures] = BoundedTable(most)
        self._appointments: BoundedTable[tuple[str, str], Micros] = BoundedTable(most)

    def __len__(self) -> int:
        return len(self._networks) + len(self._accounts) + len(self._known) + len(self._appointments)

    def wait(self, network: str, account: str) -> int:
        """Return the seconds that this network must wait before it may try this account; 0: go on."""
        now = self._now()
        known = self._known.get((network, account))
        if known is not None:
            return _seconds(known.left(now))
        failures = self._networks.get(network)
        left = failures.left(now) if failures is not None else 0
        return _seconds(max(left, self._appointment(network, account, now)))

    def _appointment(self, network: str, account: str, now: Micros) -> Micros:
        """Return how long until this network may try the account that others, too, have failed at."""
        failures = self._accounts.get(account)
        delay = failures.delay(now, _ACCOUNT_GRACE) if failures is not None else 0
        if not delay:
            return 0
        due = self._appointments.get((network, account))
        if due is None or due > now + MAX_WAIT * _SECOND:  # none yet, or the clock was set back
            due = now + delay
            self._appointments.put((network, account), due)
        return max(0, due - now)

    def failed(self, network: str, account: str) -> None:
        """Count a failure."""
        now = self._now()
        known = self._known.get((network, account))
        if known is not None:
            known.add(now)
            return
        _count(self._networks, network, now)
        _count(self._accounts, account, now)
        self._appointments.remove((network, account))
        self._appointment(network, account, now)

    def succeeded(self, network: str, account: str) -> None:
        """Remember that this network has logged in to this account."""
        self._appointments.remove((network, account))
        self._known.put((network, account), _Failures())


def _count(table: BoundedTable[str, _Failures], key: str, now: Micros) -> None:
    failures = table.get(key)
    if failures is None:
        failures = _Failures()
        table.put(key, failures)
    failures.add(now)


def _seconds(wait: Micros) -> int:
    return -(-wait // _SECOND)
