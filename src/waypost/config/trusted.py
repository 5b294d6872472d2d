"""Checks `[[trusted_network]]`, so that no setting makes the host an open relay.

These checks need only the file; the service compares the networks with the machine's own addresses.
"""

from collections.abc import Iterator
from ipaddress import IPv4Network, IPv6Network, ip_network

from waypost.config.errors import Complaints, KeyPath
from waypost.config.listener_protocols import Clients
from waypost.config.settings import IpNetwork, Listener, Settings, TrustedNetwork

_WIDEST = {4: 16, 6: 48}
_RECEPTION_PORT = 25
_OWN = tuple(map(ip_network, ("127.0.0.0/8", "::1/128")))
_PRIVATE = tuple(
    map(ip_network, ("10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "169.254.0.0/16", "fc00::/7", "fe80::/10"))
)
_EVERYBODY = tuple(map(ip_network, ("::ffff:0:0/96", "64:ff9b::/96", "64:ff9b:1::/48", "2001::/32", "::/96")))
"""IPv6 networks that hold IPv4 addresses: a client in one of them may be anywhere on the internet."""
_NOBODY = tuple(map(ip_network, ("0.0.0.0/8", "224.0.0.0/3", "ff00::/8")))


def check_trusted(
    settings: Settings, listeners: list[KeyPath], networks: list[KeyPath], complaints: Complaints, *, any_table: bool
) -> None:
    """Report dangerous settings. The paths say where the tables of the file stand; `any_table` is True when the file
    has tables of networks, readable or not.
    """
    trusting = False
    for listener, place in zip(settings.listeners, listeners, strict=True):
        if listener.protocol.clients is Clients.DEVICES:
            trusting = True
            for key, words in _about_listener(listener, any_table=any_table):
                complaints.about_key((*place, key), words)
    for trusted, place in zip(settings.trusted_networks, networks, strict=True):
        if not trusting:
            words = 'nothing listens for it; add a [[listener]] with protocol = "trusted-submission"'
            complaints.about_key(place, words)
        _about_table(trusted, place, settings.domains, complaints)
    _overlaps(settings.trusted_networks, networks, complaints)


def _about_listener(listener: Listener, *, any_table: bool) -> Iterator[tuple[str, str]]:
    if listener.port == _RECEPTION_PORT:
        yield "address", "port 25 is for other servers, and none of them is trusted; use another port, for example 2525"
    if listener.proxy_protocol:
        words = "the address of the TCP connection counts here, never one that a PROXY header names; remove this key"
        yield "proxy_protocol", words
    if not any_table:
        yield "protocol", "no network is trusted yet; add a table [[trusted_network]]"


def _about_table(trusted: TrustedNetwork, place: KeyPath, domains: tuple[str, ...], complaints: Complaints) -> None:
    for key, values, example in (
        ("networks", trusted.networks, '["192.168.7.40/32"]'),
        ("senders", trusted.senders, '["scanner@example.org"]'),
    ):
        if not values:
            complaints.about_value((*place, key), [], f"empty; write for example {example}")
    if trusted.account.rpartition("@")[2] not in domains:
        complaints.about_value((*place, "account"), trusted.account, "not an account here: its domain is not hosted")
    for index, network in enumerate(trusted.networks):
        words = _about_network(network, public=trusted.allow_public_addresses)
        if words is not None:
            complaints.about_value((*place, "networks", index), str(network), words)


def _about_network(network: IpNetwork, *, public: bool) -> str | None:
    """Return what is wrong with a network; None when it is right."""
    widest = _WIDEST[network.version]
    if network.prefixlen < widest:
        return f"wider than /{widest}; write the addresses of the devices"
    if _touches(network, _OWN):
        return "this machine itself: behind a proxy every stranger has this address; write the addresses of the devices"
    if _touches(network, _EVERYBODY):
        return "IPv4 addresses in the form of IPv6, where a client may be anywhere; write the IPv4 network"
    if _touches(network, _NOBODY):
        return "not a network of single hosts; write the addresses of the devices"
    if not public and not any(_inside(network, private) for private in _PRIVATE):
        return "public addresses; write private ones, or add allow_public_addresses = true"
    return None


def _overlaps(tables: tuple[TrustedNetwork, ...], places: list[KeyPath], complaints: Complaints) -> None:
    seen: list[tuple[IpNetwork, int]] = []
    for trusted, place in zip(tables, places, strict=True):
        for index, network in enumerate(trusted.networks):
            path = (*place, "networks", index)
            line = next((line for other, line in seen if _overlap(other, network)), None)
            if line is not None:
                complaints.about_value(path, str(network), f"line {line} has its addresses already; remove one")
            seen.append((network, complaints.line(path)))


def _touches(network: IpNetwork, others: tuple[IpNetwork, ...]) -> bool:
    return any(_overlap(network, other) for other in others)


def _overlap(one: IpNetwork, other: IpNetwork) -> bool:
    return one.version == other.version and one.overlaps(other)


def _inside(network: IpNetwork, other: IpNetwork) -> bool:
    if isinstance(network, IPv4Network) and isinstance(other, IPv4Network):
        return network.subnet_of(other)
    return isinstance(network, IPv6Network) and isinstance(other, IPv6Network) and network.subnet_of(other)
