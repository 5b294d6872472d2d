"""Which senders an account may use: its address, aliases that lead to it, and those that the operator allows."""

from typing import Protocol

from waypost.delivery.resolve import AddressBook
from waypost.message.address import Address, AddressError, domain_key
from waypost.storage import Account


class SenderRule(Protocol):
    """Decides which addresses an account may use as senders."""

    async def may_send_as(self, account: Account, address: Address) -> bool:
        """True when the account may use the address as a sender. Raises `StorageError`."""
        ...


class Senders:
    """Decides over the address book and `submission.send_as` of the settings: account -> addresses and "@domain"s."""

    def __init__(self, book: AddressBook, send_as: tuple[tuple[str, tuple[str, ...]], ...]) -> None:
        """Raises `AddressError` for a setting that is not an address."""
        self._book = book
        self._allowed = {Address.parse(account).key: frozenset(map(_key, senders)) for account, senders in send_as}

    async def may_send_as(self, account: Account, address: Address) -> bool:
        """True when the account may use the address as a sender. Raises `StorageError`."""
        if await self._book.may_send_as(account, address):
            return True
        allowed = self._allowed.get(account.address)
        if not allowed:
            return False
        try:
            return address.key in allowed or f"@{address.domain_key}" in allowed
        except AddressError:
            return False


def _key(sender: str) -> str:
    return f"@{domain_key(sender[1:])}" if sender.startswith("@") else Address.parse(sender).key
