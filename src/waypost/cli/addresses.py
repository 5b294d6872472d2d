"""Addresses as they are given to `waypost account` and `waypost alias`: checked, and turned into directory keys."""

from __future__ import annotations

from typing import TYPE_CHECKING

from waypost.cli.frame import fail

if TYPE_CHECKING:
    from waypost.config.settings import Settings


def address_key(text: str) -> str:
    """Return the directory key of an address; exits with 1 when it is none."""
    from waypost.message.address import Address, AddressError

    try:
        key = Address.parse(text).key
    except AddressError as error:
        fail(f"{text}: {error}")
    if key.startswith("@"):  # that would be the key of the catch-all
        fail(f"{text}: there is nothing before the @")
    return key


def alias_key(text: str) -> str:
    """Return the directory key of an address or of a catch-all, `@example.org`; exits with 1 when it is neither."""
    from waypost.message.address import AddressError, check_domain, domain_key

    if not text.startswith("@"):
        return address_key(text)
    try:
        check_domain(text[1:])
        return "@" + domain_key(text[1:])
    except AddressError as error:
        fail(f"{text}: {error}")


def target_text(text: str) -> str:
    """Return an address that an alias leads to, as the wire writes it; exits with 1 when it is none."""
    from waypost.message.address import Address, AddressError

    try:
        return str(Address.parse(text))
    except AddressError as error:
        fail(f"{text}: {error}")


def must_be_hosted(key: str, settings: Settings) -> None:
    """Exit with 1 when an address is not of a domain that is hosted here."""
    domain = key.rpartition("@")[2]
    if domain not in settings.domains:
        hosted = ", ".join(settings.domains)
        fail(
            f"{domain} is not hosted here; "
            + (f"the hosted domains are: {hosted}" if hosted else 'no domain is: add it to "domains"')
            + f" ({settings.path})"
        )
