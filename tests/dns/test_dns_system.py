"""resolv.conf(5), as systems write it."""

from ipaddress import IPv4Address, ip_address
from pathlib import Path

from waypost.dns import system_servers

LOCAL = ((IPv4Address("127.0.0.1"), 53),)


def test_the_first_three_servers_are_taken(tmp_path: Path) -> None:
    path = tmp_path / "resolv.conf"
    path.write_text(
        "# a comment\nsearch example.org\nnameserver 192.0.2.1\nnameserver\t2001:db8::1 # inline\n"
        "nameserver fe80::1%eth0\nnameserver 192.0.2.4\noptions edns0\nnameserver\n"
    )
    expected = ("192.0.2.1", "2001:db8::1", "fe80::1%eth0")
    assert system_servers(path) == tuple((ip_address(text), 53) for text in expected)


def test_rubbish_is_passed_over_and_without_any_server_the_machine_itself_is_asked(tmp_path: Path) -> None:
    path = tmp_path / "resolv.conf"
    path.write_bytes(b"nameserver dns.example.org\n\xff\xfe\nnameserver 999.1.1.1\n;nameserver 192.0.2.1\n")
    assert system_servers(path) == LOCAL
    assert system_servers(tmp_path / "missing") == LOCAL
