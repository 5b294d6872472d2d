"""What the settings of trusted networks refuse, each by file, line and key."""

from pathlib import Path

import pytest

from waypost.config.load import ConfigErrors, parse
from waypost.config.settings import ListenerProtocol, Settings

GOOD = """\
hostname = "mx.here.test"
domains = ["here.test"]
data = "data"
[[listener]]
protocol = "trusted-submission"
address = "192.168.7.1:2525"
[[trusted_network]]
networks = ["192.168.7.40/32", "fd00:7::/64"]
account = "Devices@here.test"
senders = ["scanner@here.test"]
"""


def read(text: str) -> Settings:
    return parse(text.encode(), Path("waypost.toml")).settings


def wrong(text: str) -> list[str]:
    with pytest.raises(ConfigErrors) as raised:
        read(text)
    return str(raised.value).splitlines()


def test_nobody_is_trusted_by_default() -> None:
    settings = read('hostname = "mx.here.test"\ndomains = []\ndata = "data"\n')
    assert settings.trusted_networks == ()
    assert ListenerProtocol.TRUSTED_SUBMISSION not in {listener.protocol for listener in settings.listeners}


def test_named_networks_may_send_as_named_senders() -> None:
    settings = read(GOOD)
    assert settings.listeners[0].protocol is ListenerProtocol.TRUSTED_SUBMISSION, "it needs no certificate"
    [trusted] = settings.trusted_networks
    assert list(map(str, trusted.networks)) == ["192.168.7.40/32", "fd00:7::/64"]
    assert (trusted.account, trusted.senders) == ("devices@here.test", ("scanner@here.test",))
    assert not trusted.allow_public_addresses


@pytest.mark.parametrize(
    ("network", "words"),
    [
        ("10.0.0.0/15", "wider than /16"),
        ("10.0.0.0/8", "wider than /16"),
        ("0.0.0.0/0", "wider than /16"),
        ("fd00::/47", "wider than /48"),
        ("::/0", "wider than /48"),
        ("127.0.0.1/32", "this machine itself"),
        ("127.1.0.0/16", "this machine itself"),
        ("::1/128", "this machine itself"),
        ("::/127", "this machine itself"),
        ("::ffff:192.168.7.0/120", "IPv4 addresses in the form of IPv6"),
        ("64:ff9b::/96", "IPv4 addresses in the form of IPv6"),
        ("64:ff9b::c0a8:728/128", "IPv4 addresses in the form of IPv6"),
        ("2001:0:1::/48", "IPv4 addresses in the form of IPv6"),
        ("224.0.0.0/24", "not a network of single hosts"),
        ("0.0.0.0/32", "not a network of single hosts"),
        ("ff02::/64", "not a network of single hosts"),
        ("255.255.255.255/32", "not a network of single hosts"),
        ("192.0.2.0/24", "public addresses"),
        ("8.8.8.8/32", "public addresses"),
        ("100.64.0.0/16", "public addresses"),
        ("172.32.0.0/16", "public addresses"),
        ("198.18.0.1/32", "public addresses"),
        ("2001:db8::/64", "public addresses"),
        ("2a00::1/128", "public addresses"),
        ("192.168.7.1/24", 'has bits set after its prefix; write "192.168.7.0/24"'),
        ("printers", "not a network"),
        ("192.168.7.40%eth0", "not a network"),
    ],
)
def test_a_dangerous_network_is_refused_by_its_line(network: str, words: str) -> None:
    text = GOOD.replace("192.168.7.40/32", network)
    first = wrong(text)[0]
    assert first.startswith("waypost.toml:8: trusted_network.networks = ") and f": {words}" in first
    if words != "wider than /48":
        assert len(wrong(text)) == 1
    public = text.replace("senders", "allow_public_addresses = true\nsenders")
    if words == "public addresses":
        assert read(public).trusted_networks[0].allow_public_addresses
    else:
        assert any(words in line for line in wrong(public)), "a second setting opens public addresses, and no more"


@pytest.mark.parametrize(
    "network", ["10.1.0.0/16", "172.31.0.0/16", "192.168.0.0/16", "169.254.7.0/24", "fe80:0:0::/64"]
)
def test_private_networks_need_no_second_setting(network: str) -> None:
    assert read(GOOD.replace("192.168.7.40/32", network.replace(":0:0::", "::")))


@pytest.mark.parametrize(
    ("line", "other", "words"),
    [
        (
            'address = "192.168.7.1:2525"',
            'address = "192.168.7.1:25"',
            "waypost.toml:6: listener.address: port 25 is for other servers, and none of them is trusted",
        ),
        (
            'address = "192.168.7.1:2525"',
            'address = "192.168.7.1:2525"\nproxy_protocol = ["192.168.7.2/32"]',
            "waypost.toml:7: listener.proxy_protocol: the address of the TCP connection counts here",
        ),
        (
            'protocol = "trusted-submission"',
            'protocol = "submission"',
            'waypost.toml:7: trusted_network: nothing listens for it; add a [[listener]] with protocol = "trusted-sub',
        ),
        (
            'networks = ["192.168.7.40/32", "fd00:7::/64"]',
            "networks = []",
            'waypost.toml:8: trusted_network.networks = []: empty; write for example ["192.168.7.40/32"]',
        ),
        (
            'senders = ["scanner@here.test"]',
            "senders = []",
            'waypost.toml:10: trusted_network.senders = []: empty; write for example ["scanner@example.org"]',
        ),
        (
            'senders = ["scanner@here.test"]',
            'senders = ["@here.test"]',
            'waypost.toml:10: trusted_network.senders = "@here.test": not a mail address',
        ),
        (
            'senders = ["scanner@here.test"]',
            'senders = ["*"]',
            'waypost.toml:10: trusted_network.senders = "*": not a mail address',
        ),
        (
            'account = "Devices@here.test"',
            'account = "devices@there.test"',
            'waypost.toml:9: trusted_network.account = "devices@there.test": not an account here',
        ),
        (
            'account = "Devices@here.test"\n',
            "",
            'waypost.toml:7: trusted_network.account: missing; write for example account = "devices@example.org"',
        ),
        (
            'senders = ["scanner@here.test"]\n',
            "",
            'waypost.toml:7: trusted_network.senders: missing; write for example senders = ["scanner@example.org"]',
        ),
        (
            '"fd00:7::/64"',
            '"192.168.7.0/24"',
            'waypost.toml:8: trusted_network.networks = "192.168.7.0/24": line 8 has its addresses already; remove one',
        ),
        ("[[trusted_network]]", "[[trusted_networks]]", 'did you mean "trusted_network"?'),
    ],
)
def test_each_mistake_is_named_by_file_line_and_key(line: str, other: str, words: str) -> None:
    assert line in GOOD
    assert any(words in found for found in wrong(GOOD.replace(line, other)))


def test_a_listener_that_trusts_nobody_is_a_mistake() -> None:
    [line] = wrong(GOOD.partition("[[trusted_network]]")[0])
    assert line == "waypost.toml:5: listener.protocol: no network is trusted yet; add a table [[trusted_network]]"


def test_two_tables_may_not_share_an_address() -> None:
    second = GOOD[GOOD.index("[[trusted") :].replace("192.168.7.40/32", "192.168.0.0/16").replace("fd00:7", "fd00:8")
    [line] = wrong(GOOD + second)
    assert line.startswith('waypost.toml:12: trusted_network.networks = "192.168.0.0/16": line 8 has its addresses')
