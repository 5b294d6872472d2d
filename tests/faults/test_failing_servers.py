"""Servers that fail at every stage in every way: mail waits, nothing is taken for accepted that was not, no slot stays
taken, and no server can hold us for longer than one time-out.

What `tests/transport/test_relay_failures.py` has not: broken connections, replies without end, and the stages behind
TLS, in large contents, between messages, and of LMTP.
"""

import asyncio
import ssl

import pytest
import trustme
from tests.transport.mail_server import (
    CLOSE,
    ENDLESS,
    GARBAGE,
    RESET,
    STALL,
    TRICKLE,
    Answer,
    MailServer,
    Visit,
)
from tests.transport.relay_world import Carried, World

from waypost.config.settings import TlsPolicy
from waypost.queue.carrier import Fate
from waypost.transport.next_hops import NextHops
from waypost.transport.tls_client import TlsClient
from waypost.transport.wire import Timeouts

OFFERS = ("PIPELINING", "8BITMIME")
NEW_FAULTS = [RESET, ENDLESS, TRICKLE]
ALL_FAULTS = [STALL, CLOSE, GARBAGE, "421 4.3.2 come back later", *NEW_FAULTS]
IMPATIENT = Timeouts(connect=5.0, command=0.3, data=0.3, handshake=0.5, farewell=0.3)
LARGE = b"Subject: large\r\n\r\n" + b"How do you do, and how is your garden?\r\n" * 200_000


async def relay(server: MailServer, *recipients: str, way: NextHops | None = None, **options: object) -> Carried:
    """Relay one message, and check that everything was given back."""
    content = options.pop("content", None)
    world = World(timeouts=IMPATIENT, **options)
    entry = world.entry(*recipients, content=content) if content else world.entry(*recipients)  # type: ignore[arg-type]
    async with asyncio.timeout(20):
        carried = await world.carry(entry, way=way or server.way())
        await world.close()
    return carried


@pytest.mark.parametrize("fault", NEW_FAULTS)
@pytest.mark.parametrize("stage", ["GREETING", "EHLO", "STARTTLS", "MAIL", "RCPT", "DATA", "CONTENT"])
async def test_a_server_that_breaks_off_or_never_ends_defers_the_message(stage: str, fault: str) -> None:
    offers = (*OFFERS, "STARTTLS") if stage == "STARTTLS" else OFFERS
    async with MailServer(*offers, **{stage: fault}) as server:
        carried = await relay(server, "a@server.test", "b@server.test")
    assert carried.fates == [Fate.DEFERRED] * 2
    assert all(one.status.startswith("4.") for one in carried.only.results)
    assert not server.taken


@pytest.mark.parametrize("fault", ALL_FAULTS)
async def test_a_server_that_fails_behind_tls_is_left(fault: str) -> None:
    def hello(visit: Visit, line: str) -> str:
        return fault if visit.tls else "250-mx.test\r\n250 STARTTLS"

    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    trustme.CA().issue_cert("mx.test").configure_cert(context)
    async with MailServer(tls=context, EHLO=hello) as server:
        carried = await relay(server)
    assert carried.fates == [Fate.DEFERRED] and carried.failure
    assert all(visit.tls for visit in server.visits), "one such failure is an accident: nothing is said in plain text"


@pytest.mark.parametrize("fault", ALL_FAULTS)
async def test_a_server_that_fails_at_the_login_gets_no_mail(fault: str) -> None:
    authority = trustme.CA()
    context, verified = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER), ssl.create_default_context()
    authority.issue_cert("mx.test").configure_cert(context)
    authority.configure_trust(verified)
    async with MailServer(*OFFERS, "STARTTLS", "AUTH PLAIN", tls=context, AUTH=fault) as server:
        way = NextHops((server.place(),), tls=TlsPolicy.REQUIRED, username="alice", password="secret")
        carried = await relay(server, way=way, tls=TlsClient(verified=verified))
    assert carried.fates == [Fate.DEFERRED]
    assert not any(line.startswith("MAIL") for visit in server.visits for line in visit.lines)


@pytest.mark.parametrize("offers", [OFFERS, (*OFFERS, "CHUNKING")], ids=["DATA", "BDAT"])
@pytest.mark.parametrize("fault", ["stops reading", "closes", "resets", "refuses and closes"])
async def test_a_server_that_fails_in_the_middle_of_a_large_content(fault: str, offers: tuple[str, ...]) -> None:
    server = _Middle(fault, *offers)
    async with server:
        carried = await relay(server, content=LARGE, stream_above=65536)
    if fault.startswith("refuses") and carried.fates == [Fate.FAILED]:  # unless the break took its words along
        assert carried.words == ["552 5.3.4 too large"]
    else:
        assert carried.fates == [Fate.DEFERRED]


class _Middle(MailServer):
    """Fails when it has read some of a content."""

    def __init__(self, fault: str, *offers: str) -> None:
        super().__init__(*offers)
        self._fault = fault

    async def _accepted(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        try:
            writer.write(b"220 mx.test\r\n")
            while not (line := await reader.readuntil(b"\r\n")).startswith((b"DATA", b"BDAT")):
                if line.startswith(b"EHLO"):
                    writer.write(b"".join(b"250-%s\r\n" % offer.encode() for offer in self.offers) + b"250 HELP\r\n")
                else:
                    writer.write(b"250 2.0.0 ok\r\n")
            writer.write(b"354 go\r\n" if line.startswith(b"DATA") else b"")
            await reader.readexactly(100_000)
            if self._fault == "stops reading":
                writer.transport.pause_reading()  # type: ignore[attr-defined]
                await asyncio.Event().wait()
            if self._fault.startswith("refuses"):
                writer.write(b"552 5.3.4 too large\r\n")
                await writer.drain()
            if self._fault != "resets":
                writer.close()
        except (OSError, EOFError, asyncio.CancelledError):
            return
        finally:
            if self._fault in ("resets", "stops reading"):
                writer.transport.abort()
            self._tasks.discard(task)


@pytest.mark.parametrize("fault", ALL_FAULTS)
async def test_a_server_that_fails_between_two_messages_costs_no_message(fault: str) -> None:
    """At RSET, after a message whose recipients were all refused."""
    server = MailServer("8BITMIME", RCPT=lambda _, line: "550 5.1.1 no" if "eve" in line else "250 ok")
    server.answers["RSET"] = lambda visit, line: fault if visit.number == 0 else "250 ok"
    world = World(timeouts=IMPATIENT, max_connections_per_destination=1)
    async with server, asyncio.timeout(20):
        carried = await world.carry(world.entry("eve@server.test"), world.entry("bob@server.test"), way=server.way())
        await world.close()
    fates = {str(one.recipient.address): one.fate for result in carried.results for one in result.results}
    assert fates["eve@server.test"] is Fate.FAILED
    assert fates["bob@server.test"] in (Fate.RELAYED, Fate.DEFERRED)
    assert len(server.taken) == (fates["bob@server.test"] is Fate.RELAYED)


@pytest.mark.parametrize("fault", ALL_FAULTS)
async def test_a_server_that_fails_at_the_farewell_has_taken_the_message_all_the_same(fault: str) -> None:
    async with MailServer(*OFFERS, QUIT=fault) as server:
        carried = await relay(server, idle=0.0)
    assert carried.fates == [Fate.RELAYED] and len(server.taken) == 1


@pytest.mark.parametrize("fault", ALL_FAULTS)
async def test_lmtp_recipients_that_had_their_answer_keep_it(fault: str) -> None:
    def answer(visit: Visit, line: str) -> str:
        return "250 2.1.5 taken" if line.startswith("a@") else fault

    offers: dict[str, Answer] = {"CONTENT": answer}
    async with MailServer(*OFFERS, lmtp=True, **offers) as server:  # type: ignore[arg-type]
        carried = await relay(server, "a@server.test", "b@server.test", "c@server.test")
    assert carried.fates == [Fate.RELAYED, Fate.DEFERRED, Fate.DEFERRED]


async def test_answers_that_nobody_asked_for_are_no_answers() -> None:
    """A server that says yes to everything before it is asked has accepted nothing."""
    async with MailServer(*OFFERS, EHLO="250 mx.test\r\n250 ok\r\n250 ok\r\n354 go\r\n250 taken") as server:
        carried = await relay(server)
    assert carried.fates == [Fate.DEFERRED] and not server.taken
