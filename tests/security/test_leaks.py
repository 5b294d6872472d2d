"""What a stranger learns before a login, and what others learn from a message: nothing that is not theirs."""

from pathlib import Path

import pytest
from tests.security.live import Live, Recorder, Wire, host

from waypost import __version__
from waypost.config.settings import ListenerProtocol

LETTER = b"From: alice@here.test\r\nTo: bob@there.test\r\nBcc: carol@there.test,\r\n dave@there.test\r\n"
LETTER += b"Resent-Bcc: erin@there.test\r\nReturn-Path: <x@y.test>\r\nSubject: tea\r\n\r\nhi\r\n.\r\n"


async def everything_said(here: Live, protocol: ListenerProtocol, *lines: str) -> bytes:
    wire = await here.client(protocol)
    await wire.send("".join(line + "\r\n" for line in lines).encode())
    said = await wire.rest()
    await wire.close()
    return said


async def test_no_version_is_told_before_a_login(tmp_path: Path) -> None:
    async with host(tmp_path, "here.test") as here:
        words = ("EHLO x", "HELP", "NOOP", "FOO", "RSET", "VRFY x", "AUTH", "QUIT")
        for protocol in (ListenerProtocol.SMTP, ListenerProtocol.SUBMISSION):
            assert __version__.encode() not in await everything_said(here, protocol, *words)
        said = await everything_said(here, ListenerProtocol.POP3, "CAPA", "FOO", "USER x", "QUIT")
        assert b"IMPLEMENTATION" in said and __version__.encode() not in said
        assert b"Python" not in said and str(tmp_path).encode() not in said


@pytest.mark.parametrize("user", ["alice@here.test", "nobody@here.test", "alice", "postmaster"])
async def test_vrfy_and_expn_tell_nothing_of_anybody(tmp_path: Path, user: str) -> None:
    async with host(tmp_path, "here.test") as here:
        await here.account("alice@here.test")
        await here.alias("all@here.test", "alice@here.test")
        wire = await here.client()
        await wire.reply()
        await wire.say("EHLO x")
        assert await wire.say(f"VRFY {user}") == "252 2.5.2 Addresses are not confirmed; send, and we will see"
        assert (await wire.say(f"EXPN {user}")).startswith("502 5.5.1")
        assert "alice" not in await wire.say("EXPN all@here.test")
        await wire.close()


async def test_blind_copies_and_where_alice_is_are_told_to_nobody(tmp_path: Path) -> None:
    async with (
        Recorder("DSN").open() as there,
        host(tmp_path, "here.test", next_hop=("there.test", there.port)) as here,
    ):
        await here.account("alice@here.test")
        alice = await here.submitter("alice@here.test")
        await alice.say("MAIL FROM:<alice@here.test>")
        for name in ("bob", "carol", "dave"):
            await alice.say(f"RCPT TO:<{name}@there.test>")
        assert (await alice.content(LETTER)).startswith("250")
        await alice.close()
        await here.idle()
        [content] = there.contents
        header = content.split(b"\r\n\r\n")[0]
        for secret in (b"carol", b"dave", b"erin", b"Bcc", b"127.0.0.1", b"Return-Path", b" for <"):
            assert secret.lower() not in header.lower()


async def test_a_report_on_one_blind_copy_names_no_other(tmp_path: Path) -> None:
    answers = {"RCPT": "550 5.1.1 no such user\r\n"}
    async with (
        Recorder(answers=answers).open() as there,
        host(tmp_path, "here.test", next_hop=("there.test", there.port)) as here,
    ):
        await here.account("alice@here.test")
        alice = await here.submitter("alice@here.test")
        await alice.say("MAIL FROM:<alice@here.test>", "RCPT TO:<carol@there.test>")
        await alice.content(LETTER)
        await alice.close()
        await here.idle()
        [report] = await here.inbox("alice@here.test")
        assert b"carol@there.test" in report and b"dave" not in report and b"erin" not in report


async def test_a_mailbox_that_exists_is_told_apart_only_where_mail_needs_it(tmp_path: Path) -> None:
    """RCPT must refuse who is unknown, or there would be backscatter; MAIL, VRFY and logins tell nothing."""
    async with host(tmp_path, "here.test") as here:
        await here.account("alice@here.test")
        wire = await here.client()
        await wire.reply()
        await wire.say("EHLO x")
        senders = set()
        for name in ("alice", "nobody"):
            senders.add(await wire.say(f"MAIL FROM:<{name}@here.test>"))
            await wire.say("RSET")
        assert len(senders) == 1
        await _harvest(wire)


async def _harvest(wire: Wire) -> None:
    """Guessing names is ended by the limit of errors."""
    await wire.say("MAIL FROM:<x@far.test>")
    await wire.send(b"".join(b"RCPT TO:<guess%d@here.test>\r\n" % number for number in range(200)))
    said = (await wire.rest()).split(b"\r\n")
    assert said[-2].startswith(b"421") and len(said) < 30
    await wire.close()
