"""Where one of our addresses leads: accounts, aliases, groups, subaddresses, catch-alls, postmaster and abuse.

Addresses are resolved at RCPT, so that unknown recipients are refused and not bounced later; and again when an entry
for a hosted domain leaves the queue.
"""

import asyncio
import unicodedata
from collections import deque
from collections.abc import Collection
from dataclasses import dataclass, field

import msgspec

from waypost.message.address import Address, AddressError, domain_key, has_stray_dots
from waypost.storage import Account, Alias, Damaged, Directory

LOCAL_DESTINATION = "[local]"
"""The queue's destination of entries for mailboxes here: no domain can have this name."""

_ALWAYS = ("postmaster", "abuse")  # RFC 5321 4.5.1, RFC 2142
_BREATH = 50  # look-ups of one address in a row, so that a large group does not hold up other sessions
_ROUTING = frozenset("%!@" + "\u066a\u2030\u2031\u2052\u01c3\u2762\ua71d")
"""Characters that make some servers read a local part as a route, and look-alikes that NFKC leaves unchanged."""


class Resolution(msgspec.Struct, frozen=True):
    """What an address leads to. If everything is empty, the address does not exist.

    `forwards` are addresses elsewhere; `disabled` and `full` name accounts that can't take the message; `expanded` is
    True when the address stands for others (an alias or group). `always` is True for postmaster and abuse: mail to them
    is never refused for a quota or a closed account, because a person must get it.
    """

    accounts: tuple[Account, ...] = ()
    forwards: tuple[Address, ...] = ()
    disabled: tuple[str, ...] = ()
    full: tuple[str, ...] = ()
    expanded: bool = False
    always: bool = False

    @property
    def somebody(self) -> bool:
        """True when at least one mailbox or address elsewhere is reached."""
        return bool(self.accounts or self.forwards)

    @property
    def size(self) -> int:
        """How many mailboxes and addresses elsewhere the message goes to."""
        return len(self.accounts) + len(self.forwards) + len(self.full)

    @property
    def group(self) -> bool:
        """True when the address stands for several others (RFC 3461 5.2.7.3)."""
        return self.expanded and self.size > 1

    @property
    def goes_on(self) -> bool:
        """True when a part of the message is queued: for an address elsewhere, or for a mailbox that is full now."""
        return bool(self.forwards or (self.accounts and self.full))

    def has_room(self, size: int) -> bool:
        """True unless the address leads to mailboxes only, and `size` octets fit into none of them."""
        return self.always or bool(self.forwards) or any(_fits(account, size) for account in self.accounts)


@dataclass(slots=True)
class _Walk:
    """The state of one resolution: aliases may form groups and cycles, so every address is visited only once."""

    ahead: deque[Address] = field(default_factory=deque)
    seen: set[str] = field(default_factory=set)
    accounts: dict[int, Account] = field(default_factory=dict)
    forwards: dict[str, Address] = field(default_factory=dict)
    disabled: list[str] = field(default_factory=list)
    full: list[str] = field(default_factory=list)
    expanded: bool = False
    always: bool = False

    @property
    def somebody(self) -> bool:
        """True when a mailbox or an address elsewhere was found."""
        return bool(self.accounts or self.forwards)

    def reached(self) -> Resolution:
        """Return what was found."""
        return Resolution(
            tuple(self.accounts.values()),
            tuple(self.forwards.values()),
            tuple(self.disabled),
            tuple(self.full),
            self.expanded,
            self.always,
        )


class AddressBook:
    """Resolves addresses over the directory.

    `hosted` are the domain keys hosted here; `routed` those of them that have a route, where unknown recipients go.
    """

    def __init__(
        self,
        directory: Directory,
        *,
        hostname: str,
        hosted: Collection[str],
        routed: Collection[str] = (),
        separator: str = "+",
        postmaster: str | None = None,
    ) -> None:
        self._directory = directory
        self._hostname = domain_key(hostname)
        self._hosted = frozenset(hosted)
        self._routed = frozenset(routed)
        self._separator = separator
        self._postmaster = postmaster
        self._first_accounts: dict[str, str] = {}  # "@domain" -> the account that gets the mail of postmaster@

    def hosts(self, address: Address) -> bool:
        """True when the domain of the address is hosted, or the host must accept the address anyway.

        It must accept `<postmaster>` without a domain, and postmaster at our own host name (RFC 5321 4.5.1).
        """
        if not address.domain:
            return True
        try:
            key = address.domain_key
        except AddressError:
            return False
        return key in self._hosted or (key == self._hostname and address.local.lower() in _ALWAYS)

    def routed(self, address: Address) -> bool:
        """True when the address's domain is hosted partly elsewhere, by a route."""
        return bool(address.domain) and address.domain_key in self._routed

    def destination(self, address: Address) -> str:
        """Return the queue's destination for mail to this address: its domain key, or `LOCAL_DESTINATION`.

        An address of a domain that is hosted partly elsewhere is local too: its delivery finds out where it leads.
        """
        return LOCAL_DESTINATION if self.hosts(address) else address.domain_key

    async def resolve(self, address: Address, size: int = 0) -> Resolution:  # hot: bench/accept
        """Return what an address of ours leads to; `size` octets must fit into a mailbox's quota.

        A local part that reads like a route (`user%other`, `other!user`, `"user@other"`) leads to a mailbox or alias
        of exactly that name, or nowhere: neither a catch-all nor a route gets it, because the next server might follow
        such a route.
        """
        walk = _Walk(always=address.local.lower() in _ALWAYS)
        await self._walk(address, walk, size)
        if walk.always and not walk.somebody:
            account = await self._first_account("@" + address.domain_key)
            if account is not None:
                walk.accounts[account.id] = account
        return walk.reached()

    async def may_send_as(self, account: Account, address: Address) -> bool:
        """True when an address is the account's own: itself, a subaddress of it, or an alias that leads to it.

        An account that gets the mail of postmaster@ and abuse@ may send as them; a catch-all gives no such right.
        """
        try:
            key = address.key
        except AddressError:
            return False
        if account.address in (key, self._without_detail(key)):
            return True
        if not address.domain or not self.hosts(address):
            return False
        if address.local.lower() not in _ALWAYS and await self._named(key) is None:
            return False
        reached = await self.resolve(address)
        return account.address in reached.full or any(found.id == account.id for found in reached.accounts)

    async def _walk(self, address: Address, walk: _Walk, size: int) -> None:
        walk.ahead.append(address)
        while walk.ahead:
            address = walk.ahead.popleft()
            key = address.key if address.domain else f"{address.local.lower()}@{self._hostname}"
            if key in walk.seen:
                continue
            walk.seen.add(key)
            if len(walk.seen) % _BREATH == 0:
                await asyncio.sleep(0)
            if not self.hosts(address):
                walk.forwards[key] = address
                continue
            found = await self._look_up(key)
            if isinstance(found, Account):
                self._meet(found, walk, size)
            elif found is not None:
                walk.expanded = True
                walk.ahead.extend(map(Address.parse, found.targets))
            elif not walk.always and self.routed(address) and not _reads_like_a_route(address.local):
                walk.forwards[key] = address

    @staticmethod
    def _meet(account: Account, walk: _Walk, size: int) -> None:
        if account.disabled:
            walk.disabled.append(account.address)
        elif not account.inbox:
            raise Damaged(f"account {account.address} has no INBOX: `waypost storage check --repair` makes one")
        elif walk.always or _fits(account, size):
            walk.accounts[account.id] = account
        else:
            walk.full.append(account.address)

    async def _look_up(self, key: str) -> Account | Alias | None:
        """Try the exact account or alias, both without the detail, the configured postmaster, then the catch-all."""
        found = await self._named(key)
        if found is not None:
            return found
        local, _, domain = key.rpartition("@")
        if has_stray_dots(local):  # only an account or alias of exactly this name gets its mail
            return None
        if self._postmaster is not None and local in _ALWAYS:
            return Alias(key, (self._postmaster,))
        return None if _reads_like_a_route(local) else await self._directory.alias("@" + domain)

    async def _named(self, key: str) -> Account | Alias | None:
        plain = self._without_detail(key)
        for name in (key,) if plain == key else (key, plain):
            if name.startswith("@"):  # an empty local part is not a catch-all
                continue
            found = await self._directory.find(name)
            if found is not None:
                return found
        return None

    def _without_detail(self, key: str) -> str:
        local, _, domain = key.rpartition("@")
        user, separator, _ = local.partition(self._separator) if self._separator else (local, "", "")
        if separator and has_stray_dots(local):  # only an account or alias of exactly this name gets its mail
            return key
        return f"{user}@{domain}" if separator and user else key

    async def _first_account(self, domain: str) -> Account | None:
        """Return the oldest enabled account of a domain, or else the oldest enabled account of all domains.

        The answer is remembered and only checked each time, so that strangers can't make us read the whole directory
        often.
        """
        known = self._first_accounts.get(domain)
        account = await self._directory.account(known) if known else None
        if account is not None and not account.disabled and account.inbox:
            return account
        accounts = [account for account in await self._directory.accounts() if not account.disabled and account.inbox]
        own = [account for account in accounts if account.address.endswith(domain)] or accounts
        if not own:
            return None
        first = min(own, key=lambda account: account.id)
        self._first_accounts[domain] = first.address
        return first


def _fits(account: Account, size: int) -> bool:
    return not account.quota or account.usage + size <= account.quota


def _reads_like_a_route(local: str) -> bool:
    """True for `user%other`, and for `user\uff05other`: the next server might normalise it."""
    return not _ROUTING.isdisjoint(local if local.isascii() else unicodedata.normalize("NFKC", local))
