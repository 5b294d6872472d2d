"""Logging in at a smart host: over TLS only, by SCRAM where it can be, the password itself only to the right host."""

import ssl
from collections.abc import Callable

import pytest
import trustme
from scramp import ScramException, ScramMechanism
from tests.transport.mail_server import MailServer, plain_login
from tests.transport.relay_world import World

from waypost.config.settings import TlsPolicy
from waypost.protocol.sasl.end_point import server_end_point
from waypost.protocol.x509 import first_certificate
from waypost.queue.carrier import Fate
from waypost.transport.next_hops import NextHops
from waypost.transport.tls_client import TlsClient

PLAIN = ("PIPELINING", "STARTTLS", "AUTH PLAIN LOGIN")
SCRAM = ("PIPELINING", "STARTTLS", "AUTH PLAIN SCRAM-SHA-256 SCRAM-SHA-256-PLUS")


class Pki:
    """A trusted authority, its certificate for mx.test, and one of a stranger."""

    def __init__(self) -> None:
        ours = trustme.CA()
        self.trusted = self._context(ours)
        self.stranger = self._context(trustme.CA())
        self._verified = ssl.create_default_context()
        ours.configure_trust(self._verified)

    def _context(self, authority: trustme.CA) -> ssl.SSLContext:
        leaf = authority.issue_cert("mx.test")
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        leaf.configure_cert(context)
        binding = server_end_point(first_certificate(leaf.cert_chain_pems[0].bytes()))
        assert binding is not None
        self.bindings = {**getattr(self, "bindings", {}), id(context): binding}
        return context

    def client(self) -> TlsClient:
        return TlsClient(verified=self._verified)


@pytest.fixture(scope="module")
def pki() -> Pki:
    return Pki()


def way(server: MailServer, password: str = "secret", tls: TlsPolicy = TlsPolicy.OPPORTUNISTIC) -> NextHops:
    return NextHops((server.place(),), tls=tls, username="alice", password=password)


def scram(binding: bytes) -> Callable[[str], Callable[[bytes], bytes | str | None]]:
    """Somebody else's SCRAM, for one user."""

    def begin(name: str) -> Callable[[bytes], bytes | str | None]:
        mechanism = ScramMechanism(name)
        info = mechanism.make_auth_info("secret", iteration_count=4096)
        server = mechanism.make_server(
            lambda user: info, channel_binding=("tls-server-end-point", binding) if name.endswith("PLUS") else None
        )
        steps = iter(["first", "final", "end"])

        def exchange(response: bytes) -> bytes | str | None:
            try:
                match next(steps):
                    case "first":
                        server.set_client_first(response.decode())
                        return str(server.get_server_first()).encode()
                    case "final":
                        server.set_client_final(response.decode())
                        return str(server.get_server_final()).encode()
            except ScramException:
                return "535 5.7.8 wrong"
            return "235 2.7.0 welcome"

        return exchange

    return begin


@pytest.mark.parametrize("policy", [TlsPolicy.OPPORTUNISTIC, TlsPolicy.REQUIRED, TlsPolicy.IMPLICIT])
async def test_a_password_goes_to_a_server_with_a_trusted_certificate(pki: Pki, policy: TlsPolicy) -> None:
    world = World(tls=pki.client())
    async with MailServer(
        *PLAIN, tls=pki.trusted, implicit=policy is TlsPolicy.IMPLICIT, AUTH=plain_login("alice", "secret")
    ) as server:
        carried = await world.carry(world.entry(), world.entry(), way=way(server, tls=policy))
        await world.close()
    assert carried.fates == [Fate.RELAYED] * 2
    assert {result.tls for result in carried.results} == {"TLSv1.3 verified"}
    assert sum(line.startswith("AUTH") for visit in server.visits for line in visit.lines) == len(server.visits)


async def test_no_password_is_shown_to_a_server_with_any_certificate(pki: Pki) -> None:
    world = World(tls=pki.client())
    async with MailServer(*PLAIN, tls=pki.stranger, AUTH=plain_login("alice", "secret")) as server:
        carried = await world.carry(world.entry(), way=way(server))
        await world.close()
    assert carried.fates == [Fate.DEFERRED] and carried.failure
    assert "shown only to a server with a trusted certificate" in carried.words[0]
    assert not any(line.startswith("AUTH") for visit in server.visits for line in visit.lines)


@pytest.mark.parametrize("offers", [("PIPELINING", "AUTH PLAIN"), ("PIPELINING", "STARTTLS", "AUTH PLAIN")])
@pytest.mark.parametrize("policy", [TlsPolicy.OPPORTUNISTIC, TlsPolicy.NONE])
async def test_nobody_logs_in_without_tls(pki: Pki, offers: tuple[str, ...], policy: TlsPolicy) -> None:
    world = World(tls=pki.client())
    async with MailServer(*offers, AUTH=plain_login("alice", "secret"), STARTTLS="454 4.7.0 no") as server:
        carried = await world.carry(world.entry(), way=way(server, tls=policy))
        await world.close()
    assert carried.fates == [Fate.DEFERRED]
    assert not any(line.startswith(("AUTH", "MAIL")) for visit in server.visits for line in visit.lines)


@pytest.mark.parametrize("certificate", ["trusted", "stranger"])
@pytest.mark.parametrize("mechanisms", ["SCRAM-SHA-256", "SCRAM-SHA-256 SCRAM-SHA-256-PLUS"])
async def test_scram_proves_both_sides_with_any_certificate(pki: Pki, certificate: str, mechanisms: str) -> None:
    context = getattr(pki, certificate)
    world = World(tls=pki.client())
    server = MailServer("PIPELINING", "STARTTLS", f"AUTH PLAIN {mechanisms}", tls=context)
    server.login = scram(pki.bindings[id(context)])
    async with server:
        carried = await world.carry(world.entry(), way=way(server))
        await world.close()
    assert carried.fates == [Fate.RELAYED]
    expected = "AUTH SCRAM-SHA-256-PLUS " if "PLUS" in mechanisms else "AUTH SCRAM-SHA-256 "
    assert any(line.startswith(expected) for line in server.visits[-1].lines)
    assert carried.only.tls == f"TLSv1.3 {'verified' if certificate == 'trusted' else 'unverified'}"


async def test_somebody_in_the_middle_is_noticed_by_the_channel_binding(pki: Pki) -> None:
    world = World(tls=pki.client())
    server = MailServer(*SCRAM, tls=pki.stranger)
    server.login = scram(pki.bindings[id(pki.trusted)])  # the login is passed on to the right server
    async with server:
        carried = await world.carry(world.entry(), way=way(server))
        await world.close()
    assert carried.fates == [Fate.DEFERRED]
    assert not any(line.startswith("MAIL") for visit in server.visits for line in visit.lines)


async def test_a_server_that_proves_nothing_is_not_believed(pki: Pki) -> None:
    world = World(tls=pki.client())
    async with MailServer(*SCRAM, tls=pki.trusted, AUTH="235 2.7.0 welcome") as server:
        carried = await world.carry(world.entry(), way=way(server))
        await world.close()
    assert carried.fates == [Fate.DEFERRED]
    assert not server.taken


async def test_a_refused_login_keeps_the_mail_and_is_loud(pki: Pki, caplog: pytest.LogCaptureFixture) -> None:
    world = World(tls=pki.client())
    async with MailServer(*PLAIN, tls=pki.trusted, AUTH="535 5.7.8 wrong password") as server:
        carried = await world.carry(world.entry(), way=way(server, "wrong"))
        await world.close()
    assert carried.fates == [Fate.DEFERRED] and carried.failure
    [words] = carried.words
    assert words.startswith("(this host's login at mx.test 127.0.0.1:") and "as alice (route.username)" in words
    assert "535 5.7.8 wrong password" in words, "queue list and trace tell it, not the log alone"
    assert carried.only.tls == "TLSv1.3 verified", "the trace must not say that a password went in plain text"
    assert carried.only.results[0].status == "4.7.8"
    [record] = [one for one in caplog.records if one.levelname == "ERROR"]
    assert record.message == "the login at a smart host failed"
    assert "wrong" not in str(record.fields["user"]) and "d3Jvbmc" not in str(record.fields)  # type: ignore[attr-defined]


async def test_a_server_that_offers_no_known_mechanism_gets_nothing(pki: Pki) -> None:
    world = World(tls=pki.client())
    async with MailServer("STARTTLS", "AUTH GSSAPI", tls=pki.trusted) as server:
        carried = await world.carry(world.entry(), way=way(server))
        await world.close()
    assert carried.fates == [Fate.DEFERRED] and "it offers GSSAPI" in carried.words[0]
