"""The cache of answers: a bounded map whose entries have a time to live and a weight.

When it is full, the least recently used entries go first. It knows nothing of DNS; time is an argument.
"""

from collections import OrderedDict
from collections.abc import Callable, Hashable
from typing import Generic, TypeVar

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")


class Cache(Generic[K, V]):
    """Keeps values until their time is over. `clock` gives seconds; `capacity` is the largest sum of weights."""

    def __init__(self, capacity: int, clock: Callable[[], float]) -> None:
        self._capacity = capacity
        self._clock = clock
        self._entries: OrderedDict[K, tuple[V, float, int]] = OrderedDict()
        self._weight = 0

    def __len__(self) -> int:
        return len(self._entries)

    def get(self, key: K) -> tuple[V, float] | None:
        """Return the value and the seconds for which it is still valid; None when it is missing or expired."""
        entry = self._entries.get(key)
        if entry is None:
            return None
        value, end, _ = entry
        left = end - self._clock()
        if left <= 0:
            self._drop(key)
            return None
        self._entries.move_to_end(key)
        return value, left

    def put(self, key: K, value: V, seconds: float, weight: int) -> None:
        """Keep a value for `seconds`, instead of an older one of this key; with no seconds, do not keep it."""
        if key in self._entries:
            self._drop(key)
        if seconds <= 0 or weight > self._capacity:
            return
        self._entries[key] = (value, self._clock() + seconds, weight)
        self._weight += weight
        while self._weight > self._capacity:
            self._drop(next(iter(self._entries)))

    def clear(self) -> None:
        """Forget everything."""
        self._entries.clear()
        self._weight = 0

    def _drop(self, key: K) -> None:
        self._weight -= self._entries.pop(key)[2]
