"""The policy of devices that can't log in: their network decides for which account and as which senders they may send.

It is submission (`policy.py`) in the name of an account, with fewer senders: only those that the operator has named, in
the envelope and in From. The address of the TCP connection counts, and is checked again at each message.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from waypost.config.settings import TrustedNetwork
from waypost.intake import Client, Transaction
from waypost.message.address import Address, AddressError
from waypost.message.envelope import Envelope
from waypost.protocol.network import client_address
from waypost.protocol.reply import Reply
from waypost.protocol.session import Peer
from waypost.protocol.smtp import replies
from waypost.storage import Account, Directory
from waypost.submission.policy import SubmissionPolicy


class NamedSenders:
    """The senders of one network: these addresses and no others, whatever the account may send as."""

    def __init__(self, senders: Sequence[str]) -> None:
        """Raises `AddressError` for a sender that is not an address."""
        self._keys = frozenset(Address.parse(sender).key for sender in senders)

    async def may_send_as(self, account: Account, address: Address) -> bool:
        """True for an address that was named."""
        try:
            return address.key in self._keys
        except AddressError:
            return False


@dataclass(frozen=True, slots=True)
class TrustedDevices:
    """The devices of one table of the settings, and the policy for their messages."""

    network: TrustedNetwork
    senders: NamedSenders
    policy: SubmissionPolicy


class TrustedPolicy:
    """Implements `intake.Policy` for listeners without a login, which only devices of these networks may use."""

    def __init__(self, devices: Sequence[TrustedDevices], directory: Directory) -> None:
        self._devices = tuple(devices)
        self._directory = directory

    def refuse(self, peer: Peer) -> Reply | None:
        """Return the reply that a client gets instead of a greeting; None when it is trusted."""
        return replies.NOT_TRUSTED if self._of(peer) is None else None

    def _of(self, peer: Peer) -> TrustedDevices | None:
        """Return the devices of a client's network. A client whose address is also the one that it connected to is a
        proxy on this machine: it is never trusted, even if the machine got the address after the settings were checked.
        """
        try:
            client = client_address(peer.address)
        except ValueError:  # not an IP socket
            return None
        if peer.address == peer.local_address:
            return None
        found = (devices for devices in self._devices if any(client in network for network in devices.network.networks))
        return next(found, None)

    def hello(self, client: Client) -> Reply:
        """Accept any name: mostly it is the name of a printer."""
        return replies.OK

    async def mail(self, client: Client, envelope: Envelope) -> Reply | Transaction:
        """Accept the named senders while their account is enabled. The rest is as in submission."""
        devices = self._of(client.peer)
        if devices is None:
            return replies.NOT_TRUSTED
        account = await self._directory.account(devices.network.account)
        if account is None or account.disabled:
            return replies.ACCOUNT_CLOSED
        client.account, client.trusted = account, True
        path = envelope.reverse_path
        if path is None or not await devices.senders.may_send_as(account, path):
            return replies.not_a_named_sender(str(path or "<>"))
        return devices.policy.begin(client, envelope)
