"""The people in a message's address fields: a name and an address (RFC 5322 3.4)."""

from collections.abc import Iterable
from dataclasses import dataclass
from email.utils import getaddresses

from waypost.client.errors import ClientError
from waypost.message.address import Address, AddressError
from waypost.message.address_list import AddressListError, mailboxes_of


@dataclass(frozen=True, slots=True)
class Person:
    """A mailbox: an address and a name, which may be ""."""

    name: str
    address: Address

    @property
    def written(self) -> str:
        """The address for a header: in ASCII unless its local part needs SMTPUTF8 (RFC 6532)."""
        if not self.address.local.isascii():
            return str(self.address)
        return str(self.address.at(self.address.domain_key if self.address.domain else ""))


def parse_people(texts: Iterable[str]) -> tuple[Person, ...]:
    """Read address lists such as `Alice <alice@example.org>, bob@example.org`. Raises `ClientError`."""
    return tuple(person for text in texts if text.strip() for person in _parse(text))


def parse_person(text: str) -> Person:
    """Read exactly one address with or without a name. Raises `ClientError`."""
    people = parse_people([text])
    if len(people) != 1:
        raise ClientError(f"{text!r}: give one address, such as alice@example.org or Alice <alice@example.org>")
    return people[0]


def _parse(text: str) -> list[Person]:
    try:
        strict = mailboxes_of(text.encode())
        # The strict reader decides what the addresses are; only the names come from the lenient one.
        pairs = [pair for pair in getaddresses([text]) if pair[1]]
        if [address for _, address in pairs] != strict:
            pairs = [("", address) for address in strict]
        return [Person(" ".join(name.split()), Address.parse(address)) for name, address in pairs]
    except AddressListError as error:
        if "@" not in text:
            raise ClientError(f"{text!r} is not an address: it has no @ with a domain; write bob@example.org") from None
        raise ClientError(f"{text!r} is not an address: {error}") from None
    except (AddressError, UnicodeEncodeError) as error:
        raise ClientError(f"{text!r} is not an address: {error}") from None
