"""Known networks: the networks from which each account has logged in. Durable, and shared by all workers."""

from typing import Protocol

from waypost.message.trace import Micros

MOST_NETWORKS = 100
"""How many networks are kept for an account: the latest ones. Phones change theirs every day."""

NOTED_AGAIN = 24 * 3600 * 1_000_000
"""Microseconds after which a login from a known network is noted again."""


class KnownNetworks(Protocol):
    """Remembers pairs of an account (its address key) and a client network (`protocol/network.py`)."""

    async def knows(self, account: str, network: str) -> bool:
        """True when the account has logged in from the network. Raises `StorageError`."""
        ...

    async def remember(self, account: str, network: str, now: Micros) -> None:
        """Note a login. It writes only if the network is new, or was noted longer ago than `NOTED_AGAIN`.

        Raises `StorageError` and its subclasses.
        """
        ...

    async def expire(self, before: Micros) -> None:
        """Remove the networks without a login since `before`. Raises `StorageError`."""
        ...
