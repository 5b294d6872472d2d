"""TLS on the way out: how far it goes, what is recorded, and what is never sent."""

import asyncio
import contextlib
import os
import socket
import ssl
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from ipaddress import ip_address
from pathlib import Path

import pytest
import trustme
from tests.transport.mail_server import CLOSE, RESET, STALL, MailServer, Visit
from tests.transport.relay_world import SHORT, World

from waypost.config.settings import TlsPolicy
from waypost.queue.carrier import Fate
from waypost.service.sockets.tls import _FFDHE2048
from waypost.transport import tls_client
from waypost.transport.broken_tls import BrokenTls
from waypost.transport.next_hops import NextHops, Server
from waypost.transport.tls_client import TlsClient

OFFERS = ("PIPELINING", "STARTTLS")


@dataclass
class Trust:
    """An authority that our side trusts, and servers' contexts."""

    client: TlsClient
    right: ssl.SSLContext
    wrong_name: ssl.SSLContext
    stranger: ssl.SSLContext


def server_context(authority: trustme.CA, name: str) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert(name).configure_cert(context)
    return context


@pytest.fixture(scope="module")
def authorities() -> tuple[trustme.CA, trustme.CA]:
    return trustme.CA(), trustme.CA()


@pytest.fixture
def trust(authorities: tuple[trustme.CA, trustme.CA]) -> Trust:
    ours, another = authorities
    verified = ssl.create_default_context()
    ours.configure_trust(verified)
    return Trust(
        TlsClient(verified=verified),
        server_context(ours, "mx.test"),
        server_context(ours, "other.test"),
        server_context(another, "mx.test"),
    )


# -- opportunistic ---------------------------------------------------------------------------------------------


async def test_tls_is_used_where_it_is_offered_with_any_certificate(trust: Trust) -> None:
    world = World(tls=trust.client)
    async with MailServer(*OFFERS, tls=trust.stranger) as server:
        carried = await world.carry(world.entry(), world.entry(), way=server.way())
        await world.close()
    assert carried.fates == [Fate.RELAYED] * 2
    assert {result.tls for result in carried.results} == {"TLSv1.3 unverified"}
    assert server.visits[0].tls == "TLSv1.3"
    assert [line.split()[0] for line in server.visits[0].lines[:3]] == ["EHLO", "STARTTLS", "EHLO"]


async def test_a_server_without_tls_gets_plain_text(trust: Trust) -> None:
    world = World(tls=trust.client)
    async with MailServer("PIPELINING") as server:
        carried = await world.carry(world.entry(), way=server.way())
        await world.close()
    assert carried.fates == [Fate.RELAYED] and carried.only.tls is None


async def test_a_refused_starttls_goes_on_in_plain_text(trust: Trust) -> None:
    world = World(tls=trust.client)
    async with MailServer(*OFFERS, tls=trust.right, STARTTLS="454 4.7.0 not now") as server:
        carried = await world.carry(world.entry(), way=server.way())
        await world.close()
    assert carried.fates == [Fate.RELAYED] and carried.only.tls is None
    assert len(server.visits) == 1


async def test_broken_tls_means_plain_text_on_a_new_connection_and_is_remembered(trust: Trust) -> None:
    clock = [1000.0]
    world = World(tls=TlsClient(broken=BrokenTls(clock=lambda: clock[0])), idle=0.0)
    async with MailServer(*OFFERS) as server:  # it offers STARTTLS, and has no certificate
        carried = await world.carry(world.entry(), way=server.way())
        assert carried.fates == [Fate.RELAYED] and carried.only.tls is None
        assert [visit.lines[:2] for visit in server.visits] == [
            ["EHLO client.test", "STARTTLS"],
            ["EHLO client.test", "MAIL FROM:<alice@client.test>"],
        ]
        clock[0] += 3599
        await world.carry(world.entry(), way=server.way())
        assert server.visits[2].lines[1].startswith("MAIL"), "TLS is not tried again for an hour"
        clock[0] += 1
        await world.carry(world.entry(), way=server.way())
        assert server.visits[3].lines[1] == "STARTTLS"
        await world.close()


async def test_a_handshake_that_stalls_counts_as_broken() -> None:
    world = World(timeouts=SHORT)
    server = MailServer(*OFFERS)
    stalled = asyncio.Event()

    def starttls(visit: object, line: str) -> str:
        return "220 go"

    server.answers["STARTTLS"] = starttls
    original = server._accepted

    async def deaf(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if server.visits:
            await original(reader, writer)
            return
        server.visits.append(None)  # type: ignore[arg-type]
        writer.write(b"220 hi\r\n")
        await reader.readuntil(b"\r\n")
        writer.write(b"250-mx.test\r\n250 STARTTLS\r\n")
        await reader.readuntil(b"\r\n")
        writer.write(b"220 go\r\n")
        await stalled.wait()
        writer.close()

    server._accepted = deaf  # type: ignore[method-assign]
    async with server:
        carried = await world.carry(world.entry(), way=server.way())
        stalled.set()
        await world.close()
    assert carried.fates == [Fate.RELAYED] and carried.only.tls is None


async def test_text_behind_the_220_ends_the_session_and_nothing_is_sent(trust: Trust) -> None:
    world = World(tls=trust.client)
    async with MailServer(*OFFERS, STARTTLS="220 go\r\n250-evil.test\r\n250 AUTH PLAIN") as server:
        carried = await world.carry(world.entry(), way=server.way())
        await world.close()
    assert carried.fates == [Fate.DEFERRED]
    assert "between STARTTLS and the handshake" in carried.words[0]
    assert len(server.visits) == 1, "this is no broken TLS: plain text would be what an attacker wants"


@pytest.mark.parametrize("failure", [STALL, CLOSE, "421 4.3.2 bye"])
async def test_a_server_that_fails_at_starttls_is_left(trust: Trust, failure: str) -> None:
    world = World(tls=trust.client, timeouts=SHORT)
    async with MailServer(*OFFERS, tls=trust.right, STARTTLS=failure) as server:
        carried = await world.carry(world.entry(), way=server.way())
        await world.close()
    assert carried.fates == [Fate.DEFERRED] and carried.failure


# -- broken by accident, or for good ---------------------------------------------------------------------------

MUST = "530 5.7.0 Must issue a STARTTLS command first"


def demands_tls(visit: Visit, line: str) -> str:
    return "250 2.1.0 ok" if visit.tls else MUST


@pytest.mark.parametrize("accident", [RESET, CLOSE, STALL])
async def test_one_broken_handshake_is_an_accident_and_tls_is_tried_again(trust: Trust, accident: str) -> None:
    world = World(tls=trust.client, timeouts=SHORT)
    async with MailServer(*OFFERS, tls=trust.right, MAIL=demands_tls) as server:
        server.broken_handshakes = [accident]
        carried = await world.carry(world.entry(), way=server.way())
        await world.close()
    assert carried.fates == [Fate.RELAYED] and carried.only.tls == "TLSv1.3 unverified"
    assert not any("MAIL" in line for visit in server.visits if visit.tls is None for line in visit.lines)


@pytest.mark.parametrize("accident", [RESET, CLOSE])
async def test_plain_text_comes_only_after_repeated_failures_in_several_attempts(trust: Trust, accident: str) -> None:
    world = World(tls=trust.client, idle=0.0)
    async with MailServer(*OFFERS, tls=trust.right) as server:
        server.broken_handshakes = [accident] * 3
        first = await world.carry(world.entry(), way=server.way())
        assert first.fates == [Fate.DEFERRED] and first.only.results[0].status == "4.7.5"
        assert not server.taken and len(server.visits) == 2, "TLS twice, and no plain text"
        second = await world.carry(world.entry(), way=server.way())
        assert second.fates == [Fate.RELAYED] and second.only.tls is None
        await world.close()


async def test_connections_that_break_at_the_same_time_are_one_accident() -> None:
    clock = [0.0]
    broken = BrokenTls(clock=lambda: clock[0])
    server = Server("mx.test", ip_address("192.0.2.1"), 25)
    clock[0] = 5.0
    for _ in range(10):
        broken.failed(server, began=1.0, lasting=False)
    assert server not in broken
    broken.failed(server, began=6.0, lasting=False)
    clock[0] = 8.0
    broken.failed(server, began=7.0, lasting=False)
    assert server in broken


async def test_a_handshake_that_succeeds_ends_the_count(trust: Trust) -> None:
    world = World(tls=trust.client, idle=0.0)
    async with MailServer(*OFFERS, tls=trust.right) as server:
        for _ in range(4):
            server.broken_handshakes = [RESET]
            carried = await world.carry(world.entry(), way=server.way())
            assert carried.fates == [Fate.RELAYED] and carried.only.tls == "TLSv1.3 unverified"
        await world.close()


@pytest.mark.parametrize("stage", ["MAIL", "RCPT", "DATA"])
@pytest.mark.parametrize(
    "refusal",
    [
        MUST,
        "530 must",
        "550 5.7.10 Encryption needed",
        "554 5.7.1 You must use TLS to send to this domain",
        "550 SSL is required",
        "538 5.7.11 Encryption required for requested authentication mechanism",
        "550 5.7.1 Cleartext is not accepted here",
        "554 5.7.1 Please use a secure connection",
        "450 4.7.10 needed",
        "451 4.7.1 Must issue a STARTTLS command first",
        "421 4.7.0 TLS required",
    ],
)
async def test_a_refusal_that_asks_for_the_tls_that_was_not_used_is_temporary(
    trust: Trust, stage: str, refusal: str
) -> None:
    world = World(tls=trust.client, idle=0.0)
    clean = "354 go" if stage == "DATA" else "250 2.1.0 ok"
    answers = {stage: lambda visit, line: clean if visit.tls else refusal}
    async with MailServer(*OFFERS, tls=trust.right, **answers) as server:
        trust.client.broken.failed(server.place(), began=0.0, lasting=True)
        first = await world.carry(world.entry(), way=server.way())
        assert first.fates == [Fate.DEFERRED] and first.words[0].startswith(refusal[:3])
        assert first.only.results[0].status.startswith("4.")
        second = await world.carry(world.entry(), way=server.way())
        await world.close()
    assert second.fates == [Fate.RELAYED] and second.only.tls == "TLSv1.3 unverified", "the memory has ended"


async def test_tls_that_is_not_available_for_the_moment_returns_no_mail_of_a_server_that_demands_it(
    trust: Trust,
) -> None:
    world = World(tls=trust.client, idle=0.0)
    async with MailServer(*OFFERS, tls=trust.right, MAIL=demands_tls) as server:
        server.answers["STARTTLS"] = "454 4.7.0 TLS not available due to temporary reason"
        first = await world.carry(world.entry(), way=server.way())
        assert first.fates == [Fate.DEFERRED]
        del server.answers["STARTTLS"]
        second = await world.carry(world.entry(), way=server.way())
        await world.close()
    assert second.fates == [Fate.RELAYED] and second.only.tls == "TLSv1.3 unverified"


async def test_a_refusal_that_has_nothing_to_do_with_tls_stays_permanent(trust: Trust) -> None:
    world = World(tls=trust.client)
    async with MailServer(*OFFERS, STARTTLS="454 4.7.0 not now", RCPT="550 5.1.1 no such user") as server:
        carried = await world.carry(world.entry(), way=server.way())
        await world.close()
    assert carried.fates == [Fate.FAILED]


async def test_a_server_that_never_offered_tls_and_demands_a_login_returns_the_mail(trust: Trust) -> None:
    world = World(tls=trust.client)
    async with MailServer("PIPELINING", MAIL="530 5.7.0 Authentication required") as server:
        carried = await world.carry(world.entry(), way=server.way())
        await world.close()
    assert carried.fates == [Fate.FAILED]


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
async def test_a_server_that_wants_a_client_certificate_gets_plain_text(
    authorities: tuple[trustme.CA, trustme.CA], version: ssl.TLSVersion
) -> None:
    context = server_context(authorities[0], "mx.test")
    context.verify_mode = ssl.CERT_REQUIRED
    authorities[0].configure_trust(context)
    context.minimum_version = context.maximum_version = version
    world = World(idle=0.0)
    with alerting_server(context) as place:
        carried = await world.carry(world.entry(), way=NextHops((place,)))
        await world.close()
    assert carried.fates == [Fate.RELAYED] and carried.only.tls is None


@contextlib.contextmanager
def alerting_server(context: ssl.SSLContext) -> Iterator[Server]:
    """A server on plain sockets, where OpenSSL itself sends the alert; asyncio closes without it.

    It stays until the client has gone: octets that nobody read would turn the end into a reset, which may overtake the
    alert.
    """
    answers = {b"EHLO": b"250-mx.test\r\n250 STARTTLS\r\n", b"DATA": b"354 go\r\n", b"STAR": b"220 go\r\n"}
    listening = socket.create_server(("127.0.0.1", 0))

    def session(connection: socket.socket) -> None:
        lines = connection.makefile("rb")
        connection.sendall(b"220 hi\r\n")
        content = False
        for line in lines:
            content = content and line != b".\r\n"
            if not content:
                connection.sendall(answers.get(line[:4].upper(), b"250 ok\r\n"))
                content = line.startswith(b"DATA")
            if line.startswith(b"STARTTLS"):
                encrypted = context.wrap_socket(connection, server_side=True, do_handshake_on_connect=False)
                with socket.socket(fileno=os.dup(encrypted.fileno())) as plain, encrypted:
                    with contextlib.suppress(ssl.SSLError):
                        encrypted.do_handshake()
                    while plain.recv(1 << 16):
                        pass
                return
            if line.startswith(b"QUIT"):
                return

    def serve() -> None:
        while True:
            try:
                connection, _ = listening.accept()
            except OSError:  # closed
                return
            with connection, contextlib.suppress(OSError):
                session(connection)

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    with listening:
        yield Server("mx.test", ip_address("127.0.0.1"), listening.getsockname()[1])
        listening.shutdown(socket.SHUT_RDWR)  # wakes `accept`
        thread.join(30)


async def test_a_connection_that_ends_between_the_handshake_and_the_second_ehlo_counts_as_broken_tls(
    trust: Trust,
) -> None:
    world = World(tls=trust.client, idle=0.0)

    def ends_in_tls(visit: Visit, line: str) -> str:
        return CLOSE if visit.tls else "250-mx.test\r\n250 STARTTLS"

    async with MailServer(*OFFERS, tls=trust.right, EHLO=ends_in_tls) as server:
        first = await world.carry(world.entry(), way=server.way())
        assert first.fates == [Fate.DEFERRED] and first.only.results[0].status == "4.7.5"
        second = await world.carry(world.entry(), way=server.way())
        await world.close()
    assert second.fates == [Fate.RELAYED] and second.only.tls is None


@pytest.mark.parametrize(
    "suite",
    ["ECDHE-RSA-AES128-SHA", "DHE-RSA-AES128-GCM-SHA256", "AES128-GCM-SHA256", "AES128-SHA", "AES256-SHA256"],
)
async def test_what_is_better_than_plain_text_is_taken(
    authorities: tuple[trustme.CA, trustme.CA], suite: str, tmp_path: Path
) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    certificate = authorities[0].issue_cert("mx.test", key_type=trustme.KeyType.RSA)
    certificate.configure_cert(context)
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    context.set_ciphers(f"{suite}:@SECLEVEL=0")
    parameters = tmp_path / "dh.pem"
    parameters.write_bytes(_FFDHE2048)
    context.load_dh_params(parameters)
    world = World(idle=0.0)
    async with MailServer(*OFFERS, tls=context) as server:
        carried = await world.carry(world.entry(), way=server.way())
        await world.close()
    assert carried.only.tls == "TLSv1.2 unverified"


# -- required --------------------------------------------------------------------------------------------------


async def test_required_tls_with_the_right_certificate_is_verified(trust: Trust) -> None:
    world = World(tls=trust.client)
    async with MailServer(*OFFERS, tls=trust.right) as server:
        carried = await world.carry(world.entry(), way=server.way(TlsPolicy.REQUIRED))
        await world.close()
    assert carried.fates == [Fate.RELAYED] and carried.only.tls == "TLSv1.3 verified"


@pytest.mark.parametrize("certificate", ["wrong_name", "stranger", "none", "refused", "not offered"])
@pytest.mark.parametrize("policy", [TlsPolicy.REQUIRED, TlsPolicy.IMPLICIT])
async def test_required_tls_without_it_never_sends(trust: Trust, certificate: str, policy: TlsPolicy) -> None:
    context = getattr(trust, certificate, None)
    if policy is TlsPolicy.IMPLICIT and context is None:
        return
    answers = {"STARTTLS": "454 4.7.0 not now"} if certificate == "refused" else {}
    offers = ("PIPELINING",) if certificate == "not offered" else OFFERS
    world = World(tls=trust.client, timeouts=SHORT)
    async with MailServer(*offers, tls=context, implicit=policy is TlsPolicy.IMPLICIT, **answers) as server:
        carried = await world.carry(world.entry(), way=server.way(policy))
        await world.close()
    assert carried.fates == [Fate.DEFERRED] and carried.failure
    assert carried.only.results[0].status in ("4.7.5", "4.7.4")
    assert not any("MAIL" in line for visit in server.visits for line in visit.lines)
    if context is not None:
        assert "certificate" in carried.words[0]


async def test_the_next_server_may_have_what_the_first_lacks(trust: Trust) -> None:
    world = World(tls=trust.client)
    async with MailServer(*OFFERS, tls=trust.stranger) as bad, MailServer(*OFFERS, tls=trust.right) as good:
        way = NextHops((bad.place(), good.place()), tls=TlsPolicy.REQUIRED)
        carried = await world.carry(world.entry(), way=way)
        await world.close()
    assert carried.fates == [Fate.RELAYED] and not bad.taken and len(good.taken) == 1


async def test_implicit_tls_is_there_from_the_first_octet(trust: Trust) -> None:
    world = World(tls=trust.client)
    async with MailServer("PIPELINING", tls=trust.right, implicit=True) as server:
        carried = await world.carry(world.entry(), way=server.way(TlsPolicy.IMPLICIT))
        await world.close()
    assert carried.fates == [Fate.RELAYED] and carried.only.tls == "TLSv1.3 verified"
    assert "STARTTLS" not in server.visits[0].lines


async def test_no_tls_means_none(trust: Trust) -> None:
    world = World(tls=trust.client)
    async with MailServer(*OFFERS, tls=trust.right) as server:
        carried = await world.carry(world.entry(), way=server.way(TlsPolicy.NONE))
        await world.close()
    assert carried.fates == [Fate.RELAYED] and carried.only.tls is None


async def test_an_address_without_a_name_is_verified_by_its_address(authorities: tuple[trustme.CA, trustme.CA]) -> None:
    ours, _ = authorities
    verified = ssl.create_default_context()
    ours.configure_trust(verified)
    world = World(tls=TlsClient(verified=verified))
    async with MailServer(*OFFERS, tls=server_context(ours, "127.0.0.1")) as server:
        way = NextHops((server.place(None),), tls=TlsPolicy.REQUIRED)
        carried = await world.carry(world.entry(), way=way)
        await world.close()
    assert carried.only.tls == "TLSv1.3 verified" and carried.only.host is None


async def test_a_name_that_no_certificate_can_hold_is_broken_tls(trust: Trust) -> None:
    world = World(tls=trust.client)
    async with MailServer(*OFFERS, tls=trust.right) as server:
        way = NextHops((Server("x" * 70 + ".test", server.place().address, server.port),))
        carried = await world.carry(world.entry(), way=way)
        await world.close()
    assert carried.fates == [Fate.RELAYED]


async def test_many_messages_go_over_tls(trust: Trust) -> None:
    world = World(tls=trust.client)
    async with MailServer(*OFFERS, "CHUNKING", tls=trust.right) as server:
        carried = await world.carry(*(world.entry() for _ in range(100)), way=server.way())
        await world.close()
    assert carried.fates == [Fate.RELAYED] * 100
    assert all(visit.quit for visit in server.visits)


# -- what is remembered ----------------------------------------------------------------------------------------


def test_the_memory_of_broken_servers_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("waypost.transport.broken_tls._MOST", 3)
    broken = BrokenTls(clock=lambda: 0.0)
    servers = [Server(None, ip_address(f"192.0.2.{number}"), 25) for number in range(5)]
    for server in servers:
        broken.failed(server, began=0.0, lasting=True)
    assert [server in broken for server in servers] == [False, False, True, True, True]


def test_failures_of_another_day_are_forgotten() -> None:
    clock = [0.0]
    broken = BrokenTls(clock=lambda: clock[0])
    server = Server(None, ip_address("192.0.2.1"), 25)
    for day in range(5):
        clock[0] = day * 86_400.0
        broken.failed(server, began=clock[0], lasting=False)
        assert server not in broken


def test_a_server_that_was_broken_is_tried_once_an_hour() -> None:
    clock = [0.0]
    broken = BrokenTls(clock=lambda: clock[0])
    server = Server(None, ip_address("192.0.2.1"), 25)
    for second in range(3):
        clock[0] = float(second)
        broken.failed(server, began=clock[0], lasting=False)
    assert server in broken
    clock[0] += 3600
    assert server not in broken
    broken.failed(server, began=clock[0], lasting=False)
    assert server in broken


def test_contexts_are_made_once() -> None:
    client = TlsClient()
    assert client.unverified is client.unverified
    assert client.verified is client.verified
    assert client.verified.check_hostname and client.verified.verify_mode is ssl.CERT_REQUIRED


def test_a_certificate_that_only_openssl_takes_has_no_end_point(authorities: tuple[trustme.CA, trustme.CA]) -> None:
    der = ssl.PEM_cert_to_DER_cert(authorities[0].issue_cert("mx.test").cert_chain_pems[0].bytes().decode())
    assert tls_client._end_point(der) is not None
    version = b"\xa0\x03\x02\x01"
    assert tls_client._end_point(der.replace(version + b"\x02", version + b"\x03", 1)) is None
