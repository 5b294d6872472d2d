"""What the servers under test have in common: the same people, names and ways out, whoever serves them."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol

DOMAIN = "bench.test"
"""The domain whose mailboxes are on the server."""

SINK = "sink.test"
"""A domain that a fixed way leads to."""

PASSWORD = "bench-password"
"""The password of every account."""


@dataclass(frozen=True, slots=True)
class World:
    """One set-up, given to each contender.

    Mailboxes are `user0@`, `user1@` and so on of `DOMAIN`. `aliases` are further local parts of it, with the address
    that each stands for. `ways` are domains whose mail goes to a fixed address and port. `nameserver` (an address,
    port 53) is asked for everything else, and `port` is where the mail servers of others listen. `pop3`
    opens port 995, `submission` 465 and 587.
    """

    mailboxes: int = 100
    aliases: Mapping[str, str] = field(default_factory=dict)
    ways: Mapping[str, tuple[str, int]] = field(default_factory=dict)
    nameserver: str | None = None
    port: int = 25
    pop3: bool = False
    submission: bool = False


class Contender(Protocol):
    """A mail server under test."""

    name: str
    address: str
    port: int

    def start(self) -> None:
        """Start; returns when it takes mail."""
        ...

    def stop(self) -> None:
        """Stop, and return when it is gone; nothing happens when it does not run."""
        ...

    def log(self) -> str:
        """Return its log."""
        ...

    def delivered(self) -> int:
        """Return how many messages are durably in mailboxes."""
        ...

    def queued(self) -> int:
        """Return how many messages or entries wait in the queue."""
        ...

    def cpu(self) -> float:
        """Return the CPU seconds of all its processes so far."""
        ...
