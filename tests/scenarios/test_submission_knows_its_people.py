"""Who may send what as whom, with ordinary programs; and what an operator changes holds at once, in every worker."""

import asyncio
import contextlib
import smtplib
from collections.abc import Iterator
from email import message_from_bytes
from email.policy import default
from pathlib import Path

import pytest
import pytest_asyncio
from tests.scenarios.clients import eventually, poll, run, trusting
from tests.scenarios.conftest import ALICE, ALICE_PASSWORD, BOB, BOB_PASSWORD, World

from waypost.lab.host import Host, LabError

pytestmark = pytest.mark.asyncio(loop_scope="module")

DINAH = "dinah@wonderland.test"
HATTER = "hatter@wonderland.test"
SPENDER = "spender@wonderland.test"
BOB_HERE = BOB.replace("builder.test", "wonderland.test")

HOME, GUESSER = "127.0.0.1", "127.0.0.66"
"""Where the tests log in from, and where they guess from: whoever guessed waits before the next login."""


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def host(shared_world: World) -> Host:
    shared_world.zone("wonderland.test", 11)
    shared_world.start_names()
    people = {
        ALICE: ALICE_PASSWORD,
        BOB_HERE: BOB_PASSWORD,
        DINAH: "a small cat",
        HATTER: "no room here",
        SPENDER: "all of it",
    }
    extra = f'\n[submission.send_as]\n"{HATTER}" = ["march.hare@wonderland.test", "@tea.test"]\n'
    return await shared_world.host(
        "wonderland.test",
        11,
        people,
        extra=extra,
        changes={"messages_per_hour = 100000": "messages_per_hour = 10"},
    )


@contextlib.contextmanager
def logged_in(host: Host, user: str, password: str, *, port: int = 465, source: str = HOME) -> Iterator[smtplib.SMTP]:
    session: smtplib.SMTP
    here = (source, 0)
    if port == 465:
        session = smtplib.SMTP_SSL(
            host.address, 465, local_hostname="client.test", timeout=20, context=trusting(host), source_address=here
        )
    else:
        session = smtplib.SMTP(host.address, port, local_hostname="client.test", timeout=20, source_address=here)
        session.starttls(context=trusting(host))
    with session:
        session.login(user, password)
        yield session


def gets_in(host: Host, user: str, password: str) -> bool:
    """Say whether this password opens."""
    try:
        with logged_in(host, user, password, source=GUESSER):
            return True
    except smtplib.SMTPAuthenticationError:
        return False


def refusal(host: Host, user: str, password: str, sender: str, header_from: str) -> str:
    """Submit a message to Bob; return the words of the refusal, or nothing."""
    with logged_in(host, user, password) as session:
        try:
            session.sendmail(sender, [BOB_HERE], f"From: {header_from}\r\nSubject: as whom\r\n\r\nhi\r\n".encode())
        except smtplib.SMTPSenderRefused as refused:
            return f"{refused.smtp_code} {bytes(refused.smtp_error).decode()}"
        except smtplib.SMTPDataError as refused:
            return f"{refused.smtp_code} {bytes(refused.smtp_error).decode()}"
    return ""


async def test_nobody_submits_without_a_login_and_nobody_logs_in_without_tls(host: Host) -> None:
    server = ["swaks", "--server", f"{host.address}:587", "--from", ALICE, "--to", "x@elsewhere.test"]
    assert "530 5.7.0 Authentication required" in await run(*server, "--tls", check=False)
    login = ["--auth", "PLAIN", "--auth-user", ALICE, "--auth-password", ALICE_PASSWORD]
    words = await run(*server, *login, check=False)
    assert "Host did not advertise authentication" in words
    with smtplib.SMTP(host.address, 587, local_hostname="client.test", timeout=20) as session:
        session.ehlo()
        assert session.docmd("AUTH", "PLAIN AGFsaWNlAGFsaWNl")[0] == 538


async def test_one_sends_as_oneself_and_as_what_leads_to_oneself(host: Host) -> None:
    await host.run("alias", "add", "sales@wonderland.test", ALICE, BOB_HERE)
    for own in (ALICE, "alice+list@wonderland.test", "sales@wonderland.test", "Alice <ALICE@Wonderland.TEST>"):
        assert refusal(host, ALICE, ALICE_PASSWORD, own.rpartition("<")[2].rstrip(">"), own) == ""
    for other in (BOB_HERE, "nobody@wonderland.test", "alice@builder.test", "x@tea.test"):
        assert refusal(host, ALICE, ALICE_PASSWORD, other, ALICE).startswith("553 5.7.1 alice@wonderland.test may not")
        assert refusal(host, ALICE, ALICE_PASSWORD, ALICE, other).startswith("553 5.7.1 alice@wonderland.test may not")
    await host.run("alias", "remove", "sales@wonderland.test", ALICE)
    assert refusal(host, ALICE, ALICE_PASSWORD, "sales@wonderland.test", ALICE).startswith("553 5.7.1"), "at once"


async def test_the_configuration_delegates(host: Host) -> None:
    for lent in ("march.hare@wonderland.test", "anyone@tea.test"):
        assert refusal(host, HATTER, "no room here", lent, lent) == ""
        assert refusal(host, DINAH, "a small cat", lent, lent).startswith("553 5.7.1")


async def test_a_message_is_completed_and_blind_copies_stay_blind(host: Host) -> None:
    poll(host, BOB_HERE, BOB_PASSWORD, delete=True)
    with logged_in(host, ALICE, ALICE_PASSWORD, port=587) as session:
        text = f"From: {ALICE}\r\nTo: {DINAH}\r\nBcc: {BOB_HERE}\r\nSubject: psst\r\n\r\nhi\r\n"
        session.sendmail(ALICE, [DINAH, BOB_HERE], text.encode())
    [blind] = poll(host, BOB_HERE, BOB_PASSWORD, delete=True)
    message = message_from_bytes(blind)
    assert message["Date"] and message["Message-ID"].endswith("@mx.wonderland.test>")
    assert message["Bcc"] is None and BOB_HERE.encode() not in blind.partition(b"Received:")[2]
    assert message["Received"].startswith("from client.test") and "with ESMTPSA" in message["Received"]


@pytest.mark.parametrize(
    ("header", "words"),
    [
        (b"From: nobody\r\n", "From: can't be read: 'nobody' has no address"),
        (f"From: {ALICE}\r\nFrom: {ALICE}\r\n".encode(), "There is more than one From: field"),
        (f"From: {ALICE}\r\nno field\r\n".encode(), "no field"),
        (f"From: {ALICE}, {BOB_HERE}\r\n".encode(), "Sender: must say which of them sends"),
        (f"From: {ALICE}\r\nSubject: caf\u00e9\r\n".encode("latin-1"), "Subject: is not UTF-8: write the message in"),
        (
            f"From: {ALICE}\r\nTo: caf\u00e9@x.test\r\n".encode(),
            "has characters outside ASCII: the mail program has to",
        ),
    ],
)
async def test_what_is_wrong_with_a_message_is_said_in_clear_text(host: Host, header: bytes, words: str) -> None:
    with logged_in(host, ALICE, ALICE_PASSWORD) as session:
        session.mail(ALICE, ["BODY=8BITMIME"])
        session.rcpt(BOB_HERE)
        code, said = session.data(header + b"\r\nhi\r\n")
    assert code == 554 and said.startswith(b"5.6.0") and words in said.decode()


async def test_what_scripts_write_is_mended(host: Host, tmp_path: Path) -> None:
    poll(host, BOB_HERE, BOB_PASSWORD, delete=True)
    text = tmp_path / "mail.txt"
    text.write_text("Subject: Prüfung: Ergebnis\n\nAlles gut.\n")
    await run(
        *["curl", "-sS", "--cacert", str(host.certificate), f"smtps://{host.hostname}:465", "--crlf"],
        *["--resolve", f"{host.hostname}:465:{host.address}", "--user", f"{ALICE}:{ALICE_PASSWORD}"],
        *["--mail-from", ALICE, "--mail-rcpt", BOB_HERE, "--upload-file", str(text)],
    )
    await run(
        *[
            "swaks",
            "--server",
            host.address,
            "--port",
            "465",
            "--tls-on-connect",
            "--auth-user",
            ALICE,
            "--auth",
            "PLAIN",
        ],
        *["--auth-password", ALICE_PASSWORD, "--from", ALICE, "--to", BOB_HERE],
        *["--header", f"From: Liddell, Alice <{ALICE}>", "--header", "Subject: größer"],
    )
    first, second = (message_from_bytes(one, policy=default) for one in poll(host, BOB_HERE, BOB_PASSWORD, delete=True))
    assert (first["From"], first["Subject"]) == (ALICE, "Prüfung: Ergebnis")
    assert first.get_content().strip() == "Alles gut."
    assert (second["From"], second["Subject"]) == (f'"Liddell, Alice" <{ALICE}>', "größer")


async def test_a_new_password_holds_at_once_in_every_worker(host: Host) -> None:
    for _ in range(8):  # every worker has seen the old one
        with logged_in(host, DINAH, "a small cat"):
            pass
    with logged_in(host, DINAH, "a small cat") as before:
        await host.run("account", "passwd", DINAH, "--password-stdin", stdin="a grown cat\n")
        for _ in range(8):
            with logged_in(host, DINAH, "a grown cat"):
                pass
        assert not any(gets_in(host, DINAH, "a small cat") for _ in range(4))
        assert await eventually(lambda: gets_in(host, DINAH, "a grown cat")), "after a short wait for the guesses"
        assert before.mail(DINAH)[0] == 421, "whoever was inside before has to log in again"


async def test_a_closed_account_sends_no_more_at_once_and_gets_no_mail(host: Host, tmp_path: Path) -> None:
    await host.run("account", "add", "gryphon@wonderland.test", "--password-stdin", stdin="lobster quadrille\n")
    gryphon = "gryphon@wonderland.test"
    with (
        logged_in(host, gryphon, "lobster quadrille") as session,
        smtplib.SMTP(host.address, 25, local_hostname="client.test", timeout=20) as mx,
    ):
        mx.ehlo("elsewhere.test")
        mx.mail("x@elsewhere.test")
        assert mx.rcpt(gryphon)[0] == 250
        await host.run("account", "disable", gryphon)
        assert session.mail(gryphon)[0] == 421, "its sessions have ended"
        assert mx.rcpt(gryphon) == (550, b"5.2.1 This mailbox is closed")
        assert not gets_in(host, gryphon, "lobster quadrille")
        await host.run("account", "enable", gryphon)
        assert mx.rcpt(gryphon)[0] == 250
        await host.run("account", "remove", gryphon, "--yes")
        assert mx.rcpt(gryphon) == (550, b"5.1.1 No such user here")
    with pytest.raises(LabError, match="there is no account"):
        await host.run("account", "disable", gryphon)


async def test_a_stolen_password_is_worth_ten_messages_an_hour(host: Host) -> None:
    sent, refused = 0, ""
    for _ in range(13):  # each on a connection of its own, so that all workers count together
        with logged_in(host, SPENDER, "all of it") as session:
            text = f"From: {SPENDER}\r\nSubject: spam\r\n\r\nbuy\r\n".encode()
            try:
                await asyncio.to_thread(session.sendmail, SPENDER, [BOB_HERE], text)
                sent += 1
            except smtplib.SMTPDataError as error:
                refused = f"{error.smtp_code} {bytes(error.smtp_error).decode()}"
    assert sent == 10
    assert refused == "452 4.7.1 You have reached the limit of 10 messages an hour; please try later"
    assert refusal(host, HATTER, "no room here", HATTER, HATTER) == "", "others are not concerned"
