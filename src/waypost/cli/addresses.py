"""Checks the addresses given to `waypost account` and `waypost alias`, and turns them into directory keys."""

from __future__ import annotations

from typing import TYPE_CHECKING

from waypost.cli.frame import fail

if TYPE_CHECKING:
    from collections.abc import Sequence

    from waypost.config.settings import Settings


def parse_key(text: str) -> str:
    """Return the directory key of an address. Raises `ValueError` that names the address and its fault."""
    from waypost.message.address import Address, AddressError

    try:
        key = Address.parse(text).key
    except AddressError as error:
        raise ValueError(f"{text}: {error}") from None
    if key.startswith("@"):  # that would be the key of the catch-all
        raise ValueError(f"{text}: there is nothing before the @")
    return key


def address_key(text: str) -> str:
    """Return the directory key of an address; exit with 1 when the text is not an address."""
    try:
        return parse_key(text)
    except ValueError as error:
        fail(str(error))


def alias_key(text: str) -> str:
    """Return the directory key of an address or of a catch-all, `@example.org`; exit with 1 when it is neither."""
    from waypost.message.address import AddressError, check_domain, domain_key

    if not text.startswith("@"):
        return address_key(text)
    try:
        check_domain(text[1:])
        return "@" + domain_key(text[1:])
    except AddressError as error:
        fail(f"{text}: {error}")


def target_text(text: str) -> str:
    """Return an alias's target in wire form; exit with 1 when the text is not an address."""
    from waypost.message.address import Address, AddressError

    try:
        return str(Address.parse(text))
    except AddressError as error:
        fail(f"{text}: {error}")


def must_be_hosted(key: str, settings: Settings) -> None:
    """Exit with 1 when an address is not of a domain that is hosted here."""
    problem = not_hosted(key, settings.domains)
    if problem is not None:
        fail(f"{problem} ({settings.path})")


def not_hosted(key: str, domains: Sequence[str]) -> str | None:
    """Return words that say that the domain of an address is not one of these; None when it is."""
    domain = key.rpartition("@")[2]
    if domain in domains:
        return None
    hosted = f"the hosted domains are: {', '.join(domains)}" if domains else 'no domain is: add it to "domains"'
    return f"{domain} is not hosted here; {hosted}"
