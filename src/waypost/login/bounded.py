"""A table that never outgrows its bound, for what is remembered of strangers."""

from collections import OrderedDict
from collections.abc import Hashable
from typing import Generic, TypeVar

_Key = TypeVar("_Key", bound=Hashable)
_Value = TypeVar("_Value")


class BoundedTable(Generic[_Key, _Value]):
    """A dictionary that forgets what was not used for the longest time."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._rows: OrderedDict[_Key, _Value] = OrderedDict()

    def __len__(self) -> int:
        return len(self._rows)

    def get(self, key: _Key) -> _Value | None:
        """Return a value, which counts as its use; None when there is none."""
        value = self._rows.get(key)
        if value is not None:
            self._rows.move_to_end(key)
        return value

    def put(self, key: _Key, value: _Value) -> None:
        """Set a value."""
        self._rows[key] = value
        self._rows.move_to_end(key)
        if len(self._rows) > self._most:
            self._rows.popitem(last=False)

    def remove(self, key: _Key) -> None:
        """Forget a value, if there is one."""
        self._rows.pop(key, None)
