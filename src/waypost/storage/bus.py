"""The bus: workers and the command line notify each other of changes, so that no process polls.

Storage publishes a notice after each commit that another process may wait for. A notice may be lost; a slow sweep by
its receiver repairs that. `service/processes/bus.py` carries the notices.
"""

import logging
from collections.abc import Callable
from typing import Protocol

import msgspec

log = logging.getLogger(__name__)


class Notice(msgspec.Struct, frozen=True):
    """`topic` says what changed: `destination` (name: a domain key with new or due entries),
    `mailbox` (name: its id), `directory` (name: an address)."""

    topic: str
    name: str


class Bus(Protocol):
    """Carries notices between the processes of one service."""

    def publish(self, notice: Notice) -> None:
        """Send a notice to every process, this one included; never blocks, never fails."""
        ...

    def subscribe(self, topic: str, handler: Callable[[Notice], None]) -> None:
        """Call `handler` in the event loop for each notice of the topic."""
        ...


class Watcher(Protocol):
    """Something that waits for a notice, such as a session."""

    def notified(self, notice: Notice) -> None:
        """Take a notice. Called in the event loop; must not block."""
        ...


class Watchers:
    """Passes the notices of one topic to the watchers of their name, such as the idle sessions of a mailbox.

    A watcher costs an entry in a dictionary, and no task: ten thousand of them may be idle.
    """

    __slots__ = ("_by_name",)

    def __init__(self, bus: Bus, topic: str) -> None:
        self._by_name: dict[str, list[Watcher]] = {}
        bus.subscribe(topic, self._tell)

    def add(self, name: str, watcher: Watcher) -> None:
        """Pass each notice of this name to `watcher`, until `discard`."""
        watchers = self._by_name.get(name)
        if watchers is None:
            self._by_name[name] = [watcher]
        else:
            watchers.append(watcher)

    def discard(self, name: str, watcher: Watcher) -> None:
        """Pass no more notices to `watcher`; may be called any number of times."""
        watchers = self._by_name.get(name)
        if watchers is None or watcher not in watchers:
            return
        watchers.remove(watcher)
        if not watchers:
            del self._by_name[name]

    def __len__(self) -> int:
        """Return the number of names that have watchers."""
        return len(self._by_name)

    def _tell(self, notice: Notice) -> None:
        for watcher in tuple(self._by_name.get(notice.name, ())):
            try:
                watcher.notified(notice)
            except Exception:  # an error of one watcher must not keep the notice from the others
                log.exception("notice failed", extra={"fields": {"topic": notice.topic, "name": notice.name}})
