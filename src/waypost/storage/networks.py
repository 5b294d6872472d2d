"""Known networks: from where each account has logged in. Durable, and the same for all workers at once."""

from typing import Protocol

from waypost.message.trace import Micros


class KnownNetworks(Protocol):
    """Remembers pairs of an account (its address key) and a client network (`protocol/network.py`)."""

    async def knows(self, account: str, network: str) -> bool:
        """Say whether the account has logged in from there. Raises `StorageError`."""
        ...

    async def remember(self, account: str, network: str, now: Micros) -> None:
        """Note a login. Writes for a network that is new or was noted more than a day ago only.

        Raises `StorageError` and its kinds.
        """
        ...

    async def expire(self, before: Micros) -> None:
        """Drop the networks from which nobody has logged in since. Raises `StorageError`."""
        ...
