"""Which addresses mail may go to: hosts of the public internet, and nothing that leads back inside."""

from ipaddress import IPv4Address, ip_address

import pytest
from hypothesis import given
from hypothesis import strategies as st

from waypost.transport.public import is_host, is_public, plain

PUBLIC = ["8.8.8.8", "192.0.1.1", "100.128.0.1", "172.32.0.1", "2606:4700::1111", "2a00:1450::1", "64:ff9b::808:808"]
PUBLIC += ["::ffff:8.8.8.8", "2002:808:808::1"]
PRIVATE = ["10.1.2.3", "127.0.0.1", "127.255.255.254", "169.254.169.254", "172.16.0.1", "172.31.255.255", "192.168.1.1"]
PRIVATE += ["100.64.0.1", "192.0.0.8", "192.0.2.1", "198.18.0.1", "198.51.100.1", "203.0.113.1", "192.88.99.1"]
PRIVATE += ["::1", "fe80::1", "fe80::1%eth0", "fc00::1", "fd12::1", "fec0::1", "2001:db8::1", "3fff::1", "2001::1"]
PRIVATE += ["100::1", "5f00::1", "64:ff9b:1::a00:1", "::10.0.0.1", "::ffff:0:127.0.0.1"]
PRIVATE += ["::ffff:127.0.0.1", "::ffff:10.0.0.1", "::ffff:169.254.169.254", "64:ff9b::7f00:1", "2002:7f00:1::1"]
NO_HOST = ["0.0.0.0", "0.1.2.3", "224.0.0.1", "239.1.1.1", "240.0.0.1", "255.255.255.255", "::", "ff02::1"]
NO_HOST += ["::ffff:0.0.0.0", "64:ff9b::", "2002:e000:1::1"]


@pytest.mark.parametrize("text", PUBLIC)
def test_hosts_of_the_internet_are_public(text: str) -> None:
    assert is_public(ip_address(text)) and is_host(ip_address(text))


@pytest.mark.parametrize("text", PRIVATE)
def test_private_and_reserved_networks_are_not_public_in_any_disguise(text: str) -> None:
    assert not is_public(ip_address(text)) and is_host(ip_address(text))


@pytest.mark.parametrize("text", NO_HOST)
def test_what_is_no_single_host_is_never_a_destination(text: str) -> None:
    assert not is_host(ip_address(text)) and not is_public(ip_address(text))


@given(st.ip_addresses(v=4))
def test_a_disguise_changes_nothing(address: IPv4Address) -> None:
    number = int(address)
    for disguised in (0xFFFF << 32 | number, 0x64FF9B << 96 | number, 0x2002 << 112 | number << 80 | 1):
        disguise = ip_address(disguised.to_bytes(16, "big"))
        assert is_public(disguise) == is_public(address)
        assert is_host(disguise) == is_host(address)


def test_mapped_addresses_are_plain_ones() -> None:
    assert plain(ip_address("::ffff:192.0.2.1")) == ip_address("192.0.2.1")
    assert plain(ip_address("2001:db8::1")) == ip_address("2001:db8::1")
