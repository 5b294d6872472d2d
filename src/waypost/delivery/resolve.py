"""Where an address of ours leads: accounts, aliases, groups, subaddresses, catch-alls, and who must always be reached.

Asked at RCPT, so that unknown recipients are refused and never bounced later; asked again when an entry for a hosted
domain leaves the queue.
"""

from collections.abc import Collection
from dataclasses import dataclass, field

from waypost.message.address import Address, AddressError, domain_key
from waypost.storage import Account, Alias, Directory

_MOST_TARGETS = 1000
_ALWAYS = ("postmaster", "abuse")  # RFC 5321 4.5.1, RFC 2142


@dataclass(frozen=True, slots=True)
class Reached:
    """What an address leads to. Everything empty: there is nobody.

    `forwards` are addresses elsewhere; `disabled` and `full` name accounts that can't take the message;
    `expanded` is true when the address stands for others (an alias or group).
    """

    accounts: tuple[Account, ...] = ()
    forwards: tuple[Address, ...] = ()
    disabled: tuple[str, ...] = ()
    full: tuple[str, ...] = ()
    expanded: bool = False

    @property
    def somebody(self) -> bool:
        """True when at least one mailbox or address elsewhere is reached."""
        return bool(self.accounts or self.forwards)


@dataclass(slots=True)
class _Walk:
    """Where one resolution has been: aliases may form groups and cycles."""

    seen: set[str] = field(default_factory=set)
    accounts: dict[int, Account] = field(default_factory=dict)
    forwards: dict[str, Address] = field(default_factory=dict)
    disabled: list[str] = field(default_factory=list)
    full: list[str] = field(default_factory=list)
    expanded: bool = False


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

    def hosts(self, address: Address) -> bool:
        """True when the address is of a hosted domain, or must be reached on this host anyway.

        The latter are `<postmaster>` without a domain, and postmaster at our own name (RFC 5321 4.5.1).
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

    async def resolve(self, address: Address, size: int = 0) -> Reached:
        """Return what an address of ours leads to; `size` octets must fit into a mailbox's quota."""
        walk = _Walk()
        await self._visit(address, walk, size)
        if not (walk.accounts or walk.forwards or walk.disabled or walk.full):
            if address.local.lower() in _ALWAYS:
                await self._visit_postmaster(address, walk, size)
            elif self.routed(address):
                walk.forwards[address.key] = address
        return Reached(
            tuple(walk.accounts.values()),
            tuple(walk.forwards.values()),
            tuple(walk.disabled),
            tuple(walk.full),
            walk.expanded,
        )

    async def may_send_as(self, account: Account, address: Address) -> bool:
        """True when an address is the account's own: itself, a subaddress of it, or an alias that leads to it."""
        try:
            key = address.key
        except AddressError:
            return False
        if key == account.address or self._without_detail(key) == account.address:
            return True
        reached = await self.resolve(address) if self.hosts(address) else Reached()
        owners = {found.id for found in reached.accounts}
        # A catch-all makes nobody the owner of every address.
        return account.id in owners and not await self._only_by_catch_all(key)

    async def _visit(self, address: Address, walk: _Walk, size: int) -> None:
        key = address.key if address.domain else f"{address.local.lower()}@{self._hostname}"
        if key in walk.seen or len(walk.seen) >= _MOST_TARGETS:
            return
        walk.seen.add(key)
        if not self.hosts(address):
            walk.forwards[key] = address
            return
        found = await self._look_up(key)
        if isinstance(found, Account):
            if found.disabled:
                walk.disabled.append(found.address)
            elif found.quota and found.usage + size > found.quota:
                walk.full.append(found.address)
            else:
                walk.accounts[found.id] = found
        elif found is not None:
            walk.expanded = True
            for target in found.targets:
                await self._visit(Address.parse(target), walk, size)

    async def _look_up(self, key: str) -> Account | Alias | None:
        """Exact account, exact alias, both without the detail, then the catch-all."""
        plain = self._without_detail(key)
        for name in (key,) if plain == key else (key, plain):
            found = await self._directory.account(name) or await self._directory.alias(name)
            if found is not None:
                return found
        return await self._directory.alias("@" + key.rpartition("@")[2])

    async def _only_by_catch_all(self, key: str) -> bool:
        for name in (key, self._without_detail(key)):
            if await self._directory.account(name) or await self._directory.alias(name):
                return False
        return True

    def _without_detail(self, key: str) -> str:
        local, _, domain = key.rpartition("@")
        user, separator, _ = local.partition(self._separator) if self._separator else (local, "", "")
        return f"{user}@{domain}" if separator and user else key

    async def _visit_postmaster(self, address: Address, walk: _Walk, size: int) -> None:
        if self._postmaster is not None:
            await self._visit(Address.parse(self._postmaster), walk, size)
            return
        accounts = [account for account in await self._directory.accounts() if not account.disabled]
        domain = "@" + address.domain_key if address.domain else ""
        own = [account for account in accounts if account.address.endswith(domain)] or accounts
        if own:
            # Never refused for a quota: somebody must hear it.
            first = min(own, key=lambda account: account.id)
            walk.accounts[first.id] = first
