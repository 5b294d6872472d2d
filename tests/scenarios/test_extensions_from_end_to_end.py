"""What a sender may ask for by the extensions of SMTP, from Alice's program over two hosts to Bob's mailbox."""

import asyncio
import base64
import poplib
import re
import smtplib
import time
from email import message_from_bytes, policy

import pytest
import pytest_asyncio
from tests.scenarios.clients import eventually, poll, run, trusting
from tests.scenarios.conftest import ALICE, ALICE_PASSWORD, BOB, BOB_PASSWORD, Town, World, change

from waypost.lab.host import Host

pytestmark = pytest.mark.asyncio(loop_scope="module")

BÄRBEL = "bärbel@builder.test"
ÄLICE = "älice@wonderland.test"
BALANCER = 99


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def town(shared_world: World) -> Town:
    """Both hosts; Bob's takes three recipients in a transaction, and one connection at a time is made to it."""
    world = shared_world
    world.zone("wonderland.test", 11)
    world.zone("builder.test", 12)
    world.zone("silent.test", 13)
    world.start_names()
    doors = (
        f'\n[[listener]]\nprotocol = "lmtp"\naddress = "{world.address(12)}:24"\n'
        f'\n[[listener]]\nprotocol = "smtp"\naddress = "{world.address(12)}:2525"\n'
        f'proxy_protocol = ["{world.address(BALANCER)}/32"]\n\n[limits]\nrecipients = 3\n'
    )
    wonderland, builder = await asyncio.gather(
        world.host(
            "wonderland.test",
            11,
            {ALICE: ALICE_PASSWORD, ÄLICE: ALICE_PASSWORD},
            changes={"[outbound]\n": "[outbound]\nmax_connections_per_destination = 1\n"},
        ),
        world.host("builder.test", 12, {BOB: BOB_PASSWORD, BÄRBEL: BOB_PASSWORD}, extra=doors),
    )
    return Town(world, wonderland, builder)


class Submission:
    """Alice's connection to her host, on which she says exactly what she wants."""

    def __init__(self, host: Host, user: str = ALICE) -> None:
        self._session = smtplib.SMTP_SSL(
            host.address, 465, local_hostname="client.test", timeout=20, context=trusting(host)
        )
        self._session.ehlo()
        self.offers = self._session.esmtp_features
        login = base64.b64encode(f"\0{user}\0{ALICE_PASSWORD}".encode())  # smtplib's own is for ASCII only
        self.say(f"AUTH PLAIN {login.decode()}", wants=235)

    def __enter__(self) -> "Submission":
        return self

    def __exit__(self, *_: object) -> None:
        self._session.close()

    def say(self, line: str, *, wants: int = 250) -> str:
        """Send a line, and expect a code."""
        self._session.send(line.encode() + b"\r\n")
        code, words = self._session.getreply()
        assert code == wants, f"{line}: {code} {words!r}"
        return words.decode()

    def data(self, content: bytes) -> str:
        """Send a message behind DATA; return its trace id."""
        code, words = self._session.data(content)
        assert code == 250, words
        return words.decode().split()[-1]

    def bdat(self, *chunks: bytes) -> str:
        """Send a message in chunks of BDAT; return its trace id."""
        words = b""
        for number, chunk in enumerate(chunks):
            last = " LAST" if number == len(chunks) - 1 else ""
            self._session.send(f"BDAT {len(chunk)}{last}\r\n".encode() + chunk)
            code, words = self._session.getreply()
            assert code == 250, words
        return words.decode().split()[-1]


def read_raw(host: Host, person: str, password: str) -> list[bytes]:
    """Return all messages as they stand on the wire, with UTF8 (RFC 6856), and delete them."""
    box = poplib.POP3_SSL(host.address, 995, timeout=20, context=trusting(host))
    try:
        box.utf8()
        box.encoding = "UTF-8"
        box.user(person)
        box.pass_(password)
        messages = []
        for number in range(1, box.stat()[0] + 1):
            box._putcmd(f"RETR {number}")  # type: ignore[attr-defined]
            assert box.file.readline().startswith(b"+OK")  # type: ignore[attr-defined]
            octets = b""
            while not octets.endswith(b"\r\n.\r\n"):
                octets += box.file.read1()  # type: ignore[attr-defined]
            messages.append(octets[:-3].replace(b"\r\n..", b"\r\n."))
            box.dele(number)
        return messages
    finally:
        box.quit()


async def one_message(host: Host, person: str, password: str) -> bytes:
    """Wait for a message, and take it out of the mailbox."""
    [message] = await eventually(lambda: read_raw(host, person, password))
    return message


async def report_of(host: Host, person: str = ALICE) -> tuple[str, dict[str, str], str]:
    """Wait for a report; return its text, its machine-readable fields, and the type of what it returns."""
    message = message_from_bytes(await one_message(host, person, ALICE_PASSWORD), policy=policy.SMTPUTF8)
    text, machine, original = message.iter_parts()
    fields = dict(re.findall(r"^([A-Za-z-]+): *(.*?)\r?$", machine.as_bytes().decode(), re.MULTILINE))
    return text.get_content(), {name.lower(): value for name, value in fields.items()}, original.get_content_type()


async def test_mail_in_all_letters_goes_from_älice_to_bärbel_and_back(town: Town) -> None:
    content = f"From: Älice <{ÄLICE}>\r\nTo: {BÄRBEL}\r\nSubject: Grüße, 你好\r\n\r\nLiebe Bärbel.\r\n".encode()
    with Submission(town.wonderland, ÄLICE) as alice:
        assert "smtputf8" in alice.offers
        alice.say(f"MAIL FROM:<{ÄLICE}> SMTPUTF8 BODY=8BITMIME")
        alice.say(f"RCPT TO:<{BÄRBEL}>")
        alice.data(content)
        alice.say(f"MAIL FROM:<{ÄLICE}> SMTPUTF8 BODY=8BITMIME")
        alice.say("RCPT TO:<böb@builder.test>")
        alice.data(content)
    message = await one_message(town.builder, BÄRBEL, BOB_PASSWORD)
    assert message.endswith(content.split(b"\r\n\r\n", 1)[1]) and "Subject: Grüße, 你好\r\n".encode() in message
    assert f"Return-Path: <{ÄLICE}>".encode() in message and b"with UTF8SMTPS" in message
    text, fields, original = await report_of(town.wonderland, ÄLICE)
    assert "böb@builder.test" in text and "Grüße" in text
    assert fields["final-recipient"].lower().replace(" ", "") == "utf-8;böb@builder.test", "RFC 6533 section 4.2"
    assert original == "message/global"


async def test_binary_content_in_chunks_arrives_whole_and_is_read_as_lines(town: Town) -> None:
    head = f"From: {ALICE}\r\nTo: {BOB}\r\nContent-Type: application/octet-stream\r\n\r\n".encode()
    body = bytes(range(256)) * 300 + b"\n.\n\r.\r\r\n.\r\n"
    with Submission(town.wonderland) as alice:
        assert {"chunking", "binarymime"} <= set(alice.offers)
        alice.say(f"MAIL FROM:<{ALICE}> BODY=BINARYMIME")
        alice.say(f"RCPT TO:<{BOB}>")
        trace = alice.bdat(head + body[:1000], body[1000:60000], body[60000:])
    message = await one_message(town.builder, BOB, BOB_PASSWORD)
    lines = re.sub(rb"\r\n|\r|\n", b"\r\n", body.replace(b"\0", b""))  # POP3 has no binary content (RFC 6856 2.1)
    assert message.rstrip(b"\r\n").endswith(lines.rstrip(b"\r\n")), "all of it, also what looks like an end"
    events = (await town.wonderland.json("trace", trace))["events"]
    assert events[-1]["station"] == "relayed"


async def test_eight_bit_content_stays_as_it_is(town: Town) -> None:
    with Submission(town.wonderland) as alice:
        assert "8bitmime" in alice.offers
        alice.say(f"MAIL FROM:<{ALICE}> BODY=8BITMIME")
        alice.say(f"RCPT TO:<{BOB}>")
        alice.data(f"From: {ALICE}\r\nTo: {BOB}\r\n\r\n".encode() + b"\xe4\xf6\xfc latin-1\r\n")
    assert (await one_message(town.builder, BOB, BOB_PASSWORD)).endswith(b"\r\n\r\n\xe4\xf6\xfc latin-1\r\n")


async def test_reports_say_what_the_sender_asked_for(town: Town) -> None:
    with Submission(town.wonderland) as alice:
        alice.say(f"MAIL FROM:<{ALICE}> RET=HDRS ENVID=tea+2Bparty")
        alice.say(f"RCPT TO:<{BOB}> NOTIFY=SUCCESS,FAILURE ORCPT=rfc822;robert@old.test")
        alice.data(f"From: {ALICE}\r\nTo: {BOB}\r\nSubject: proof\r\n\r\nsecret\r\n".encode())
    await one_message(town.builder, BOB, BOB_PASSWORD)
    text, fields, original = await report_of(town.wonderland)
    assert fields["action"] == "relayed" and fields["original-envelope-id"] == "tea+party"
    assert fields["original-recipient"] == "rfc822; robert@old.test" and "mx.wonderland.test" in fields["reporting-mta"]
    assert original == "text/rfc822-headers", "RET=HDRS"
    assert "does not tell us whether it arrives" in text

    with Submission(town.wonderland) as alice:
        alice.say(f"MAIL FROM:<{ALICE}> RET=FULL ENVID=quiet")
        alice.say("RCPT TO:<nobody@builder.test> NOTIFY=NEVER")
        alice.say("RCPT TO:<noone@builder.test> NOTIFY=FAILURE")
        trace = alice.data(f"From: {ALICE}\r\nTo: x@builder.test\r\n\r\nsecret\r\n".encode())
    text, fields, original = await report_of(town.wonderland)
    assert "noone@builder.test" in text and "nobody@builder.test" not in text, "NOTIFY=NEVER is kept"
    assert original == "message/rfc822" and fields["original-envelope-id"] == "quiet"
    assert not (await town.wonderland.json("trace", trace))["waiting"]


async def test_a_message_is_held_until_its_time_and_then_goes_here_and_elsewhere(town: Town) -> None:
    with Submission(town.wonderland) as alice:
        assert "futurerelease" in alice.offers
        alice.say(f"MAIL FROM:<{ALICE}> HOLDFOR=2")
        alice.say(f"RCPT TO:<{BOB}>")
        alice.say(f"RCPT TO:<{ALICE}>")
        began = time.time()
        trace = alice.data(f"From: {ALICE}\r\nTo: {BOB}\r\nSubject: later\r\n\r\nnow\r\n".encode())
    way = await town.wonderland.json("trace", trace)
    assert {entry["destination"] for entry in way["waiting"]} == {"builder.test", "[local]"}
    assert [event for event in way["events"] if event["details"].get("not_before")]
    await one_message(town.builder, BOB, BOB_PASSWORD)
    await one_message(town.wonderland, ALICE, ALICE_PASSWORD)
    assert time.time() - began >= 1.9
    with Submission(town.wonderland) as alice:
        alice.say(f"MAIL FROM:<{ALICE}> HOLDUNTIL=2000-01-01T00:00:00Z")
        alice.say(f"RCPT TO:<{BOB}>")
        alice.data(f"From: {ALICE}\r\nTo: {BOB}\r\nSubject: past\r\n\r\nnow\r\n".encode())
    assert b"Subject: past" in await one_message(town.builder, BOB, BOB_PASSWORD)


async def test_a_deadline_is_passed_on_and_kept(town: Town) -> None:
    content = f"From: {ALICE}\r\nTo: {BOB}\r\nSubject: in time\r\n\r\nor not at all\r\n".encode()
    with Submission(town.wonderland) as alice:
        assert "deliverby" in alice.offers
        alice.say(f"MAIL FROM:<{ALICE}> BY=600;R")
        alice.say(f"RCPT TO:<{BOB}>")
        alice.data(content)
        alice.say(f"MAIL FROM:<{ALICE}> BY=2;R")
        alice.say("RCPT TO:<echo@silent.test>")
        trace = alice.data(content)
    assert content.split(b"\r\n\r\n")[1] in await one_message(town.builder, BOB, BOB_PASSWORD)
    text, fields, _ = await report_of(town.wonderland)
    assert fields["action"] == "failed" and fields["status"] == "5.4.7" and "within the time" in text
    assert not (await town.wonderland.json("trace", trace))["waiting"], "long before the queue's own term"


async def test_more_important_mail_goes_first(town: Town) -> None:
    await town.builder.stop()
    with Submission(town.wonderland) as alice:
        assert "mt-priority" in alice.offers
        for priority in (-4, 0, 4, 2):
            alice.say(f"MAIL FROM:<{ALICE}> MT-PRIORITY={priority}")
            alice.say(f"RCPT TO:<{BOB}>")
            alice.data(f"From: {ALICE}\r\nTo: {BOB}\r\nSubject: {priority}\r\n\r\nhi\r\n".encode())
    await town.wonderland.run("queue", "hold", "--domain", "builder.test")
    await town.builder.start()
    assert "4 entries were released" in await town.wonderland.run("queue", "release", "--domain", "builder.test")

    def arrived() -> list[bytes]:
        messages = poll(town.builder, BOB, BOB_PASSWORD)
        return messages if len(messages) == 4 else []

    messages = await eventually(arrived)
    assert [message_from_bytes(message)["Subject"] for message in messages] == ["4", "2", "0", "-4"]
    read_raw(town.builder, BOB, BOB_PASSWORD)


async def test_a_server_that_takes_few_recipients_gets_several_transactions(town: Town) -> None:
    offers = await run("swaks", "--server", town.builder.address, "--quit-after", "EHLO")
    assert "LIMITS MAILMAX=1000 RCPTMAX=3" in offers
    tags = [f"bob+{number}@builder.test" for number in range(7)]
    with Submission(town.wonderland) as alice:
        alice.say(f"MAIL FROM:<{ALICE}>")
        for tag in tags:
            alice.say(f"RCPT TO:<{tag}>")
        trace = alice.data(f"From: {ALICE}\r\nTo: all:;\r\nSubject: seven\r\n\r\nhi\r\n".encode())

    async def relayed() -> set[str]:
        events = (await town.wonderland.json("trace", trace))["events"]
        found = {one for event in events if event["station"] == "relayed" for one in event["details"]["recipients"]}
        return found if len(found) == 7 else set()

    assert await eventually(relayed) == set(tags)
    assert len(read_raw(town.builder, BOB, BOB_PASSWORD)) == 3, "transactions of 3, 3 and 1"


async def test_lmtp_answers_for_each_recipient(town: Town) -> None:
    words = await run(
        *["swaks", "--protocol", "LMTP", "--server", f"{town.builder.address}:24", "--from", ALICE],
        *["--to", f"{BOB},nobody@builder.test,bob+lmtp@builder.test"],
        check=False,
    )
    assert "550 5.1.1" in words and words.count("Ok: queued as") == 2
    message = await one_message(town.builder, BOB, BOB_PASSWORD)
    assert b"with LMTP" in message, "one copy for the two"


async def test_a_load_balancer_that_is_trusted_says_who_the_client_is(town: Town) -> None:
    world, builder = town.world, town.builder
    common = ["swaks", "--server", f"{builder.address}:2525", "--from", ALICE, "--to", BOB, "--proxy-family"]
    for version, family, client, server in (
        ("1", "TCP4", "192.0.2.7", "192.0.2.8"),
        ("2", "AF_INET6", "2001:db8::7", "2001:db8::8"),
    ):
        who = ["--proxy-version", version, "--proxy-source", client, "--proxy-source-port", "4711"]
        who += ["--proxy-dest", server, "--proxy-dest-port", "25"]
        command = [*common, family, *who, *(["--proxy-protocol", "STREAM"] if version == "2" else [])]
        await run(*command, "--local-interface", world.address(BALANCER))
        message = await one_message(builder, BOB, BOB_PASSWORD)
        assert client.encode() in message.partition(b"\r\n\r\n")[0]
        words = await run(*command, "--local-interface", world.address(98), check=False)
        assert "Connection closed" in words or " 5" in words, "nobody else is believed"
    assert not read_raw(builder, BOB, BOB_PASSWORD)


async def test_a_route_may_speak_lmtp(town: Town) -> None:
    route = f'[[route]]\ndomains = ["builder.test"]\nhost = "[{town.builder.address}]"\nport = 24\nlmtp = true\n'
    await town.wonderland.stop()
    change(town.wonderland, {"[queue]\n": f"{route}\n[queue]\n"})
    await town.wonderland.start()
    with Submission(town.wonderland) as alice:
        alice.say(f"MAIL FROM:<{ALICE}>")
        alice.say(f"RCPT TO:<{BOB}>")
        alice.say("RCPT TO:<nobody@builder.test>")
        alice.data(f"From: {ALICE}\r\nTo: {BOB}\r\nSubject: by LMTP\r\n\r\nhi\r\n".encode())
    message = await one_message(town.builder, BOB, BOB_PASSWORD)
    assert b"Subject: by LMTP" in message and b"with LMTP" in message
    text, fields, _ = await report_of(town.wonderland)
    assert fields["action"] == "failed" and "nobody@builder.test" in text
