"""Trusted networks that everybody could come from: with an address of this machine, of a gateway or of a bridge."""

import os
import struct
import subprocess
import sys
from dataclasses import replace
from datetime import UTC, datetime
from ipaddress import ip_address, ip_network
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from waypost.config.errors import ConfigErrors
from waypost.config.load import parse
from waypost.config.settings import Settings, TrustedNetwork
from waypost.service.machine.kernel_routes import gateways_in
from waypost.service.machine.preflight import preflight
from waypost.service.machine.problems import SetupProblem
from waypost.service.machine.trusted_networks import dangerous_networks, refuse_dangerous_networks
from waypost.service.processes.notify import Notifier
from waypost.service.processes.supervisor import LogForm, Supervisor

TRIE = """\
Local:
     |-- 127.0.0.1
        /32 host LOCAL
     |-- 192.168.7.9
        /32 host LOCAL
     |-- 172.17.0.5
        /32 host LOCAL
"""
ROUTES = """\
Iface\tDestination\tGateway \tFlags\tRefCnt\tUse\tMetric\tMask\t\tMTU\tWindow\tIRTT
eth0\t00000000\t0107A8C0\t0003\t0\t0\t0\t00000000\t0\t0\t0
eth0\t0007A8C0\t00000000\t0001\t0\t0\t0\t00FFFFFF\t0\t0\t0
eth1\t000011AC\t00000000\t0001\t0\t0\t0\t0000FFFF\t0\t0\t0
eth0\t0000140A\tFE07A8C0\t0003\t0\t0\t0\t0000FFFF\t0\t0\t0
"""
SIX = "fd000007000000000000000000000009 02 40 00 80     eth0\n"
ROUTES_SIX = """\
fd000007000000000000000000000000 40 00000000000000000000000000000000 00 00000000000000000000000000000000 00000100 1 0 00000001     eth0
00000000000000000000000000000000 00 00000000000000000000000000000000 00 fe800000000000000000000000000077 00000400 2 0 00000003     eth0
00000000000000000000000000000001 80 00000000000000000000000000000000 00 00000000000000000000000000000000 00000000 2 0 80200001       lo
"""  # noqa: E501


@pytest.fixture
def net(tmp_path: Path) -> Path:
    """What a container says of its network: two links, a gateway and one more, IPv6."""
    for name, text in (("fib_trie", TRIE), ("route", ROUTES), ("if_inet6", SIX), ("ipv6_route", ROUTES_SIX)):
        (tmp_path / name).write_text(text)
    return tmp_path


def trusting(*networks: str) -> Settings:
    tables = tuple(TrustedNetwork((ip_network(one),), "a@here.test", ("b@here.test",)) for one in networks)
    return Settings(Path("waypost.toml"), "mx.here.test", ("here.test",), Path("data"), trusted_networks=tables)


@pytest.mark.parametrize(
    ("network", "words"),
    [
        ("192.168.7.0/24", "192.168.7."),
        ("192.168.7.9/32", "192.168.7.9 is an address of this machine"),
        ("192.168.7.8/30", "192.168.7.9 is an address of this machine"),
        ("127.0.0.0/16", "127.0.0.1 is an address of this machine"),
        ("192.168.7.1/32", "192.168.7.1 is a gateway"),
        ("192.168.7.254/31", "192.168.7.254 is a gateway"),
        ("172.17.0.1/32", "172.17.0.1 is where eth1 would have a bridge"),
        ("172.17.0.0/30", "172.17.0.1 is where eth1 would have a bridge"),
        ("fd00:7::9/128", "fd00:7::9 is an address of this machine"),
        ("fd00:7::1/128", "fd00:7::1 is where eth0 would have a bridge"),
        ("fe80::/64", "fe80::77 is a gateway"),
    ],
)
def test_a_network_that_everybody_could_come_from_is_found(net: Path, network: str, words: str) -> None:
    found = list(dangerous_networks(trusting("10.9.9.9/32", network), net=net, gateways=frozenset))
    assert [(table, index) for table, index, _ in found] == [(1, 0)]
    assert words in found[0][2] and found[0][2].endswith("write the addresses of the devices themselves")


@pytest.mark.parametrize(
    "network",
    ["192.168.7.40/32", "192.168.7.128/26", "172.17.0.8/29", "10.20.0.0/16", "fd00:7::40/124", "fe80::40/128"],
)
def test_devices_beside_this_machine_may_be_trusted(net: Path, network: str) -> None:
    assert list(dangerous_networks(trusting(network), net=net, gateways=frozenset)) == []


def test_a_kernel_without_these_files_has_no_such_addresses(tmp_path: Path) -> None:
    assert list(dangerous_networks(trusting("192.168.7.0/24"), net=tmp_path, gateways=frozenset)) == []


def test_nothing_is_looked_at_where_nobody_is_trusted(tmp_path: Path) -> None:
    (tmp_path / "fib_trie").mkdir()  # reading it would fail
    assert list(dangerous_networks(trusting(), net=tmp_path)) == []


def test_a_start_and_a_reload_are_refused_in_the_words_of_the_setting() -> None:
    with pytest.raises(SetupProblem) as raised:
        refuse_dangerous_networks(trusting("127.0.0.1/32", "10.255.255.254/32"))
    [problem] = raised.value.problems
    assert problem.startswith('trusted_network.networks = "127.0.0.1/32": 127.0.0.1 is an address of this machine, and')
    refuse_dangerous_networks(replace(trusting(), domains=()))


def test_the_service_does_not_start_with_one(tmp_path: Path) -> None:
    settings = replace(trusting("127.0.0.1/32"), data=tmp_path / "data")
    with pytest.raises(SetupProblem, match=r"trusted_network\.networks"):
        Supervisor(settings, forks=None, load=lambda: settings, notifier=Notifier(), log_form=LogForm(json=True))
    assert not settings.data.exists(), "nothing has been touched"


ROUTED = """\
set -eu
ip link add eth7 type veth peer name eth8 && ip link set eth7 up && ip link set eth8 up
ip addr add 10.7.0.9/16 dev eth7 && ip addr add fd00:9::9/64 dev eth7 nodad
ip route add default nexthop via 10.7.0.21 dev eth7 nexthop via 10.7.0.22 dev eth7
ip route add default via 10.7.0.23 dev eth7 table 77
ip -6 route add default via fd00:9::24 dev eth7 table 77
exec "$@"
"""
ASK = "from waypost.service.machine.kernel_routes import kernel_gateways; print(*sorted(map(str, kernel_gateways())))"


@pytest.mark.skipif(
    os.geteuid() != 0 or subprocess.run(["unshare", "--net", "true"], capture_output=True).returncode != 0,
    reason="only root has a network of its own",
)
def test_gateways_of_further_tables_and_of_several_next_hops_are_known() -> None:
    """/proc/net/route names one next hop of each route, in one table."""
    command = ["unshare", "--net", "sh", "-c", ROUTED, "sh", sys.executable, "-c", ASK]
    done = subprocess.run(command, capture_output=True, text=True)
    if "Unknown device type" in done.stderr:
        pytest.skip("this kernel has no veth links")
    assert done.stdout.split() == ["10.7.0.21", "10.7.0.22", "10.7.0.23", "fd00:9::24"], done.stderr


def test_a_gateway_that_only_the_kernel_names_is_one(net: Path) -> None:
    named = frozenset({ip_address("10.9.9.9")})
    found = list(dangerous_networks(trusting("10.9.9.8/31", "10.9.8.0/24"), net=net, gateways=lambda: named))
    assert [(table, words.partition(",")[0]) for table, _, words in found] == [(0, "10.9.9.9 is a gateway")]


@given(
    st.binary(max_size=200)
    | st.lists(st.binary(max_size=12).map(lambda b: struct.pack("=IHHII", 60, 24, 0, 1, 0) + b)).map(b"".join)
)
def test_no_answer_of_the_kernel_breaks_the_reader(octets: bytes) -> None:
    assert all(gateway.version in (4, 6) for gateway in gateways_in(octets))


async def test_a_reload_with_one_is_refused_before_anything_is_bound(tmp_path: Path) -> None:
    for folder in (tmp_path, *tmp_path.parents):
        if not folder.stat().st_mode & 0o001:
            folder.chmod(folder.stat().st_mode | 0o011)
    before = replace(trusting("10.255.255.254/32"), data=tmp_path / "data")
    after = replace(trusting("127.0.0.1/32"), data=tmp_path / "data")
    service = Supervisor(before, forks=None, load=lambda: after, notifier=Notifier(), log_form=LogForm(json=True))
    with pytest.raises(SetupProblem, match=r"trusted_network\.networks"):
        await service._change_over()
    assert service._settings is before


CONFIGURATION = """\
hostname = "mx.here.test"
domains = ["here.test"]
data = "data"
[[listener]]
protocol = "trusted-submission"
address = "192.168.7.9:2525"
[[trusted_network]]
networks = ["10.255.255.254/32",
            "192.168.7.0/24"]
account = "devices@here.test"
senders = ["scanner@here.test"]
"""


def test_check_names_the_file_the_line_and_the_key(net: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(
        "waypost.service.machine.preflight.dangerous_networks", lambda settings: dangerous_networks(settings, net=net)
    )
    file = tmp_path / "waypost.toml"
    with pytest.raises(ConfigErrors) as raised:
        preflight(parse(CONFIGURATION.encode(), file), datetime.now(UTC))
    assert str(raised.value).startswith(f'{file}:9: trusted_network.networks = "192.168.7.0/24": 192.168.7.')
    document = parse(CONFIGURATION.replace("192.168.7.0/24", "192.168.7.40/32").encode(), file)
    notes = preflight(document, datetime.now(UTC)).notes
    assert (
        "devices in 10.255.255.254/32, 192.168.7.40/32 send without a login as scanner@here.test (trusted_network)"
        in notes
    )
