"""POP3 with programs that people use: what is deleted, what stays, and what a name of a message is worth."""

import asyncio
import os
import poplib
import signal
import smtplib
from pathlib import Path

import pytest
import pytest_asyncio
from tests.scenarios.clients import eventually, poll, run, trusting
from tests.scenarios.conftest import BOB, BOB_PASSWORD, World

from waypost.lab.host import Host

pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def host(shared_world: World) -> Host:
    shared_world.zone("builder.test", 12)
    shared_world.start_names()
    return await shared_world.host("builder.test", 12, {BOB: BOB_PASSWORD})


def deliver(host: Host, *subjects: str) -> None:
    with smtplib.SMTP(host.address, 25, local_hostname="client.test", timeout=20) as session:
        for subject in subjects:
            session.sendmail("x@elsewhere.test", [BOB], f"Subject: {subject}\r\n\r\n.\r\n..\r\nhello\r\n".encode())


def opened(host: Host) -> poplib.POP3_SSL:
    box = poplib.POP3_SSL(host.address, 995, timeout=20, context=trusting(host))
    box.user(BOB)
    box.pass_(BOB_PASSWORD)
    return box


def names(host: Host) -> list[bytes]:
    """Return the unique ids of all messages."""
    box = opened(host)
    found = [line.split()[1] for line in box.uidl()[1]]
    box.quit()
    return found


async def test_fetchmail_takes_everything_and_leaves_nothing(host: Host, tmp_path: Path) -> None:
    deliver(host, "one", "two", "three")
    rc, out = tmp_path / "fetchmailrc", tmp_path / "fetched"
    rc.write_text(
        f'poll {host.address} protocol pop3 port 995 user "{BOB}" password "{BOB_PASSWORD}" ssl\n'
        f'  no sslcertck fetchall mda "cat >> {out}"\n'
    )
    rc.chmod(0o600)
    fetch = ["env", f"FETCHMAILHOME={tmp_path}", "fetchmail", "-f", str(rc), "--pidfile", str(tmp_path / "pid")]
    await run(*fetch)
    assert out.read_bytes().count(b"Subject: ") == 3
    words = await run(*fetch, check=False)
    assert "No mail" in words and not poll(host, BOB, BOB_PASSWORD)


async def test_mpop_gets_each_message_once_and_leaves_it_there(host: Host, tmp_path: Path) -> None:
    deliver(host, "four", "five")
    rc, mbox = tmp_path / "mpoprc", tmp_path / "mbox"
    rc.write_text(
        f"defaults\ntls on\ntls_certcheck off\nkeep on\naccount default\nhost {host.address}\nport 110\n"
        f'tls_starttls on\nauth plain\nuser {BOB}\npassword "{BOB_PASSWORD}"\n'
        f"delivery mbox {mbox}\nuidls_file {tmp_path / 'uidls'}\n"
    )
    rc.chmod(0o600)
    await run("mpop", "-C", str(rc))
    deliver(host, "six")
    await run("mpop", "-C", str(rc))
    assert [mbox.read_bytes().count(f"Subject: {name}\n".encode()) for name in ("four", "five", "six")] == [1, 1, 1]
    assert len(poll(host, BOB, BOB_PASSWORD, delete=True)) == 3


async def test_one_session_at_a_time_has_the_mailbox(host: Host) -> None:
    deliver(host, "seven")
    first = opened(host)
    for _ in range(4):  # also in the other worker
        second = poplib.POP3_SSL(host.address, 995, timeout=20, context=trusting(host))
        second.user(BOB)
        with pytest.raises(poplib.error_proto, match=r"\[IN-USE\]"):
            second.pass_(BOB_PASSWORD)
        second.close()
    first.quit()
    opened(host).quit()


async def test_what_was_not_confirmed_by_quit_is_not_deleted(host: Host) -> None:
    box = opened(host)
    box.dele(1)
    box.close()  # no QUIT: the connection is lost

    def again() -> bool:
        try:
            return len(poll(host, BOB, BOB_PASSWORD)) == 1
        except poplib.error_proto:
            return False  # the server has not noticed the loss yet

    assert await eventually(again)


async def test_names_of_messages_outlive_restarts_and_are_never_used_again(host: Host) -> None:
    deliver(host, "eight", "nine")
    before = names(host)
    assert len(before) == 3 == len(set(before))
    await host.stop()
    await host.start()
    assert names(host) == before
    for worker in (await host.json("status"))["service"]["workers"]:
        os.kill(worker["pid"], signal.SIGKILL)

    def back() -> list[bytes]:
        try:
            return names(host)
        except (OSError, EOFError, poplib.error_proto):
            return []

    assert await eventually(back) == before
    poll(host, BOB, BOB_PASSWORD, delete=True)
    await asyncio.to_thread(deliver, host, "ten")
    assert not set(names(host)) & set(before)


TAKEOVER = (
    b"From: a@ext.test\r\nSubject: evil\r\n\r\nbefore\n.\n+OK 99 octets\nFrom: boss@builder.test\nSubject: forged\n\n"
    b"forged text\n.\n+OK gone\n+OK gone\n+OK bye\nrest"
)


def deliver_binary(host: Host, *contents: bytes) -> None:
    """Send contents by BDAT with BODY=BINARYMIME (RFC 3030), which frees them of lines."""
    with smtplib.SMTP(host.address, 25, local_hostname="client.test", timeout=20) as session:
        session.ehlo("elsewhere.test")
        for content in contents:
            assert session.docmd("MAIL", "FROM:<x@elsewhere.test> BODY=BINARYMIME")[0] == 250
            assert session.docmd("RCPT", f"TO:<{BOB}>")[0] == 250
            session.send(b"BDAT %d LAST\r\n" % len(content) + content)
            assert session.getreply()[0] == 250


def saved(folder: Path) -> bytes:
    """Return all messages that were saved in a folder, one behind the other."""
    return b"".join(path.read_bytes() for path in sorted(folder.glob("*.eml")))


@pytest.mark.parametrize("program", ["mpop", "fetchmail", "poplib", "waypost"])
async def test_a_binary_message_takes_over_no_session(host: Host, tmp_path: Path, program: str) -> None:
    poll(host, BOB, BOB_PASSWORD, delete=True)
    contents = [
        TAKEOVER,
        TAKEOVER.replace(b"\n", b"\r").replace(b"\r\r", b"\r\n", 3),
        TAKEOVER.replace(b"fore", b"fo\0re"),
    ]
    deliver_binary(host, *contents)
    deliver(host, "the next one")
    out = tmp_path / "read"
    if program == "mpop":
        rc = tmp_path / "mpoprc"
        rc.write_text(
            f"defaults\ntls on\ntls_certcheck off\naccount default\nhost {host.address}\nport 110\n"
            f'tls_starttls on\nauth plain\nuser {BOB}\npassword "{BOB_PASSWORD}"\n'
            f"delivery mbox {out}\nuidls_file {tmp_path / 'uidls'}\n"
        )
        rc.chmod(0o600)
        await run("mpop", "-C", str(rc))
    elif program == "fetchmail":
        rc = tmp_path / "fetchmailrc"
        rc.write_text(
            f'poll {host.address} protocol pop3 port 995 user "{BOB}" password "{BOB_PASSWORD}" ssl\n'
            f'  no sslcertck fetchall mda "cat >> {out}"\n'
        )
        rc.chmod(0o600)
        await run("env", f"FETCHMAILHOME={tmp_path}", "fetchmail", "-f", str(rc), "--pidfile", str(tmp_path / "pid"))
    elif program == "poplib":
        out.write_bytes(b"".join(poll(host, BOB, BOB_PASSWORD, delete=True)))
    else:
        url = f"pop3s://{BOB}@{host.address}"
        await host.client("fetch", url, "save", "all", str(tmp_path), "--insecure", password=BOB_PASSWORD)
        await host.client("fetch", url, "delete", "all", "--yes", "--insecure", password=BOB_PASSWORD)
        out.write_bytes(saved(tmp_path))
    read = out.read_bytes()
    assert b"\0" not in read and b"Subject: the next one" in read and read.count(b"hello") == 1
    assert (
        read.count(b"Subject: evil")
        == read.count(b"forged text")
        == 3
        == read.count(b"rest\r\n") + read.count(b"rest\n")
    )
    assert read.count(b"Return-Path: <x@elsewhere.test>") + read.count(b"From x@elsewhere.test") >= 4
    assert poll(host, BOB, BOB_PASSWORD) == []
