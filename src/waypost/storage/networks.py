"""Known networks: from where each account has logged in. Durable, and the same for all workers at once."""

from typing import Protocol

from waypost.message.trace import Micros

MOST_NETWORKS = 100
"""Networks that are kept for an account: those that logged in last. Phones change theirs every day."""

NOTED_AGAIN = 24 * 3600 * 1_000_000
"""Microseconds after which a login from a known network is noted again."""


class KnownNetworks(Protocol):
    """Remembers pairs of an account (its address key) and a client network (`protocol/network.py`)."""

    async def knows(self, account: str, network: str) -> bool:
        """Say whether the account has logged in from there. Raises `StorageError`."""
        ...

    async def remember(self, account: str, network: str, now: Micros) -> None:
        """Note a login. Writes for a network that is new, or was noted longer ago than `NOTED_AGAIN`.

        Raises `StorageError` and its kinds.
        """
        ...

    async def expire(self, before: Micros) -> None:
        """Drop the networks from which nobody has logged in since. Raises `StorageError`."""
        ...
