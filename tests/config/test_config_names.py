"""Names, addresses and networks in the configuration."""

from collections.abc import Callable
from ipaddress import ip_address, ip_network

import pytest
from hypothesis import given
from hypothesis import strategies as st

from waypost.config.names import (
    parse_domain,
    parse_domain_pattern,
    parse_host_name,
    parse_mail_address,
    parse_next_hop,
    parse_sender,
)
from waypost.config.network import format_ip_and_port, parse_ip, parse_ip_and_port, parse_ip_network
from waypost.message.address import Address


@pytest.mark.parametrize(
    ("parse", "text", "value"),
    [
        (parse_domain, "Example.ORG", "example.org"),
        (parse_domain, "BÜCHER.example", "xn--bcher-kva.example"),
        (parse_domain, "localhost", "localhost"),
        (parse_host_name, "MX.example.org", "mx.example.org"),
        (parse_domain_pattern, "*", "*"),
        (parse_domain_pattern, ".Example.org", ".example.org"),
        (parse_next_hop, "relay", "relay"),
        (parse_next_hop, "[192.0.2.1]", "[192.0.2.1]"),
        (parse_next_hop, "[IPv6:2001:DB8::1]", "[2001:db8::1]"),
        (parse_mail_address, "Alice.B@Example.org", "alice.b@example.org"),
        (parse_mail_address, "josé@bücher.example", "josé@xn--bcher-kva.example"),
        (parse_mail_address, "taro..yamada@example.org", "taro..yamada@example.org"),
        (parse_mail_address, "taro.@example.org", "taro.@example.org"),
        (parse_mail_address, "a" * 200 + "@example.org", "a" * 200 + "@example.org"),
        (parse_sender, "@Example.net", "@example.net"),
        (parse_sender, "sales@example.org", "sales@example.org"),
    ],
)
def test_names_take_the_form_in_which_they_are_compared(parse: Callable[[str], str], text: str, value: str) -> None:
    assert parse(text) == value


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "it is empty"),
        ("example..org", "two of its dots have nothing between them"),
        ("bücher..example", "two of its dots have nothing between them"),
        ("example.org.", "it ends with a dot"),
        ("bücher.example.", "it ends with a dot"),
        (".example.org", "it begins with a dot"),
        ("a_b.example", "'_' can't stand in it"),
        ("alice@example.org", "'@' can't stand in it"),
        ("https://example.org", "':' can't stand in it"),
        ("example.org,example.net", "',' can't stand in it"),
        ("a\x1bb.example", "'\\x1b' can't stand in it"),
        ("-a.example", "a label begins or ends with a hyphen"),
        ("a b", "' ' can't stand in it"),
        ("\u2603\u200b.example", "a label has a character that can't stand there"),
        ("192.0.2.1", "its last label is a number"),
        ("a" * 64 + ".example", "a label is longer than 63 characters"),
        ("a." * 200 + "example", "it is longer than 253 characters"),
        ("ü" * 10_000, "it is longer than 253 characters"),
    ],
)
def test_what_is_no_domain_name_is_told_why(text: str, words: str) -> None:
    with pytest.raises(ValueError) as told:
        parse_domain(text)
    assert str(told.value) == f'not a domain name ({words}); write for example "example.org"'


@pytest.mark.parametrize(
    "text",
    [
        *("alice", "@example.org", "a b@example.org", ".@example.org", "..@example.org", "a@", "<a@b.example>"),
        *("a" * 250 + "@example.org", "é" * 125 + "@example.org", "a\x85@example.org", "a\u202e@example.org"),
    ],
)
def test_what_is_no_mail_address_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r'not a mail address \(.+\); write for example "alice@example.org"'):
        parse_mail_address(text)


def test_a_host_name_has_its_domain() -> None:
    with pytest.raises(ValueError, match="not a full host name"):
        parse_host_name("mx")


def test_a_next_hop_by_address_has_brackets() -> None:
    with pytest.raises(ValueError, match="or an IP address in brackets"):
        parse_next_hop("192.0.2.1")
    with pytest.raises(ValueError, match="not an IP address"):
        parse_next_hop("[192.0.2]")


def test_an_address_and_port_are_read_and_written() -> None:
    for text in ("0.0.0.0:25", "[::]:25", "[2001:db8::1]:587"):
        assert format_ip_and_port(*parse_ip_and_port(text)) == text


@pytest.mark.parametrize(
    "text", ["", "25", "0.0.0.0", "::1:25", "localhost:25", "1.2.3:25", "[1.2.3.4]:25", "[fe80::1%eth0]:25", "0.0.0.0:"]
)
def test_an_address_without_its_port_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="not an IP address with a port"):
        parse_ip_and_port(text)


def test_a_port_may_have_a_default() -> None:
    assert parse_ip_and_port("::1", default_port=53) == (ip_address("::1"), 53)
    assert parse_ip_and_port("127.0.0.1:5353", default_port=53) == (ip_address("127.0.0.1"), 5353)


def test_ports_have_limits() -> None:
    with pytest.raises(ValueError, match="not a port; write a number from 1 to 65535"):
        parse_ip_and_port("0.0.0.0:0")
    with pytest.raises(ValueError, match="not a port; write a number from 0 to 65535"):
        parse_ip_and_port("0.0.0.0:70000", lowest=0)
    assert parse_ip_and_port("0.0.0.0:0", lowest=0)[1] == 0


def test_a_network_with_host_bits_is_told_the_right_one() -> None:
    assert parse_ip_network("2001:db8::/32") == ip_network("2001:db8::/32")
    with pytest.raises(ValueError, match=r'write "192\.0\.2\.0/24"'):
        parse_ip_network("192.0.2.7/24")
    with pytest.raises(ValueError, match="not a network"):
        parse_ip_network("192.0.2.0/33")


@given(st.text(), st.sampled_from([parse_domain, parse_host_name, parse_domain_pattern, parse_next_hop, parse_ip]))
def test_no_text_brings_anything_but_a_value_error(text: str, parse: Callable[[str], object]) -> None:
    try:
        parse(text)
    except ValueError as error:
        assert "; write" in str(error)


@given(st.text() | st.text().map("a@{}".format), st.sampled_from([parse_mail_address, parse_sender, parse_ip_network]))
def test_no_address_brings_anything_but_a_value_error(text: str, parse: Callable[[str], object]) -> None:
    try:
        parse(text)
    except ValueError as error:
        assert "; write" in str(error)


@given(st.text() | st.from_regex(r"[a-z.é\u00ad\u2028ß]{1,90}@[a-zü]{1,9}\.[a-z]{2}", fullmatch=True))
def test_an_address_in_the_configuration_is_one_that_an_account_can_have(text: str) -> None:
    """What is read here is given to `Address.parse` when the service starts, and compared with keys."""
    try:
        address = parse_mail_address(text)
    except ValueError:
        return
    assert parse_mail_address(address) == address == Address.parse(address).key


@given(st.from_regex(r"[a-z0-9äöüß]{1,20}(\.[a-z0-9äöüß]{1,20}){1,3}", fullmatch=True))
def test_a_name_that_was_read_is_read_again_as_itself(text: str) -> None:
    try:
        name = parse_domain(text)
    except ValueError:
        return
    assert parse_domain(name) == name and name.isascii() and name == name.lower()
