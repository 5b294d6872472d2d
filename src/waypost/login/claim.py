"""The claim of a login: the user name and the network. Each decision about a login needs these facts."""

from dataclasses import dataclass

from waypost.message.address import Address, AddressError
from waypost.protocol.network import network_of
from waypost.protocol.sasl import PreparationError, saslprep


@dataclass(frozen=True, slots=True)
class LoginClaim:
    """A login before it is proved. `key` is the address key of the user name, "" when that is not a full address.

    `user` is the name as it was sent, for the log.
    """

    user: str
    key: str
    peer: str
    network: str
    mechanism: str

    @staticmethod
    def of(user: str, peer: str, mechanism: str) -> "LoginClaim":
        """Make a claim. A user name is a full address, in any case, its domain in A-labels or U-labels."""
        return LoginClaim(user[:320], account_key(user), peer, network_of(peer), mechanism)


def account_key(user: str) -> str:
    """Return the address key of a user name after SASLprep; "" when it is not a full address."""
    try:
        return Address.parse(saslprep(user)).key
    except (PreparationError, AddressError):
        return ""
