"""TLS that fails, both ways: whoever can't shake hands costs one line in the log, and mail goes where policy lets it.

Coming in: by STARTTLS, STLS, or from the first octet. Going out: opportunistic, required, or from the first octet.
"""

import asyncio
import contextlib
import signal
import smtplib
import ssl
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import trustme
from tests.faults.callers import Caller
from tests.faults.conftest import OpenOffice
from tests.faults.ledger import Ledger
from tests.faults.office import BOB
from tests.service.running import HOSTNAME, PATIENCE, Service, wait_for
from tests.transport.mail_server import MailServer
from tests.transport.relay_world import World

from waypost.config.settings import TlsPolicy
from waypost.queue.carrier import Fate
from waypost.service.machine.certificates import self_signed
from waypost.transport.tls_client import TlsClient
from waypost.transport.wire import Timeouts

HANDSHAKE = 0.3
"""Seconds that a handshake may take here."""


def client_hello(version: int, *suites: int) -> bytes:
    """Return the smallest ClientHello (RFC 5246 7.4.1.2) of a client that knows one version and some ciphers."""
    octets = b"".join(suite.to_bytes(2) for suite in suites)
    hello = version.to_bytes(2) + bytes(32) + b"\0" + len(octets).to_bytes(2) + octets + b"\x01\0"
    message = b"\x01" + len(hello).to_bytes(3) + hello
    return b"\x16\x03\x01" + len(message).to_bytes(2) + message


RC4_SHA, ECDHE_AES = 0x0005, 0xC02F
HELLO = client_hello(0x0303, ECDHE_AES)


# -- coming in -------------------------------------------------------------------------------------------------

DOORS = {"smtp": "STARTTLS", "submission": "STARTTLS", "submissions": "", "pop3": "STLS", "pop3s": ""}
RAW = {
    "no common version": client_hello(0x0301, ECDHE_AES),
    "no common cipher": client_hello(0x0303, RC4_SHA),
    "plain text": b"EHLO caller.there.test\r\nNOOP\r\n",
    "rubbish": bytes(range(256)) * 8,
    "a record that is too long": b"\x16\x03\x01\xff\xff" + bytes(70_000),
    "an alert": b"\x15\x03\x01\x00\x02\x02\x28",
    "half a handshake": HELLO[:20],
    "a handshake that stops": HELLO,
}


@pytest.mark.parametrize("door", DOORS)
async def test_a_client_that_cannot_shake_hands_gives_its_place_back_and_others_are_served(
    office: OpenOffice, ledger: Ledger, caplog: pytest.LogCaptureFixture, door: str
) -> None:
    house = await office(dispatch=False)
    house.timing = house.timing.__class__(session=300.0, handshake=HANDSHAKE, linger=HANDSHAKE)
    caplog.set_level("INFO", logger="waypost.service")

    async def meet() -> Caller:
        caller = await Caller.dial(house.port(door))
        if DOORS[door]:
            await caller.line()
            if DOORS[door] == "STARTTLS":
                await caller.say("EHLO caller.there.test")
            await caller.ask(DOORS[door])
        return caller

    for octets in RAW.values():
        for end in ("waits", "closes", "resets"):
            caller = await meet()
            with contextlib.suppress(ConnectionError):
                await caller.send(octets)
            if end == "waits":
                await caller.rest()
            caller.reset() if end == "resets" else caller.hang_up()
    await house.empty()
    assert [record.message for record in caplog.records if record.levelname in ("WARNING", "ERROR")] == []
    failures = [record.fields for record in caplog.records if "failed" in record.message]  # type: ignore[attr-defined]
    assert all(fields["reason"] for fields in failures) and len(failures) >= len(RAW)
    caller = await Caller.smtp(house.port("smtp"))
    assert (await ledger.post(caller, "eve@else.test", BOB)).startswith("250")
    await ledger.audit(house)


@pytest.mark.parametrize("door", ["smtp", "submissions", "pop3s"])
async def test_a_client_that_does_not_trust_our_certificate_goes_in_peace(
    office: OpenOffice, caplog: pytest.LogCaptureFixture, door: str
) -> None:
    """By TLS 1.3 our side of the handshake is over when the refusal comes."""
    house = await office(dispatch=False)
    strict = ssl.create_default_context()
    for _ in range(5):
        if DOORS[door]:
            caller = await Caller.smtp(house.port(door))
            await caller.ask(DOORS[door])
            with contextlib.suppress(ssl.SSLError, ConnectionError):
                await caller.start_tls(strict)
            caller.hang_up()
        else:
            with contextlib.suppress(ssl.SSLError, ConnectionError):
                await Caller.dial(house.port(door), tls=strict)
    await house.empty()
    assert [record.message for record in caplog.records if record.levelname in ("WARNING", "ERROR")] == []


# -- going out -------------------------------------------------------------------------------------------------

ANSWERS = {
    "no common version": b"\x15\x03\x01\x00\x02\x02\x46",
    "no common cipher": b"\x15\x03\x03\x00\x02\x02\x28",
    "plain text": b"500 5.5.1 what?\r\n",
    "rubbish": bytes(range(256)),
    "half an answer": b"\x16\x03\x03\x00\x7a\x02\x00\x00\x76\x03\x03" + bytes(20),
    "nothing": b"",
    "silence": None,
}


class _NoTls(MailServer):
    """Offers STARTTLS, and answers a ClientHello with something else; without TLS it takes mail."""

    def __init__(self, answer: bytes | None, *, implicit: bool) -> None:
        super().__init__("PIPELINING", "STARTTLS")
        self._answer = answer
        self._at_once = implicit
        self.tried = 0

    async def _accepted(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self.tried and not self._at_once:
            await super()._accepted(reader, writer)
            return
        self.tried += 1
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        try:
            if not self._at_once:
                writer.write(b"220 mx.test\r\n")
                await reader.readuntil(b"\r\n")
                writer.write(b"250-mx.test\r\n250 STARTTLS\r\n")
                await reader.readuntil(b"\r\n")
                writer.write(b"220 go\r\n")
            await reader.readexactly(5)
            if self._answer is None:
                await asyncio.Event().wait()
            else:
                writer.write(self._answer)
                await writer.drain()
        except (OSError, EOFError, asyncio.CancelledError):
            return
        finally:
            writer.close()
            self._tasks.discard(task)


@pytest.mark.parametrize("answer", ANSWERS)
@pytest.mark.parametrize("policy", [TlsPolicy.OPPORTUNISTIC, TlsPolicy.REQUIRED, TlsPolicy.IMPLICIT])
async def test_a_server_that_cannot_shake_hands_gets_plain_text_or_nothing(policy: TlsPolicy, answer: str) -> None:
    world = World(timeouts=Timeouts(command=2.0, data=2.0, handshake=HANDSHAKE, farewell=HANDSHAKE))
    async with _NoTls(ANSWERS[answer], implicit=policy is TlsPolicy.IMPLICIT) as server, asyncio.timeout(20):
        carried = await world.carry(world.entry(), way=server.way(policy))
        await world.close()
    if policy is TlsPolicy.OPPORTUNISTIC:
        assert carried.fates == [Fate.RELAYED] and carried.only.tls is None
    else:
        assert carried.fates == [Fate.DEFERRED] and carried.failure and not server.taken
        assert carried.only.results[0].status == "4.7.5"
        assert "TLS did not start" in carried.words[0]


NOW = datetime.now(UTC)
CERTIFICATES = {
    "expired": {"not_before": NOW - timedelta(days=20), "not_after": NOW - timedelta(days=10)},
    "not yet valid": {"not_before": NOW + timedelta(days=10), "not_after": NOW + timedelta(days=20)},
}


@pytest.mark.parametrize("policy", [TlsPolicy.OPPORTUNISTIC, TlsPolicy.REQUIRED, TlsPolicy.IMPLICIT])
@pytest.mark.parametrize("certificate", [*CERTIFICATES, "self-signed"])
async def test_a_certificate_that_does_not_count_keeps_mail_only_where_it_must_count(
    tmp_path: Path, policy: TlsPolicy, certificate: str
) -> None:
    authority = trustme.CA()
    verified = ssl.create_default_context()
    authority.configure_trust(verified)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    if certificate in CERTIFICATES:
        authority.issue_cert("mx.test", **CERTIFICATES[certificate]).configure_cert(context)
    else:
        pem, key = self_signed(["mx.test"], NOW)
        (tmp_path / "pem").write_bytes(pem + key)
        context.load_cert_chain(tmp_path / "pem")
    world = World(tls=TlsClient(verified=verified))
    async with MailServer("STARTTLS", tls=context, implicit=policy is TlsPolicy.IMPLICIT) as server:
        carried = await world.carry(world.entry(), way=server.way(policy))
        await world.close()
    if policy is TlsPolicy.OPPORTUNISTIC:
        assert carried.fates == [Fate.RELAYED] and carried.only.tls == "TLSv1.3 unverified"
    else:
        assert carried.fates == [Fate.DEFERRED] and not server.taken
        assert carried.only.results[0].status == "4.7.5"
        assert "certificate is not trusted" in carried.words[0]


# -- certificate files -----------------------------------------------------------------------------------------


@pytest.fixture
def service(tmp_path: Path) -> Iterator[Service]:
    made = Service(tmp_path)
    made.configure(workers=1)
    yield made
    made.end()


def served(service: Service) -> str:
    """Return the certificate that is shown now."""
    client = smtplib.SMTP("127.0.0.1", service.port, local_hostname="client.test", timeout=PATIENCE)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    client.starttls(context=context)
    assert isinstance(client.sock, ssl.SSLSocket)
    octets = client.sock.getpeercert(binary_form=True)
    client.close()
    return ssl.DER_cert_to_PEM_cert(octets or b"").strip()


def test_certificate_files_that_are_broken_at_a_reload_change_nothing_until_they_are_whole(service: Service) -> None:
    service.start()
    first = (service.folder / "tls/cert.pem").read_text().strip()
    pem, key = service.folder / "tls/cert.pem", service.folder / "tls/key.pem"
    good = pem.read_bytes(), key.read_bytes()
    _, strange_key = self_signed([HOSTNAME], NOW)
    for broken in (
        lambda: pem.write_bytes(b"no certificate"),
        lambda: pem.write_bytes(good[0][: len(good[0]) // 2]),
        lambda: pem.unlink(),
        lambda: key.write_bytes(strange_key),
        lambda: key.write_bytes(b""),
    ):
        broken()
        service.signal(signal.SIGHUP)
        service.until("RELOADING=1")
        service.until("READY=1")
        assert served(service) == first
        pem.write_bytes(good[0])
        key.write_bytes(good[1])
    assert len(service.events("reload failed", 5)) == 5
    assert all("tls/" in event["problem"] for event in service.events("reload failed"))
    second = service.certificate().decode().strip()
    service.signal(signal.SIGHUP)
    service.until("RELOADING=1")
    service.until("READY=1")
    assert second != first
    wait_for(lambda: served(service) == second, "the old worker has stopped accepting")
