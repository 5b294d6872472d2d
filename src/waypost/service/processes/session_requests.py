"""What a command may ask the workers about sessions. Values only: commands load nothing heavy for it."""

from functools import lru_cache
from ipaddress import ip_network

import msgspec

from waypost.protocol.network import client_address

_network = lru_cache(maxsize=16)(ip_network)


class ListSessions(msgspec.Struct, frozen=True, tag="list", tag_field="ask"):
    """Tell of every session."""


class EndSessions(msgspec.Struct, frozen=True, tag="end", tag_field="ask"):
    """End the sessions that all of what is given is true of: its id, its account's address key, its client's network.

    With neither, no session is ended.
    """

    id: str | None = None
    account: str | None = None
    network: str | None = None

    def wants(self, id: str, account: str | None, peer: str) -> bool:
        """True for a session that is to be ended, told by its id, account and client's address."""
        if (self.id, self.account, self.network) == (None, None, None):
            return False
        return (
            self.id in (None, id)
            and self.account in (None, account)
            and (self.network is None or _is_in(peer, self.network))
        )


class EndAccountSessions(msgspec.Struct, frozen=True, tag="account", tag_field="ask"):
    """End the sessions of an account (its address key) that logged in before it was changed."""

    address: str


Request = ListSessions | EndSessions | EndAccountSessions
"""What a command may ask."""


def _is_in(address: str, network: str) -> bool:
    try:
        return client_address(address) in _network(network)
    except ValueError:  # no IP socket
        return False
