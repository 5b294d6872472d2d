"""What looks like an end of DATA, sent on to Postfix and to Exim, which have ideas of their own of where a message
ends: each takes one message for each that was answered with 250, and no other (CVE-2023-51764, -51765 and -51766)."""

import asyncio
import smtplib
from collections.abc import Iterator

import pytest
import pytest_asyncio
from tests.intake.test_smuggling import ENDS, MENDED, REFUSED
from tests.peers.exim import Exim
from tests.peers.postfix import Postfix
from tests.scenarios.clients import eventually, trusting
from tests.scenarios.conftest import ALICE, ALICE_PASSWORD, World

from waypost.lab.host import Host

pytestmark = pytest.mark.asyncio(loop_scope="module")

SERVERS = {
    "postfix-bdat.test": 13,
    "postfix-data.test": 14,
    "exim-bdat.test": 15,
    "exim-data.test": 16,
}
"""The next servers, each with its address; by DATA goes what those get that do not offer CHUNKING."""

LAST = b"\n\nthe last line\n"


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def host(shared_world: World) -> Host:
    world = shared_world
    world.zone("wonderland.test", 11)
    for domain, number in SERVERS.items():
        world.zone(domain, number)
    world.start_names()
    host = await world.host("wonderland.test", 11, {ALICE: ALICE_PASSWORD})
    for domain in SERVERS:
        await host.run("alias", "add", f"to-{domain.removesuffix('.test')}@wonderland.test", f"bob@{domain}")
    return host


@pytest.fixture(scope="module", params=SERVERS)
def server(request: pytest.FixtureRequest, shared_world: World, host: Host) -> Iterator[Postfix | Exim]:
    domain, world = str(request.param), shared_world
    folder, address = world.directory / f"at-{domain}", world.address(SERVERS[domain])
    started: Postfix | Exim
    if domain.startswith("postfix"):
        lacking = {} if "bdat" in domain else {"smtpd_discard_ehlo_keywords": "chunking"}
        # Whatever it would refuse as smuggling, it takes: what it made of our octets is seen in the mailbox.
        lacking |= {"smtpd_forbid_bare_newline": "no", "smtpd_forbid_unauth_pipelining": "no"}
        started = Postfix(
            folder,
            hostname=f"mx.{domain}",
            domain=domain,
            address=address,
            mailboxes=("bob",),
            nameserver=world.nameserver,
            settings=lacking,
        )
    else:
        started = Exim(
            folder,
            hostname=f"mx.{domain}",
            domain=domain,
            address=address,
            mailboxes=("bob",),
            chunking="bdat" in domain,
        )
    started.start()
    yield started
    started.stop()


def content(recipient: str, number: int, end: bytes) -> bytes:
    """Return a letter of a device that ends lines with LF, with another end of DATA and a second transaction in it."""
    head = f"From: {ALICE}\nTo: {recipient}\nSubject: scan {number}\n\nhello".encode()
    return head + end + f"MAIL FROM:<{ALICE}>\nRCPT TO:<{recipient}>\nDATA\nSubject: smuggled".encode() + LAST


def submit(host: Host, recipient: str, octets: bytes, *, chunked: bool) -> int:
    """Submit octets in which lines may end as they like; only DATA's own end is added. Returns the reply's code."""
    with smtplib.SMTP_SSL(host.address, 465, timeout=20, context=trusting(host)) as session:
        session.login(ALICE, ALICE_PASSWORD)
        return _transaction(session, recipient, octets, chunked=chunked)


def bring(host: Host, domain: str, octets: bytes, *, chunked: bool) -> int:
    """Bring octets to port 25 as another server does, for an alias that leads on."""
    with smtplib.SMTP(host.address, 25, local_hostname="mx.far.test", timeout=20) as session:
        session.ehlo()
        alias = f"to-{domain.removesuffix('.test')}@wonderland.test"
        return _transaction(session, alias, octets, chunked=chunked)


def _transaction(session: smtplib.SMTP, recipient: str, octets: bytes, *, chunked: bool) -> int:
    assert session.mail(ALICE)[0] == 250 and session.rcpt(recipient)[0] == 250
    if chunked:
        session.send(f"BDAT {len(octets)} LAST\r\n".encode() + octets)
    else:
        assert session.docmd("DATA")[0] == 354
        session.send(octets + b"\r\n.\r\n")
    code, _ = session.getreply()
    assert session.noop()[0] == 250, "nothing of the content was read as a command"
    return code


async def test_each_letter_with_another_end_in_it_arrives_once_and_whole(host: Host, server: Postfix | Exim) -> None:
    """By DATA and BDAT behind a login, and by BDAT from another server: 250 is one message there, 550 none."""
    domain = server.domain
    said: list[int] = []
    for number, end in enumerate(ENDS):
        octets = content(f"bob@{domain}", number, end)
        for chunked in (False, True):
            said.append(await asyncio.to_thread(submit, host, f"bob@{domain}", octets, chunked=chunked))
        said.append(await asyncio.to_thread(bring, host, domain, octets, chunked=True))
        assert await asyncio.to_thread(bring, host, domain, octets, chunked=False) == 550, "DATA of others is strict"
    assert (said.count(250), said.count(550)) == (3 * len(MENDED), 3 * len(REFUSED))
    # A last letter goes the same road: whatever was cut off of those before it would be there by then.
    await asyncio.to_thread(submit, host, f"bob@{domain}", content(f"bob@{domain}", 99, b"\n"), chunked=False)
    wanted = said.count(250) + 1
    arrived = await eventually(lambda: found if len(found := server.messages("bob")) >= wanted else None)
    assert len(arrived) == wanted, server.log()
    for message in arrived:
        header, text = message.split(b"\n\n", 1)
        assert b"\nSubject: scan" in header and b"smuggled" not in header
        assert text.startswith(b"hello\n") and text.rstrip(b"\n").endswith(b"Subject: smuggled" + LAST.rstrip(b"\n"))
