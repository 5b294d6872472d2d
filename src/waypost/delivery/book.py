"""Makes the address book of one host from its settings, for the service and for the command line."""

from waypost.config.settings import Settings
from waypost.delivery.resolve import AddressBook
from waypost.message.address import domain_key
from waypost.storage import Directory


def address_book(settings: Settings, directory: Directory) -> AddressBook:
    """Return the address book of the hosted domains; a hosted domain with a route is hosted partly elsewhere."""
    hosted = {domain_key(domain) for domain in settings.domains}
    patterns = [pattern for route in settings.routes for pattern in route.domains]
    exact = {domain_key(pattern) for pattern in patterns if not pattern.startswith((".", "*"))}
    above = tuple("." + domain_key(pattern[1:]) for pattern in patterns if pattern.startswith("."))
    return AddressBook(
        directory,
        hostname=settings.hostname,
        hosted=hosted,
        routed={domain for domain in hosted if domain in exact or domain.endswith(above)},
        separator=settings.reception.subaddress_separator,
        postmaster=settings.reception.postmaster,
    )
