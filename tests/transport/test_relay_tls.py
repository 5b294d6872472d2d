"""TLS on the way out: how far it goes, what is recorded, and what is never sent."""

import asyncio
import ssl
from dataclasses import dataclass
from ipaddress import ip_address

import pytest
import trustme
from tests.transport.mail_server import CLOSE, STALL, MailServer
from tests.transport.relay_world import SHORT, World

from waypost.config.settings import TlsPolicy
from waypost.queue.carrier import Fate
from waypost.transport import tls_client
from waypost.transport.tls_client import TlsClient
from waypost.transport.ways import Server, Way

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
    world = World(tls=TlsClient(clock=lambda: clock[0]), idle=0.0)
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
    assert carried.fates == [Fate.DEFERRED] and carried.only.whole_destination


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
    assert carried.fates == [Fate.DEFERRED] and carried.only.whole_destination
    assert carried.only.results[0].status in ("4.7.5", "4.7.4")
    assert not any("MAIL" in line for visit in server.visits for line in visit.lines)
    if context is not None:
        assert "certificate" in carried.words[0]


async def test_the_next_server_may_have_what_the_first_lacks(trust: Trust) -> None:
    world = World(tls=trust.client)
    async with MailServer(*OFFERS, tls=trust.stranger) as bad, MailServer(*OFFERS, tls=trust.right) as good:
        way = Way((bad.place(), good.place()), tls=TlsPolicy.REQUIRED)
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
        way = Way((server.place(None),), tls=TlsPolicy.REQUIRED)
        carried = await world.carry(world.entry(), way=way)
        await world.close()
    assert carried.only.tls == "TLSv1.3 verified" and carried.only.host is None


async def test_a_name_that_no_certificate_can_hold_is_broken_tls(trust: Trust) -> None:
    world = World(tls=trust.client)
    async with MailServer(*OFFERS, tls=trust.right) as server:
        way = Way((Server("x" * 70 + ".test", server.place().address, server.port),))
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
    monkeypatch.setattr("waypost.transport.tls_client._MOST_BROKEN", 3)
    client = TlsClient(clock=lambda: 0.0)
    servers = [Server(None, ip_address(f"192.0.2.{number}"), 25) for number in range(5)]
    for server in servers:
        client.remember_broken(server)
    assert [client.is_broken(server) for server in servers] == [False, False, True, True, True]


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
