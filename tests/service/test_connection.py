"""A connection drives its session alike over both loops, whatever the peer does with the socket."""

import asyncio
import contextlib
import socket
import ssl
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from typing import Any

import pytest
from tests.service.sessions import Client, Script, in_thread, server_tls

from waypost.protocol.session import Ending, Peer
from waypost.service.sockets.connection import Connection
from waypost.service.sockets.outbox import Outbox
from waypost.service.sockets.timing import Timing, acknowledged_octets

PEER = Peer("192.0.2.1", 4711, "192.0.2.2", 25)


@dataclass
class Stage:
    """A listening server; `sessions` and `connections` in the order in which they came."""

    port: int = 0
    script: dict[str, Any] = field(default_factory=dict)
    sessions: list[Script] = field(default_factory=list)
    connections: list[Connection] = field(default_factory=list)
    ended: list[Connection] = field(default_factory=list)
    came: asyncio.Event = field(default_factory=asyncio.Event)

    def make(self) -> Script:
        session = Script(**self.script)
        self.sessions.append(session)
        self.came.set()
        return session

    async def session(self) -> Script:
        await asyncio.wait_for(self.came.wait(), 20)
        return self.sessions[0]

    async def over(self) -> Script:
        """The first session, when it is closed."""
        session = await self.session()
        await asyncio.wait_for(session.gone.wait(), 20)
        await asyncio.sleep(0)
        assert self.ended == self.connections[:1]
        assert not self.connections[0].working
        return session


Open = Callable[..., Any]


async def until(reached: Callable[[], bool]) -> None:
    """Wait for what the kernel's buffers decide: no event tells of it."""
    async with asyncio.timeout(20):
        while not reached():  # noqa: ASYNC110
            await asyncio.sleep(0.01)


@pytest.fixture
async def stage() -> AsyncIterator[Open]:
    servers: list[asyncio.Server] = []
    faults: list[dict[str, Any]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: faults.append(context))

    async def open_stage(
        *, timing: Timing | None = None, implicit: bool = False, window: int | None = None, **script: Any
    ) -> Stage:
        """`window`: octets that the kernel takes from us ahead of the peer."""
        stage, tls, outbox = Stage(script=script), server_tls(), Outbox()

        def connection() -> Connection:
            made = Connection(
                stage.make,
                PEER,
                tls=tls,
                timing=timing or Timing(session=3600),
                outbox=outbox,
                ended=stage.ended.append,
            )
            stage.connections.append(made)
            return made

        loop = asyncio.get_running_loop()
        server = await loop.create_server(connection, "127.0.0.1", 0, ssl=tls.context if implicit else None)
        servers.append(server)
        if window is not None:  # connections inherit it
            server.sockets[0].setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, window)
        stage.port = server.sockets[0].getsockname()[1]
        return stage

    yield open_stage
    for server in servers:
        server.close()
    assert faults == []


async def test_lines_are_answered_until_the_session_closes(stage: Open) -> None:
    server = await stage()

    def talk() -> list[str]:
        client = Client(server.port)
        lines = [client.line()]
        client.send("say one")
        lines.append(client.line())
        client.send("say two", "say three", "quit")
        lines += [client.line() for _ in range(4)]
        client.close()
        return lines

    assert await in_thread(talk) == ["hello", "one", "two", "three", "bye", ""]
    session = await server.over()
    assert session.seen == ["say one", "say two", "say three", "quit", "closed"]
    assert session.peer == PEER


async def test_input_that_comes_while_the_session_works_is_kept(stage: Open) -> None:
    server = await stage()
    client = Client(server.port)
    client.send("wait")
    session = await server.session()
    await session.waits.wait()
    client.send("say after", "quit")
    await asyncio.sleep(0.05)  # it must not be handled now; nothing tells that nothing happens
    assert session.seen == ["wait"]
    session.go.set()
    assert (await in_thread(client.rest)).split() == [b"hello", b"waited", b"after", b"bye"]
    client.close()
    await server.over()


async def test_a_half_closed_connection_still_gets_its_answers(stage: Open) -> None:
    server = await stage()

    def talk() -> bytes:
        client = Client(server.port)
        client.send("say one", "say two")
        client.socket.shutdown(socket.SHUT_WR)
        octets = client.rest()
        client.close()
        return octets

    assert await in_thread(talk) == b"hello\r\none\r\ntwo\r\n"
    session = await server.over()
    assert session.seen == ["say one", "say two", "eof", "closed"]


@pytest.mark.parametrize("how", ["close", "reset"])
async def test_a_peer_that_vanishes_while_idle_is_noticed(stage: Open, how: str) -> None:
    server = await stage()
    client = Client(server.port)
    await in_thread(client.line)
    getattr(client, how)()
    session = await server.over()
    assert session.seen[-1] == "closed"


@pytest.mark.parametrize("how", ["close", "reset"])
async def test_work_goes_on_when_the_peer_vanishes_and_closed_comes_last(stage: Open, how: str) -> None:
    server = await stage()
    client = Client(server.port)
    client.send("wait")
    session = await server.session()
    await session.waits.wait()
    getattr(client, how)()
    await until(lambda: "eof" in session.seen)
    assert "closed" not in session.seen
    session.go.set()
    await server.over()
    assert session.seen == ["wait", "eof", "closed"]


async def test_a_session_that_wants_no_input_stops_the_reading(stage: Open) -> None:
    server = await stage(most=1000)
    client = Client(server.port)
    client.send("wait")
    session = await server.session()
    await session.waits.wait()
    flood = b"say x\r\n" * 200_000
    sending = asyncio.create_task(in_thread(client.socket.sendall, flood))
    await until(lambda: not session.wants_input)
    await asyncio.sleep(0.05)
    assert len(session._input) <= 1000 + (256 << 10)  # one read past what it wanted

    def answers() -> int:
        client.line(), client.line()
        count = 0
        while count < 200_000 * 3:
            count += len(client.socket.recv(1 << 16))
        client.send("quit")
        return count

    session.go.set()
    assert await in_thread(answers) == 200_000 * 3
    await sending
    assert (await in_thread(client.rest)) == b"bye\r\n"
    client.close()
    await server.over()


async def test_a_peer_that_does_not_read_costs_bounded_memory(stage: Open) -> None:
    server = await stage()
    client = Client(server.port)
    client.send("pour 8000000")
    await server.session()
    connection = server.connections[0]
    await until(lambda: connection._flow.choked)
    await asyncio.sleep(0.05)
    assert connection._transport.get_write_buffer_size() < 512 << 10
    client.send("quit")
    octets = await in_thread(client.rest)
    assert len(octets) == len(b"hello\r\nbye\r\n") + -(-8_000_000 // 16384) * 16384 - (-8_000_000 % 16384)
    client.close()
    await server.over()


async def test_a_session_that_pours_ends_when_its_peer_resets(stage: Open) -> None:
    server = await stage()
    client = Client(server.port)
    client.send("pour 8000000")
    await server.session()
    await until(lambda: server.connections[0]._flow.choked)
    client.reset()
    session = await server.over()
    assert session.seen[-1] == "closed"


async def test_starttls_changes_over_and_says_what_was_agreed(stage: Open) -> None:
    server = await stage()

    def talk() -> tuple[str, bytes]:
        client = Client(server.port)
        client.line()
        client.send("starttls")
        ready = client.line()
        client.start_tls()
        client.send("say secret", "quit")
        octets = client.rest()
        client.close()
        return ready, octets

    assert await in_thread(talk) == ("ready", b"secret\r\nbye\r\n")
    session = await server.over()
    assert session.seen == ["starttls", "tls", "say secret", "quit", "eof", "closed"] or session.seen == [
        "starttls",
        "tls",
        "say secret",
        "quit",
        "closed",
    ]
    assert session.tls is not None
    assert session.tls.version == "TLSv1.3"
    assert session.tls.server_end_point is not None
    assert len(session.tls.server_end_point) == 32


async def test_what_is_pipelined_behind_starttls_is_never_run(stage: Open) -> None:
    server = await stage()

    def talk() -> bytes:
        client = Client(server.port)
        client.line()
        client.send("starttls", "say injected", "say injected too")
        client.line()
        client.start_tls()
        client.send("say fine", "quit")
        octets = client.rest()
        client.close()
        return octets

    assert await in_thread(talk) == b"fine\r\nbye\r\n"
    session = await server.over()
    assert not any("injected" in words for words in session.seen)


async def test_plain_text_after_the_answer_to_starttls_ends_the_connection(stage: Open) -> None:
    server = await stage()

    def talk() -> bytes:
        client = Client(server.port)
        client.line()
        client.send("starttls")
        client.line()
        client.send("say injected")
        octets = client.rest()
        client.close()
        return octets

    assert b"injected" not in await in_thread(talk)
    session = await server.over()
    assert session.seen[0] == "starttls"
    assert session.seen[-1] == "closed"
    assert "say injected" not in session.seen


async def test_input_at_the_end_of_the_handshake_is_not_lost(stage: Open) -> None:
    """With TLS 1.3 a client's last handshake message and its first command come in one segment."""
    server = await stage()

    def talk() -> bytes:
        client = Client(server.port)
        client.line()
        client.send("starttls")
        client.line()
        incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        tls = context.wrap_bio(incoming, outgoing)
        while True:
            try:
                tls.do_handshake()
                break
            except ssl.SSLWantReadError:
                client.socket.sendall(outgoing.read())
                incoming.write(client.socket.recv(1 << 16))
        tls.write(b"say together\r\n")
        client.socket.sendall(outgoing.read())
        while True:
            try:
                octets = tls.read(100)
                break
            except ssl.SSLWantReadError:
                incoming.write(client.socket.recv(1 << 16))
        client.close()
        return octets

    assert await in_thread(talk) == b"together\r\n"
    await server.over()


@pytest.mark.parametrize("how", ["silence", "close", "reset", "garbage"])
async def test_a_handshake_that_fails_gives_everything_back(stage: Open, how: str) -> None:
    server = await stage(timing=Timing(session=3600, handshake=0.2))

    def talk() -> None:
        client = Client(server.port)
        client.line()
        client.send("starttls")
        client.line()
        if how == "garbage":
            client.socket.sendall(b"\x16\x03\x01\x00\x05hello")
        elif how != "silence":
            getattr(client, how)()
        if how in ("silence", "garbage"):
            client.rest()
            client.close()

    await in_thread(talk)
    session = await server.over()
    assert [words for words in session.seen if words != "eof"] == ["starttls", "closed"]


async def test_starttls_behind_much_unread_output_works(stage: Open) -> None:
    server = await stage()

    def talk() -> bytes:
        client = Client(server.port)
        client.send("pour 3000000", "starttls")
        count = len(b"hello\r\n") + 3_000_000 // 16384 * 16384 + 16384 + len(b"ready\r\n")
        count -= 16384 - 3_000_000 % 16384
        while count:
            count -= len(client.socket.recv(min(count, 1 << 16)))
        client.start_tls()
        client.send("quit")
        octets = client.rest()
        client.close()
        return octets

    assert await in_thread(talk) == b"bye\r\n"
    await server.over()


async def test_implicit_tls_greets_inside_tls(stage: Open) -> None:
    server = await stage(implicit=True)

    def talk() -> list[str]:
        client = Client(server.port, implicit=True)
        client.send("say one", "quit")
        lines = [client.line() for _ in range(4)]
        client.close()
        return lines

    assert await in_thread(talk) == ["hello", "one", "bye", ""]
    session = await server.over()
    assert session.peer is not None
    assert session.peer.tls is not None
    assert session.peer.tls.version == "TLSv1.3"


LAST_WORDS = 60_000
"""Octets of an answer at the end that is written whole: more than the kernels take, so most waits below TLS."""


def pours(port: int, octets: int) -> Client:
    """A client over TLS that asks for much and reads nothing yet; the kernels take little of it."""
    client = Client(port, implicit=True, window=4096)
    client.send(f"pour {octets}", "say " + "x" * LAST_WORDS, "quit")
    return client


async def test_over_tls_a_peer_that_does_not_read_costs_bounded_memory(stage: Open) -> None:
    server = await stage(implicit=True, window=16384)
    client = await in_thread(pours, server.port, 1_000_000)
    await server.session()
    await until(lambda: server.connections[0]._flow.choked)
    before = acknowledged_octets(server.connections[0]._transport)
    assert server.connections[0]._transport.get_write_buffer_size() < 1 << 20
    assert before < 1 << 20
    client.close()
    await server.over()


async def test_over_tls_a_peer_that_reads_late_gets_everything(stage: Open) -> None:
    server = await stage(implicit=True, window=16384)
    client = await in_thread(pours, server.port, 1_000_000)
    await server.session()
    await until(lambda: server.connections[0]._flow.choked)
    assert len(await in_thread(client.rest)) > 1_000_000
    client.close()
    await server.over()


async def closing_beside_a_slow_reader(stage: Open) -> tuple[Stage, Client]:
    """A connection over TLS that has said its last words, most of which wait, below TLS, for a peer that reads slowly.

    Its clock never looks by itself.
    """
    server: Stage = await stage(implicit=True, window=16384, timing=Timing(session=3600, linger=3600))
    client = await in_thread(pours, server.port, 0)
    await server.session()
    await until(lambda: server.connections[0]._state.name == "CLOSING")
    return server, client


async def test_over_tls_a_peer_that_reads_slowly_gets_our_last_words(stage: Open) -> None:
    """What waits below TLS is in nobody's count but the kernel's."""
    server, client = await closing_beside_a_slow_reader(stage)
    (connection,) = server.connections
    for _ in range(2):
        before = acknowledged_octets(connection._transport)
        while acknowledged_octets(connection._transport) == before:
            await in_thread(client.socket.recv, 4096)
        connection._look()
    assert (await in_thread(client.rest)).endswith(b"bye\r\n")
    client.close()
    await server.over()


async def test_over_tls_a_peer_that_has_stopped_reading_is_dropped(stage: Open) -> None:
    server, client = await closing_beside_a_slow_reader(stage)
    seen = -1
    while acknowledged_octets(server.connections[0]._transport) != seen:  # until the kernels have no room
        seen = acknowledged_octets(server.connections[0]._transport)
        await asyncio.sleep(0.05)
    server.connections[0]._look()
    server.connections[0]._look()
    await server.over()
    client.close()


async def test_over_tls_nobody_reads_for_ever(stage: Open) -> None:
    server, client = await closing_beside_a_slow_reader(stage)
    (connection,) = server.connections
    connection._last_words._until = 0.0
    before = acknowledged_octets(connection._transport)
    while acknowledged_octets(connection._transport) == before:
        await in_thread(client.socket.recv, 4096)
    connection._look()
    await server.over()
    client.close()


async def test_a_silent_peer_is_told_and_dropped(stage: Open) -> None:
    server = await stage(patience=0.1)

    def talk() -> bytes:
        client = Client(server.port)
        octets = client.rest()
        client.close()
        return octets

    assert await in_thread(talk) == b"hello\r\ntimed out\r\n"
    await server.over()


async def test_a_peer_that_keeps_talking_is_not_silent(stage: Open) -> None:
    server = await stage(patience=0.5)

    def talk() -> bytes:
        client = Client(server.port)
        for _ in range(8):
            client.send("say x")
            client.line()
            time.sleep(0.1)
        client.send("quit")
        octets = client.rest()
        client.close()
        return octets

    assert b"timed out" not in await in_thread(talk)
    await server.over()


async def test_time_that_the_session_takes_is_not_the_peers_silence(stage: Open) -> None:
    server = await stage(patience=0.1)
    client = Client(server.port)
    client.send("wait")
    session = await server.session()
    await session.waits.wait()
    await asyncio.sleep(0.3)
    session.patience = 30
    session.go.set()
    client.send("quit")
    assert await in_thread(client.rest) == b"hello\r\nwaited\r\nbye\r\n"
    client.close()
    await server.over()


async def test_less_patience_counts_from_the_next_answer_on(stage: Open) -> None:
    server = await stage(patience=3600)
    client = Client(server.port)
    session = await server.session()
    session.patience = 0.1
    client.send("say x")
    assert await in_thread(client.rest) == b"hello\r\nx\r\ntimed out\r\n"
    client.close()
    await server.over()


async def test_a_peer_that_never_reads_is_dropped(stage: Open) -> None:
    server = await stage(patience=0.3)
    client = Client(server.port)
    client.send("pour 8000000")
    session = await server.over()
    assert session.seen[-2:] == ["timed out", "closed"] or session.seen[-3:] == ["timed out", "eof", "closed"]
    client.close()


async def test_a_session_has_an_end_even_for_those_who_keep_talking(stage: Open) -> None:
    server = await stage(timing=Timing(session=0.4))

    def talk() -> bytes:
        client = Client(server.port)
        with contextlib.suppress(OSError):
            for _ in range(30):
                client.send("say x")
                time.sleep(0.02)
        octets = client.rest()
        client.close()
        return octets

    assert (await in_thread(talk)).endswith(b"timed out\r\n")
    await server.over()


async def test_last_words_arrive_although_input_is_unread(stage: Open) -> None:
    """A socket that is closed with unread input resets the connection, and takes back what it said last."""
    server = await stage()

    def talk() -> bytes:
        client = Client(server.port)
        client.send("quit")
        with contextlib.suppress(OSError):
            client.socket.sendall(b"say ignored\r\n" * 10_000)
        octets = client.rest()
        client.close()
        return octets

    assert await in_thread(talk) == b"hello\r\nbye\r\n"
    session = await server.over()
    assert "say ignored" not in session.seen


async def test_a_peer_that_lingers_is_dropped(stage: Open) -> None:
    server = await stage(timing=Timing(session=3600, linger=0.1))
    client = Client(server.port)
    client.send("quit")
    await server.over()
    client.close()


async def test_a_fault_of_ours_is_logged_and_what_was_said_arrives(
    stage: Open, caplog: pytest.LogCaptureFixture
) -> None:
    server = await stage()

    def talk() -> bytes:
        client = Client(server.port)
        client.send("fail", "say more")
        octets = client.rest()
        client.close()
        return octets

    assert await in_thread(talk) == b"hello\r\nbefore the fault\r\n"
    await server.over()
    (record,) = [record for record in caplog.records if record.levelname == "ERROR"]
    assert record.getMessage() == "session failed"
    assert record.exc_info is not None


async def test_a_stop_says_farewell_to_the_idle_at_once(stage: Open) -> None:
    server = await stage()
    client = Client(server.port)
    await in_thread(client.line)
    server.connections[0].stop()
    assert await in_thread(client.rest) == b"farewell\r\n"
    client.close()
    await server.over()


async def test_a_stop_lets_a_transaction_finish(stage: Open) -> None:
    server = await stage()
    client = Client(server.port)
    await in_thread(client.line)
    client.send("busy")
    await in_thread(client.line)
    server.connections[0].stop()
    client.send("say still here", "free")
    assert await in_thread(client.rest) == b"still here\r\nfree\r\nfarewell\r\n"
    client.close()
    session = await server.over()
    assert session.seen[:3] == ["busy", "say still here", "free"]


async def test_a_stop_survives_a_peer_whose_end_was_not_seen_yet(stage: Open) -> None:
    server = await stage()
    client = Client(server.port)
    await in_thread(client.line)
    client.close()  # no turn of the loop in between: our farewell is answered by a reset
    server.connections[0].stop()
    await server.over()


async def test_a_stop_in_a_hurry_waits_for_nobody(stage: Open) -> None:
    server = await stage()
    client = Client(server.port)
    client.send("busy")
    await in_thread(client.line)
    await in_thread(client.line)
    server.connections[0].stop()
    server.connections[0].end(Ending.STOPPING)
    assert await in_thread(client.rest) == b"farewell\r\n"
    client.close()
    await server.over()


async def test_a_session_that_is_made_to_wait_goes_on_afterwards(stage: Open) -> None:
    server = await stage()
    client = Client(server.port)
    client.send("rest 0.001", "say more", "quit")
    assert await in_thread(client.rest) == b"hello\r\nrested\r\nmore\r\nbye\r\n"
    client.close()
    await server.over()


@pytest.mark.parametrize("how", ["stop", "end", "reset"])
async def test_nobody_is_made_to_wait_past_the_end(stage: Open, how: str) -> None:
    server = await stage()
    client = Client(server.port)
    client.send("rest 3600", "rest 3600")
    session = await server.session()
    await session.waits.wait()
    if how == "reset":
        client.reset()
    else:
        connection = server.connections[0]
        connection.stop() if how == "stop" else connection.end(Ending.STOPPING)
        assert b"rested\r\n" in await in_thread(client.rest)
        client.close()
    await server.over()


async def test_who_waits_for_an_answer_is_not_silent(stage: Open) -> None:
    server = await stage(patience=0.05)
    client = Client(server.port)
    client.send("rest 0.3", "quit")
    assert await in_thread(client.rest) == b"hello\r\nrested\r\nbye\r\n"
    client.close()
    await server.over()


async def test_an_aborted_connection_is_gone_at_once(stage: Open) -> None:
    server = await stage()
    client = Client(server.port)
    await in_thread(client.line)
    server.connections[0].abort()
    assert await in_thread(client.rest) == b""
    client.close()
    await server.over()


async def test_an_idle_connection_has_no_task(stage: Open) -> None:
    server = await stage()
    client = Client(server.port)
    client.send("say x")
    await in_thread(client.line)
    await in_thread(client.line)
    assert server.connections[0]._task is None
    client.close()
    await server.over()
