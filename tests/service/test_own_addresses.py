"""Which addresses lead back to this host."""

from ipaddress import ip_address
from pathlib import Path

from waypost.config.settings import Listener, ListenerProtocol
from waypost.service.machine.own_addresses import own_addresses

TRIE = """\
Main:
  +-- 0.0.0.0/0 3 0 5
     |-- 0.0.0.0
        /0 universe UNICAST
     +-- 127.0.0.0/8 2 0 2
        +-- 127.0.0.0/31 1 0 0
           |-- 127.0.0.0
              /8 host LOCAL
           |-- 127.0.0.1
              /32 host LOCAL
        |-- 127.255.255.255
           /32 link BROADCAST
     |-- 192.0.2.7
        /32 host LOCAL
"""
SIX = """\
00000000000000000000000000000001 01 80 10 80       lo
20010db8000000000000000000000007 02 40 00 00     eth0
"""


def listen(address: str, protocol: str = "smtp") -> Listener:
    return Listener(ListenerProtocol(protocol), ip_address(address), 25)


def test_a_listener_on_all_addresses_stands_for_each(tmp_path: Path) -> None:
    (tmp_path / "fib_trie").write_text(TRIE)
    (tmp_path / "if_inet6").write_text(SIX)
    found = own_addresses([listen("0.0.0.0")], net=tmp_path)
    assert found == {ip_address("127.0.0.1"), ip_address("192.0.2.7")}
    found = own_addresses([listen("::")], net=tmp_path)
    assert found == {ip_address("::1"), ip_address("2001:db8::7")}


def test_a_listener_on_one_address_stands_for_it(tmp_path: Path) -> None:
    assert own_addresses([listen("127.0.0.11")], net=tmp_path) == {ip_address("127.0.0.11")}


def test_only_mail_from_other_servers_counts(tmp_path: Path) -> None:
    assert own_addresses([listen("192.0.2.7", "pop3"), listen("192.0.2.7", "submission")], net=tmp_path) == frozenset()


def test_a_kernel_without_ipv6_has_no_such_addresses(tmp_path: Path) -> None:
    assert own_addresses([listen("::")], net=tmp_path) == frozenset()


def test_this_machine_has_its_loopback_address() -> None:
    assert ip_address("127.0.0.1") in own_addresses([listen("0.0.0.0")])
