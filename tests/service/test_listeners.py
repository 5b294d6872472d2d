"""Sockets are bound once, kept while they are wanted, and refused with a reason that helps."""

import os
import socket
from collections.abc import Iterator
from ipaddress import ip_address

import pytest

from waypost.config.settings import Listener, ListenerProtocol
from waypost.service.sockets import listeners as listeners_module
from waypost.service.sockets.listeners import Listeners, ListenProblem, address_text


def listener(port: int, address: str = "127.0.0.1", protocol: str = "smtp") -> Listener:
    return Listener(ListenerProtocol(protocol), ip_address(address), port)


@pytest.fixture
def listeners() -> Iterator[Listeners]:
    made = Listeners()
    yield made
    made.close()


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def test_a_listener_says_where_it_listens(listeners: Listeners) -> None:
    listeners.bind([listener(0)]).keep()
    (bound,) = listeners.bound
    assert bound.port and bound.address == f"127.0.0.1:{bound.port}"
    with socket.create_connection(("127.0.0.1", bound.port)):
        pass


def test_a_reload_keeps_sockets_and_the_connections_that_wait_in_them(listeners: Listeners) -> None:
    listeners.bind([listener(0), listener(free_port())]).keep()
    kept, gone = (bound.socket for bound in listeners.bound)
    with socket.create_connection(kept.getsockname()) as waiting:
        listeners.bind([listener(0, protocol="submission")]).keep()
        (bound,) = listeners.bound
        assert bound.socket is kept
        assert bound.listener.protocol is ListenerProtocol.SUBMISSION
        assert gone.fileno() == -1
        connection, _ = bound.socket.accept()
        connection.sendall(b"x")
        assert waiting.recv(1) == b"x"
        connection.close()


@pytest.mark.parametrize("addresses", [("0.0.0.0", "127.0.0.1"), ("127.0.0.1", "0.0.0.0")])
def test_one_address_can_take_the_place_of_all_and_all_that_of_one(
    listeners: Listeners, addresses: tuple[str, str]
) -> None:
    port = free_port()
    for address in addresses:
        listeners.bind([listener(port, address)]).keep()
        (bound,) = listeners.bound
        assert bound.address == f"{address}:{port}"
        with socket.create_connection(("127.0.0.1", port)):
            pass


def test_a_start_takes_what_a_reload_takes(listeners: Listeners) -> None:
    port = free_port()
    for address in ("0.0.0.0", "127.0.0.1"):
        other = {"0.0.0.0": "127.0.0.1", "127.0.0.1": "0.0.0.0"}[address]
        listeners.bind([listener(port, address), listener(port, other, protocol="lmtp")]).keep()
        assert len(listeners.bound) == 2
        listeners.close()


def test_several_listeners_may_take_any_free_port(listeners: Listeners) -> None:
    listeners.bind([listener(0), listener(0, protocol="lmtp")]).keep()
    first, second = listeners.bound
    assert first.port != second.port
    listeners.bind([listener(0), listener(0, protocol="lmtp")]).keep()
    assert [bound.port for bound in listeners.bound] == [first.port, second.port]


def test_a_change_that_is_dropped_changes_nothing(listeners: Listeners) -> None:
    listeners.bind([listener(0)]).keep()
    before = listeners.bound[0].socket
    port = free_port()
    change = listeners.bind([listener(0), listener(port)])
    change.drop()
    assert listeners.bound[0].socket is before
    assert before.fileno() != -1
    listeners.bind([listener(0), listener(port)]).keep()


def test_all_problems_are_told_at_once_and_nothing_stays_bound(listeners: Listeners) -> None:
    port = free_port()
    with socket.socket() as other:
        # Even one that shares its port: another service of the same user.
        other.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        other.bind(("127.0.0.1", 0))
        other.listen()
        taken = other.getsockname()[1]
        with pytest.raises(ListenProblem) as problem:
            listeners.bind([listener(port), listener(taken), listener(25, "192.0.2.1", "lmtp")])
    in_use, nowhere = problem.value.problems
    assert in_use.startswith(f"listener smtp 127.0.0.1:{taken}: the port is in use")
    assert nowhere.startswith("listener lmtp 192.0.2.1:25: this host has no such address")
    assert listeners.bound == ()
    with socket.socket() as free:
        free.bind(("127.0.0.1", port))


def test_a_port_that_is_let_go_in_time_is_had(listeners: Listeners, monkeypatch: pytest.MonkeyPatch) -> None:
    other = socket.socket()
    other.bind(("127.0.0.1", 0))
    other.listen()
    port = other.getsockname()[1]
    monkeypatch.setattr(listeners_module.time, "sleep", lambda seconds: other.close())
    listeners.bind([listener(port)], patience=30).keep()
    assert listeners.bound[0].port == port


@pytest.mark.skipif(os.geteuid() != 0, reason="becomes another user, which needs root")
def test_a_privileged_port_without_privileges_names_the_fix(listeners: Listeners) -> None:
    os.seteuid(65534)
    try:
        with pytest.raises(ListenProblem, match="needs root, or the capability CAP_NET_BIND_SERVICE"):
            listeners.bind([listener(99)])
    finally:
        os.seteuid(0)


def test_ipv6_is_only_ipv6(listeners: Listeners) -> None:
    try:
        listeners.bind([listener(0, "::1")]).keep()
    except ListenProblem as problem:
        pytest.skip(str(problem))
    sock = listeners.bound[0].socket
    assert sock.getsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY) == 1
    assert listeners.bound[0].address.startswith("[::1]:")


def test_addresses_read_as_in_the_configuration() -> None:
    assert address_text(ip_address("0.0.0.0"), 25) == "0.0.0.0:25"
    assert address_text(ip_address("::"), 25) == "[::]:25"
