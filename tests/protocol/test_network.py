"""What counts as one client."""

from ipaddress import ip_address

import pytest

from waypost.protocol.network import client_address, network_of, site_of


def test_an_address_of_ipv4_that_arrives_as_ipv6_is_one_of_ipv4() -> None:
    assert client_address("::ffff:192.0.2.7") == ip_address("192.0.2.7")
    with pytest.raises(ValueError, match="unix socket"):
        client_address("unix socket")


def test_a_network_is_an_address_of_ipv4_and_64_bits_of_ipv6() -> None:
    assert network_of("192.0.2.1") == "192.0.2.1"
    assert network_of("::ffff:192.0.2.1") == "192.0.2.1"
    assert network_of("2001:db8:1:2:3:4:5:6") == network_of("2001:db8:1:2::1") == "2001:db8:1:2::/64"
    assert network_of("fe80::1%eth0") == "fe80::/64"
    assert network_of("unix socket") == "unix socket"


def test_a_site_is_what_one_customer_may_have() -> None:
    assert site_of(network_of("192.0.2.1")) == "192.0.2.1"
    assert (
        site_of(network_of("2001:db8:0:12ab::1")) == "2001:db8:0:1200::/56" == site_of(network_of("2001:db8:0:12ff::2"))
    )
    assert site_of("/run/socket") == "/run/socket"
