"""The bus: workers and the command line tell each other what changed; nobody polls the disk.

Storage publishes after each commit that somebody may wait for. A notice may be lost; a slow sweep by its
receiver repairs that. On one machine it is Unix datagrams (`service/bus.py`).
"""

from collections.abc import Callable
from typing import Protocol

import msgspec


class Notice(msgspec.Struct, frozen=True):
    """`topic` says what changed: `destination` (name: a domain key with new or due entries),
    `mailbox` (name: its id), `directory` (name: an address)."""

    topic: str
    name: str


class Bus(Protocol):
    """Carries notices between the processes of one service."""

    def publish(self, notice: Notice) -> None:
        """Tell every process, this one included; never blocks, never fails."""
        ...

    def subscribe(self, topic: str, handler: Callable[[Notice], None]) -> None:
        """Call `handler` in the event loop for each notice of the topic."""
        ...
