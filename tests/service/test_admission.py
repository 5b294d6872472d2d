"""Places are counted by worker and by client network, and come back whatever happens."""

import dataclasses
from ipaddress import ip_network

import pytest
from hypothesis import given
from hypothesis import strategies as st

from waypost.config.settings import Limits
from waypost.protocol.smtp import replies
from waypost.service.sockets import admission as admission_module
from waypost.service.sockets.admission import ConnectionAdmission, ConnectionPlace, ConnectionRefused

LIMITS = Limits(connections=4, connections_per_network=2, connection_rate_per_network=6)


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def come(admission: ConnectionAdmission, address: str) -> ConnectionPlace:
    place = admission.enter()
    try:
        place.identify(address)
    except ConnectionRefused:
        place.leave()
        raise
    return place


def test_a_full_worker_is_busy_until_a_place_is_given_back() -> None:
    admission = ConnectionAdmission(LIMITS)
    places = [admission.enter() for _ in range(4)]
    with pytest.raises(ConnectionRefused) as refused:
        admission.enter()
    assert refused.value.reply is replies.SERVER_BUSY
    places[0].leave()
    places[0].leave()
    admission.enter()
    with pytest.raises(ConnectionRefused):
        admission.enter()


@pytest.mark.parametrize(
    ("first", "second", "other"),
    [
        ("192.0.2.1", "192.0.2.1", "192.0.2.2"),
        ("2001:db8::1", "2001:db8::ffff", "2001:db8:0:1::1"),
        ("::ffff:192.0.2.1", "192.0.2.1", "192.0.2.2"),
        ("fe80::1%eth0", "fe80::2%eth1", "2001:db8::1"),
    ],
)
def test_a_network_has_its_own_limit(first: str, second: str, other: str) -> None:
    admission = ConnectionAdmission(LIMITS)
    place = come(admission, first)
    come(admission, second)
    with pytest.raises(ConnectionRefused) as refused:
        come(admission, first)
    assert refused.value.reply is replies.TOO_MANY_CONNECTIONS
    come(admission, other)
    place.leave()
    come(admission, second)


def test_the_rate_of_a_network_recovers_with_time() -> None:
    clock = Clock()
    admission = ConnectionAdmission(LIMITS, clock=clock)
    for _ in range(6):
        come(admission, "192.0.2.1").leave()
    with pytest.raises(ConnectionRefused) as refused:
        come(admission, "192.0.2.1")
    assert refused.value.reply is replies.TOO_MANY_CONNECTIONS
    clock.now += 10
    come(admission, "192.0.2.1").leave()
    with pytest.raises(ConnectionRefused):
        come(admission, "192.0.2.1")
    clock.now += 3600
    for _ in range(6):
        come(admission, "192.0.2.1").leave()


def test_exempt_networks_have_only_the_limit_of_the_worker() -> None:
    limits = dataclasses.replace(LIMITS, exempt_networks=(ip_network("192.0.2.0/24"),), connections=20)
    admission = ConnectionAdmission(limits)
    for _ in range(20):
        come(admission, "192.0.2.1")
    with pytest.raises(ConnectionRefused) as refused:
        come(admission, "192.0.2.1")
    assert refused.value.reply is replies.SERVER_BUSY


def test_memory_for_networks_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(admission_module, "_MOST_NETWORKS", 100)
    clock = Clock()
    admission = ConnectionAdmission(dataclasses.replace(LIMITS, connections=1000), clock=clock)
    held = [come(admission, f"10.1.0.{n}") for n in range(10)]
    for number in range(1000):
        clock.now += 0.01
        come(admission, f"10.0.{number // 250}.{number % 250}").leave()
        assert len(admission._networks) <= 100
    for place in held:
        place.leave()
    assert admission.open == 0


@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 9)), max_size=60))
def test_every_place_comes_back(events: list[tuple[int, int]]) -> None:
    admission = ConnectionAdmission(LIMITS)
    places: list[ConnectionPlace] = []
    for client, leaver in events:
        try:
            places.append(come(admission, f"192.0.2.{client}"))
        except ConnectionRefused:
            if leaver < len(places):
                places[leaver].leave()
        assert 0 <= admission.open <= LIMITS.connections
    for place in places:
        place.leave()
    assert admission.open == 0
    assert all(network.open == 0 for network in admission._networks.values())
