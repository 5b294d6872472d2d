"""Directory: accounts and aliases. A running service sees changes at once.

Addresses are keys here: lower-case local part, `@`, domain key, as `Address.key` gives them.
"""

from dataclasses import dataclass
from typing import Protocol

import msgspec

from waypost.message.trace import Micros


class Credentials(msgspec.Struct, frozen=True):
    """The stored form of a password: an argon2id hash (RFC 9106) and SCRAM-SHA-256 keys (RFC 5803)."""

    argon2: str
    scram_salt: bytes
    scram_iterations: int
    scram_stored_key: bytes
    scram_server_key: bytes


class AccountVersion(msgspec.Struct, frozen=True):
    """An account as it was at a login. A commit in its name fails with `AccountChanged` once the account was disabled
    or removed, or its password was changed."""

    id: int
    version: int


class Account(msgspec.Struct, frozen=True):
    """A person or program that can log in and owns mailboxes. `quota` is octets; 0 means without limit.

    `version` grows when it is disabled or enabled, and with each new password.
    """

    id: int
    address: str
    credentials: Credentials
    quota: int
    disabled: bool
    created_at: Micros
    inbox: int  # mailbox id of INBOX
    usage: int  # octets in its mailboxes now
    version: int = 1

    @property
    def as_it_is(self) -> AccountVersion:
        """The version against which a commit in the account's name is checked."""
        return AccountVersion(self.id, self.version)

    def may_go_on(self, now: "Account | None") -> bool:
        """True when a session that logged in to this account may go on, given how the account is now."""
        return now is not None and now.as_it_is == self.as_it_is and not now.disabled


class Alias(msgspec.Struct, frozen=True):
    """An address that stands for others. `@example.org` is the catch-all of a domain.

    Several targets make a group; a target may be local, another alias, or anywhere else.
    """

    address: str
    targets: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Spending:
    """What an account has sent in a span of time."""

    messages: int
    recipients: int


class Directory(Protocol):
    """Looks up and changes accounts and aliases."""

    async def find(self, address: str) -> Account | Alias | None:
        """Return the account (disabled ones too) or the alias with this address key; no address is both."""
        ...

    async def account(self, address: str) -> Account | None:
        """Return the account with this address key, even a disabled one; None when it does not exist."""
        ...

    async def alias(self, address: str) -> Alias | None:
        """Return the alias with this address key; None when it does not exist."""
        ...

    async def accounts(self) -> list[Account]:
        """Return all accounts, by address."""
        ...

    async def aliases(self) -> list[Alias]:
        """Return all aliases, by address."""
        ...

    async def add_account(self, address: str, credentials: Credentials, *, quota: int, now: Micros) -> Account:
        """Make an account with its INBOX. Raises `Conflict` when the address is an account or alias."""
        ...

    async def set_credentials(self, address: str, credentials: Credentials) -> None:
        """Change the password. Raises `NotFound`."""
        ...

    async def set_disabled(self, address: str, disabled: bool) -> None:
        """Disable or enable: a disabled account can't log in; its mail is refused with 5.2.1. Raises `NotFound`."""
        ...

    async def set_quota(self, address: str, quota: int) -> None:
        """Change the quota in octets; 0 means no limit. Raises `NotFound`."""
        ...

    async def remove_account(self, address: str) -> None:
        """Remove an account with its mailboxes and mail. Raises `NotFound`."""
        ...

    async def set_alias(self, alias: Alias) -> None:
        """Make or replace an alias. Raises `Conflict` when the address is an account."""
        ...

    async def remove_alias(self, address: str) -> None:
        """Remove an alias. Raises `NotFound`."""
        ...

    async def spent(self, account: str, now: Micros) -> tuple[Spending, Spending]:
        """Return what an account has sent in the last hour and day, over all workers. It is counted in the commit of
        each message (`NewMessage.expense`).
        """
        ...
