"""Doors let in, refuse in the protocol's own words, believe load balancers, and give every place back."""

import asyncio
import dataclasses
import socket
from collections.abc import AsyncIterator, Callable
from ipaddress import ip_address, ip_network
from typing import Any

import pytest
from tests.service.sessions import Client, Script, in_thread, server_tls

from waypost.config.settings import IpNetwork, Limits, Listener, ListenerProtocol
from waypost.protocol.smtp import replies
from waypost.protocol.smtp.dialogue import reply_octets
from waypost.service.sockets.acceptor import Acceptor, ListeningContext, refusal
from waypost.service.sockets.admission import ConnectionAdmission
from waypost.service.sockets.connections import Connections
from waypost.service.sockets.outbox import Outbox
from waypost.service.sockets.timing import Timing

LOOPBACK = (ip_network("127.0.0.0/8"),)


class Entrance:
    """An acceptor, and whose connections it took."""

    def __init__(self, protocol: str, limits: Limits, proxies: tuple[IpNetwork, ...], timing: Timing) -> None:
        self.listening = socket.create_server(("127.0.0.1", 0), reuse_port=True)
        self.listening.setblocking(False)
        self.port = self.listening.getsockname()[1]
        self.house = ListeningContext(ConnectionAdmission(limits), Connections(), timing, Outbox(), server_tls())
        self.sessions: list[Script] = []
        listener = Listener(ListenerProtocol(protocol), ip_address("127.0.0.1"), self.port, proxies)
        self.acceptor = Acceptor(listener, self.listening, self.house, self._make)
        self.acceptor.open()

    def _make(self) -> Script:
        self.sessions.append(Script())
        return self.sessions[-1]

    async def empty(self) -> None:
        await asyncio.wait_for(self.house.connections.gone(), 20)
        assert self.house.admission.open == 0
        assert len(self.house.connections) == 0


Enter = Callable[..., Entrance]


@pytest.fixture
async def enter() -> AsyncIterator[Enter]:
    entrances: list[Entrance] = []

    def enter(
        protocol: str = "smtp",
        *,
        proxies: tuple[IpNetwork, ...] = (),
        handshake: float = 30.0,
        **limits: Any,
    ) -> Entrance:
        changed = dataclasses.replace(Limits(), exempt_networks=(), **limits)
        entrances.append(Entrance(protocol, changed, proxies, Timing(session=3600, handshake=handshake, linger=1)))
        return entrances[-1]

    yield enter
    for entrance in entrances:
        entrance.acceptor.close()
        await entrance.house.connections.stop(0)
        await entrance.empty()
        entrance.listening.close()


def talk(port: int, *lines: str, before: bytes = b"", implicit: bool = False) -> bytes:
    client = Client(port)
    client.socket.sendall(before)
    if implicit:
        client.start_tls()
    client.send(*lines, "quit")
    octets = client.rest()
    client.close()
    return octets


async def test_a_client_is_let_in_and_its_place_comes_back(enter: Enter) -> None:
    entrance = enter()
    assert await in_thread(talk, entrance.port, "say hi") == b"hello\r\nhi\r\nbye\r\n"
    await entrance.empty()
    (session,) = entrance.sessions
    assert session.peer is not None
    assert (session.peer.address, session.peer.local_address) == ("127.0.0.1", "127.0.0.1")
    assert session.peer.local_port == entrance.port


async def test_an_implicit_tls_port_shakes_hands_first(enter: Enter) -> None:
    entrance = enter("submissions")
    answer = await in_thread(lambda: talk(entrance.port, "say hi", implicit=True))
    assert answer == b"hello\r\nhi\r\nbye\r\n"
    assert entrance.sessions[0].peer is not None
    assert entrance.sessions[0].peer.tls is not None


@pytest.mark.parametrize(
    ("protocol", "words"),
    [
        ("smtp", b"421 4.7.0 Too many connections from your network; please try later\r\n"),
        ("lmtp", b"421 4.7.0 Too many connections from your network; please try later\r\n"),
        ("pop3", b"-ERR [SYS/TEMP] Too many connections from your network; please try later\r\n"),
        ("pop3s", b""),
    ],
)
async def test_one_too_many_is_refused_in_the_protocols_own_words(enter: Enter, protocol: str, words: bytes) -> None:
    entrance = enter(protocol, connections_per_network=1)
    first = Client(entrance.port)
    if protocol == "pop3s":
        await in_thread(first.start_tls)
    await in_thread(first.line)
    second = Client(entrance.port)
    assert await in_thread(second.rest) == words
    second.close()
    first.close()
    await entrance.empty()
    third = await in_thread(lambda: talk(entrance.port, implicit=protocol == "pop3s"))
    assert third == b"hello\r\nbye\r\n"


async def test_a_full_worker_says_that_it_is_busy(enter: Enter) -> None:
    entrance = enter(connections=1)
    first = Client(entrance.port)
    await in_thread(first.line)
    second = Client(entrance.port)
    assert await in_thread(second.rest) == reply_octets(replies.SERVER_BUSY)
    second.close()
    first.close()


async def test_a_flood_of_refusals_is_no_flood_of_lines(enter: Enter, caplog: pytest.LogCaptureFixture) -> None:
    entrance = enter(connections=0)
    for _ in range(20):
        client = Client(entrance.port)
        await in_thread(client.rest)
        client.close()
    assert len([record for record in caplog.records if record.getMessage() == "connections refused"]) < 5


async def test_a_load_balancer_says_who_the_client_is(enter: Enter) -> None:
    entrance = enter(proxies=LOOPBACK)
    header = b"PROXY TCP4 192.0.2.7 198.51.100.1 4711 25\r\n"
    assert await in_thread(lambda: talk(entrance.port, before=header)) == b"hello\r\nbye\r\n"
    peer = entrance.sessions[0].peer
    assert peer is not None
    assert (peer.address, peer.port, peer.local_address, peer.local_port) == ("192.0.2.7", 4711, "198.51.100.1", 25)


async def test_a_handshake_right_behind_the_proxy_header_works(enter: Enter) -> None:
    entrance = enter("submissions", proxies=LOOPBACK)
    header = b"PROXY TCP6 2001:db8::7 2001:db8::1 4711 465\r\n"
    answer = await in_thread(lambda: talk(entrance.port, before=header, implicit=True))
    assert answer == b"hello\r\nbye\r\n"
    peer = entrance.sessions[0].peer
    assert peer is not None
    assert peer.address == "2001:db8::7"
    assert peer.tls is not None


async def test_a_proxy_header_may_come_in_pieces(enter: Enter) -> None:
    entrance = enter(proxies=LOOPBACK)
    client = Client(entrance.port)
    for octet in b"PROXY UNKNOWN\r\nsay hi\r\nquit\r\n":
        client.socket.sendall(bytes([octet]))
        await asyncio.sleep(0.001)
    assert await in_thread(client.rest) == b"hello\r\nhi\r\nbye\r\n"
    client.close()


async def test_limits_count_the_client_and_not_the_load_balancer(enter: Enter) -> None:
    entrance = enter(proxies=LOOPBACK, connections_per_network=1)
    clients = []
    for number in (1, 2):
        client = Client(entrance.port)
        client.socket.sendall(b"PROXY TCP4 192.0.2.%d 198.51.100.1 4711 25\r\n" % number)
        assert await in_thread(client.line) == "hello"
        clients.append(client)
    third = Client(entrance.port)
    third.socket.sendall(b"PROXY TCP4 192.0.2.1 198.51.100.1 4712 25\r\n")
    assert await in_thread(third.rest) == reply_octets(replies.TOO_MANY_CONNECTIONS)
    for client in [*clients, third]:
        client.close()


@pytest.mark.parametrize("sent", [b"EHLO there\r\n", b"PROXY TCP4 nonsense\r\n", b""])
async def test_a_load_balancer_without_a_header_is_dropped(enter: Enter, sent: bytes) -> None:
    entrance = enter(proxies=LOOPBACK, handshake=0.2)
    client = Client(entrance.port)
    client.socket.sendall(sent)
    assert await in_thread(client.rest) == b""
    client.close()
    await entrance.empty()
    assert entrance.sessions == []


async def test_who_is_no_load_balancer_is_not_believed(enter: Enter) -> None:
    entrance = enter(proxies=(ip_network("192.0.2.0/24"),))
    header = b"PROXY TCP4 192.0.2.7 198.51.100.1 4711 25\r\n"
    await in_thread(lambda: talk(entrance.port, before=header))
    session = entrance.sessions[0]
    assert session.peer is not None
    assert session.peer.address == "127.0.0.1"
    assert session.seen[0].startswith("PROXY")  # a command like any other, for the session to refuse


@pytest.mark.parametrize("how", ["close", "reset", "garbage", "silence"])
async def test_a_place_comes_back_when_the_handshake_fails(enter: Enter, how: str) -> None:
    entrance = enter("pop3s", handshake=0.2)
    client = Client(entrance.port)
    if how == "garbage":
        client.send("EHLO there")
    if how in ("close", "reset"):
        getattr(client, how)()
    else:
        await in_thread(client.rest)
        client.close()
    await asyncio.sleep(0.05)
    await entrance.empty()
    assert entrance.sessions == []


async def test_a_session_that_can_not_be_made_keeps_no_place(enter: Enter, caplog: pytest.LogCaptureFixture) -> None:
    entrance = enter()

    def fail() -> Script:
        raise RuntimeError("no session today")

    entrance.acceptor._make = fail
    client = Client(entrance.port)
    assert await in_thread(client.rest) == b""
    client.close()
    await entrance.empty()
    assert "session not made" in [record.getMessage() for record in caplog.records]


async def test_a_closed_door_leaves_connections_to_others(enter: Enter) -> None:
    entrance = enter()
    entrance.acceptor.close()
    client = Client(entrance.port)
    client.send("quit")
    entrance.acceptor.open()
    assert await in_thread(client.rest) == b"hello\r\nbye\r\n"
    client.close()


async def test_no_descriptors_left_is_a_pause_and_no_end(enter: Enter, monkeypatch: pytest.MonkeyPatch) -> None:
    entrance = enter()

    class Full:
        def __init__(self, listening: socket.socket) -> None:
            self.listening = listening
            self.failures = 1

        def fileno(self) -> int:
            return self.listening.fileno()

        def accept(self) -> Any:
            if self.failures:
                self.failures -= 1
                raise OSError(24, "Too many open files")
            return self.listening.accept()

    monkeypatch.setattr("waypost.service.sockets.acceptor._PAUSE", 0.01)
    entrance.acceptor.close()
    entrance.acceptor._listening = Full(entrance.listening)  # type: ignore[assignment]
    entrance.acceptor.open()
    assert await in_thread(talk, entrance.port) == b"hello\r\nbye\r\n"


async def test_a_stop_ends_connections_that_still_arrive(enter: Enter) -> None:
    entrance = enter("pop3s", handshake=3600)
    client = Client(entrance.port)
    while entrance.house.admission.open == 0:  # noqa: ASYNC110  the kernel's queue sends no event
        await asyncio.sleep(0.01)
    await entrance.house.connections.stop(30)
    assert await in_thread(client.rest) == b""
    client.close()
    await entrance.empty()


async def test_a_stop_ends_the_idle_at_once_and_the_busy_when_they_are_done(enter: Enter) -> None:
    entrance = enter("pop3")
    idle, busy = Client(entrance.port), Client(entrance.port)
    await in_thread(idle.line)
    busy.send("busy")
    await in_thread(busy.line)
    await in_thread(busy.line)
    stopping = asyncio.create_task(entrance.house.connections.stop(30))
    assert await in_thread(idle.rest) == b"farewell\r\n"
    busy.send("free")
    assert await in_thread(busy.rest) == b"free\r\nfarewell\r\n"
    idle.close()
    busy.close()
    await stopping
    await entrance.empty()


async def test_a_stop_has_an_end(enter: Enter) -> None:
    entrance = enter(handshake=3600)
    busy = Client(entrance.port)
    busy.send("busy")
    await in_thread(busy.line)
    await in_thread(busy.line)
    await entrance.house.connections.stop(0.05)
    assert await in_thread(busy.rest) == b"farewell\r\n"
    busy.close()
    await entrance.empty()


def test_refusals_of_every_protocol_are_lines() -> None:
    for protocol in ListenerProtocol:
        octets = refusal(protocol, replies.SERVER_BUSY)
        assert octets == b"" or (octets.endswith(b"\r\n") and octets.count(b"\n") == 1)
