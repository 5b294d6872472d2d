"""A resolver that answers from tables, counts what it is asked, or never answers."""

import asyncio
from collections.abc import Mapping, Sequence
from ipaddress import ip_address

from waypost.dns import Answer, IpAddress, Mx, NoSuchDomain, QueryBudget, Resolver


class TableResolver(Resolver):
    """`pointers` are the names of addresses, `hosts` the addresses of names; an exception in them is raised."""

    def __init__(
        self,
        pointers: Mapping[str, Sequence[str] | Exception] | None = None,
        hosts: Mapping[str, Sequence[str] | Exception] | None = None,
    ) -> None:
        self._pointers = pointers or {}
        self._hosts = hosts or {}
        self.asked: list[str] = []

    async def names(self, address: IpAddress, budget: QueryBudget | None = None) -> Answer[str]:
        return Answer(address.reverse_pointer, self._found(self._pointers, str(address)), False, 60)

    async def addresses(self, host: str, budget: QueryBudget | None = None) -> Answer[IpAddress]:
        return Answer(host, tuple(map(ip_address, self._found(self._hosts, host))), False, 60)

    async def mx(self, domain: str, budget: QueryBudget | None = None) -> Answer[Mx]:
        raise NotImplementedError

    async def txt(self, name: str, budget: QueryBudget | None = None) -> Answer[bytes]:
        raise NotImplementedError

    def _found(self, table: Mapping[str, Sequence[str] | Exception], key: str) -> tuple[str, ...]:
        self.asked.append(key)
        found = table.get(key, NoSuchDomain(key))
        if isinstance(found, Exception):
            raise found
        return tuple(found)


class SilentResolver(TableResolver):
    """Never answers; `given_up` counts whose question was cancelled."""

    given_up = 0

    async def names(self, address: IpAddress, budget: QueryBudget | None = None) -> Answer[str]:
        self.asked.append(str(address))
        try:
            await asyncio.get_running_loop().create_future()
        finally:
            self.given_up += 1
        raise AssertionError("nobody answers")
