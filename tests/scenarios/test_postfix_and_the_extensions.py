"""What Postfix offers is used, and what it lacks is made good or said: two of them, one complete and one without."""

import asyncio
import contextlib
import smtplib
from collections.abc import Iterator
from email import message_from_bytes, policy
from email.message import EmailMessage
from typing import cast

import pytest
import pytest_asyncio
from tests.peers.postfix import Postfix
from tests.scenarios.clients import eventually, poll, trusting
from tests.scenarios.conftest import ALICE, ALICE_PASSWORD, World

from waypost.lab.host import Host

pytestmark = pytest.mark.asyncio(loop_scope="module")

ÄLICE = "älice@wonderland.test"
LACKS = "dsn, smtputf8, chunking, 8bitmime, etrn"


@contextlib.contextmanager
def started(world: World, name: str, number: int, settings: dict[str, str]) -> Iterator[Postfix]:
    postfix = Postfix(
        world.directory / name,
        hostname=f"mx.{name}",
        domain=name,
        address=world.address(number),
        mailboxes=("bob", "bärbel"),
        nameserver=world.nameserver,
        settings=settings,
    )
    postfix.start()
    yield postfix
    postfix.stop()


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def host(shared_world: World) -> Host:
    world = shared_world
    world.zone("wonderland.test", 11)
    world.zone("complete.test", 13)
    world.zone("lacking.test", 14)
    world.start_names()
    extra = f'\n[[listener]]\nprotocol = "lmtp"\naddress = "{world.address(11)}:24"\n'
    return await world.host("wonderland.test", 11, {ALICE: ALICE_PASSWORD, ÄLICE: ALICE_PASSWORD}, extra=extra)


@pytest.fixture(scope="module")
def complete(shared_world: World, host: Host) -> Iterator[Postfix]:
    settings = {
        "smtputf8_enable": "yes",
        "transport_maps": f"inline:{{{{ilse.test = lmtp:inet:[{host.address}]:24}}}}",
    }
    with started(shared_world, "complete.test", 13, settings) as postfix:
        yield postfix


@pytest.fixture(scope="module")
def lacking(shared_world: World, host: Host) -> Iterator[Postfix]:
    settings = {"smtputf8_enable": "no", "smtpd_discard_ehlo_keywords": LACKS}
    with started(shared_world, "lacking.test", 14, settings) as postfix:
        yield postfix


def submit(
    host: Host, recipient: str, content: bytes, *, mail: tuple[str, ...] = (), rcpt: tuple[str, ...] = ()
) -> str:
    """Submit as Alice, by DATA or, for binary content, by BDAT; return the trace id."""
    with smtplib.SMTP_SSL(
        host.address, 465, local_hostname="client.test", timeout=20, context=trusting(host)
    ) as session:
        session.login(ALICE, ALICE_PASSWORD)
        if "SMTPUTF8" in mail:
            session.command_encoding = "utf-8"
        assert session.mail(ALICE, mail)[0] == 250
        assert session.rcpt(recipient, rcpt)[0] == 250
        if "BODY=BINARYMIME" in mail:
            session.send(f"BDAT {len(content)} LAST\r\n".encode() + content)
            code, words = session.getreply()
        else:
            code, words = session.data(content)
        assert code == 250, words
        return words.decode().split()[-1]


def letter(recipient: str, body: str | bytes = "Dear Bob.\r\n", subject: str = "hello") -> bytes:
    octets = body if isinstance(body, bytes) else body.encode()
    head = f"From: {ALICE}\r\nTo: {recipient}\r\nSubject: {subject}\r\nMIME-Version: 1.0\r\n"
    return (
        head + "Content-Type: text/plain; charset=utf-8\r\nContent-Transfer-Encoding: 8bit\r\n\r\n"
    ).encode() + octets


def text_of(report: EmailMessage) -> str:
    """Return what people read of a report, as one line."""
    return " ".join(cast(EmailMessage, next(report.iter_parts())).get_content().split())


def sessions_of(host: Host, postfix: Postfix) -> list[str]:
    """Return what Postfix logged of the host's sessions that carried something, when they had ended."""
    lines = postfix.log().splitlines()
    return [line for line in lines if f"disconnect from unknown[{host.address}]" in line and " rcpt=" in line]


async def report(host: Host, person: str = ALICE) -> EmailMessage:
    [message] = await eventually(lambda: poll(host, person, ALICE_PASSWORD, delete=True))
    return cast(EmailMessage, message_from_bytes(message, policy=policy.SMTPUTF8))


async def test_a_report_of_success_is_made_by_whoever_delivers(host: Host, complete: Postfix) -> None:
    options = ("NOTIFY=SUCCESS", f"ORCPT=rfc822;{ALICE}")
    await asyncio.to_thread(
        submit, host, "bob@complete.test", letter("bob@complete.test"), mail=("RET=HDRS", "ENVID=42"), rcpt=options
    )
    message = await report(host)
    assert "MAILER-DAEMON@complete.test" in message["From"], "Postfix was asked and reports"
    text = message.as_string()
    assert "Action: delivered" in text and "Original-Envelope-Id: 42" in text and f"rfc822;{ALICE}" in text


async def test_postfix_says_itself_that_its_message_was_passed_on_to_us(host: Host, complete: Postfix) -> None:
    before = complete.messages("bob")
    with smtplib.SMTP(complete.address, 25, local_hostname="client.test", timeout=20) as session:
        session.sendmail(
            "bob@complete.test", [ALICE], letter(ALICE), mail_options=("ENVID=7",), rcpt_options=("NOTIFY=SUCCESS",)
        )
    await report(host)  # the letter itself
    [told] = await eventually(lambda: [new for new in complete.messages("bob") if new not in before])
    assert b"Action: relayed" in told and b"Original-Envelope-Id: 7" in told
    assert b"mx.wonderland.test" not in told.split(b"Reporting-MTA:")[1].split(b"\n")[0]


async def test_where_postfix_lacks_dsn_we_say_that_it_was_relayed(host: Host, lacking: Postfix) -> None:
    await asyncio.to_thread(
        submit, host, "bob@lacking.test", letter("bob@lacking.test"), rcpt=("NOTIFY=SUCCESS,FAILURE",)
    )
    message = await report(host)
    assert "Action: relayed" in message.as_string() and "does not tell us whether it arrives" in text_of(message)
    assert await eventually(lambda: lacking.messages("bob"))


async def test_mail_in_all_letters_goes_both_ways(host: Host, complete: Postfix) -> None:
    recipient = "bärbel@complete.test"
    content = letter(recipient, "Grüße\r\n", subject="Grüße")
    await asyncio.to_thread(submit, host, recipient, content, mail=("SMTPUTF8", "BODY=8BITMIME"))
    [arrived] = await eventually(lambda: complete.messages("bärbel"))
    assert "Subject: Grüße\n".encode() in arrived and "\n\nGrüße\n".encode() in arrived
    with smtplib.SMTP(complete.address, 25, local_hostname="client.test", timeout=20) as session:
        session.send_message(
            message_from_bytes(letter(ÄLICE, "Grüße zurück\r\n", subject="Grüße"), policy=policy.SMTPUTF8),
            "bärbel@complete.test",
            [ÄLICE],
        )
    message = await report(host, ÄLICE)
    assert "with UTF8SMTPS" in message["Received"] and "Grüße zurück" in message.get_content()


async def test_where_postfix_lacks_smtputf8_the_sender_is_told_what_helps(host: Host, lacking: Postfix) -> None:
    recipient = "bärbel@lacking.test"
    await asyncio.to_thread(submit, host, recipient, letter(recipient), mail=("SMTPUTF8",))
    message = await report(host)
    assert recipient in text_of(message)
    assert "ask the recipient for an address in plain letters" in text_of(message)
    assert "Status: 5.6.7" in message.as_string()

    content = letter("bob@lacking.test", subject="Grüße")
    await asyncio.to_thread(submit, host, "bob@lacking.test", content, mail=("SMTPUTF8",))
    assert "Status: 5.6.9" in (await report(host)).as_string()

    assert await delivered(host, lacking, letter("bob@lacking.test"), mail=("SMTPUTF8",)), "it was not needed"


async def delivered(host: Host, server: Postfix, content: bytes, *, mail: tuple[str, ...]) -> bytes:
    """Submit a message to Bob at a Postfix; return what arrived."""
    before = server.messages("bob")
    await asyncio.to_thread(submit, host, f"bob@{server.domain}", content, mail=mail)
    [arrived] = await eventually(lambda: [new for new in server.messages("bob") if new not in before])
    return arrived


async def test_chunks_go_by_what_the_next_server_offers(host: Host, complete: Postfix, lacking: Postfix) -> None:
    body = ".\r\n..\r\nchunk " * 30_000 + "\r\n"
    for server in (complete, lacking):
        arrived = await delivered(host, server, letter("bob", body), mail=("BODY=BINARYMIME",))
        assert arrived.endswith(("\n\n" + body.replace("\r\n", "\n")).encode())
    assert all(" bdat=" in line for line in await eventually(lambda: sessions_of(host, complete)))
    assert all(" data=" in line for line in await eventually(lambda: sessions_of(host, lacking)))


async def test_content_that_the_next_server_can_not_take_comes_back(host: Host, lacking: Postfix) -> None:
    for body_type, octets in (("8BITMIME", b"\xe4\r\n"), ("BINARYMIME", b"a\nb\0\r\n")):
        await asyncio.to_thread(
            submit, host, "bob@lacking.test", letter("bob@lacking.test", octets), mail=(f"BODY={body_type}",)
        )
        message = await report(host)
        assert "Status: 5.6.3" in message.as_string(), f"{body_type} can't go there"
        assert "What you can do: send it again in another form" in text_of(message)


async def test_postfix_delivers_by_lmtp(host: Host, complete: Postfix) -> None:
    """Postfix stands in front, as where an old server stays for filtering; each recipient has an answer."""
    await host.run("alias", "add", "ilse@wonderland.test", ALICE)
    settings = complete.config / "main.cf"
    settings.write_text(settings.read_text().replace("ilse.test", "wonderland.test"))
    await asyncio.to_thread(complete.reload)
    before = complete.messages("bob")
    with smtplib.SMTP(complete.address, 25, local_hostname="client.test", timeout=20) as session:
        session.sendmail(
            "bob@complete.test", ["ilse@wonderland.test", "nobody@wonderland.test"], letter("ilse@wonderland.test")
        )
    message = await report(host)
    assert "with LMTP" in message["Received"]
    [told] = await eventually(lambda: [new for new in complete.messages("bob") if new not in before])
    assert b"nobody@wonderland.test" in told and b"550 5.1.1" in told and b"<ilse@wonderland.test>: host" not in told
