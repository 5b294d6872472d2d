"""Clients that fail at every stage of a session, in every way: their place comes back, and nothing of theirs is kept.

Each test brings a client to each stage of a protocol, on one worker, and lets all of them fail in the same way.
"""

import asyncio
import contextlib
import os
import random
from collections.abc import Awaitable, Callable

import pytest
from tests.faults.callers import Caller, any_certificate
from tests.faults.conftest import OpenOffice
from tests.faults.ledger import Ledger
from tests.faults.office import ALICE, BOB, Office

from waypost.access.pop3 import Pop3Session

PATIENCE = 0.25
SECOND = 1_000_000
CONTENT = b"Subject: never\r\n\r\n" + b"never whole\r\n"
Stage = Callable[[Office], Awaitable[Caller]]


# -- stages ----------------------------------------------------------------------------------------------------


def smtp(*lines: str, then: bytes = b"", door: str = "smtp", hello: str = "EHLO") -> Stage:
    """A session of SMTP that has said some lines, each answered, and then some octets."""

    async def stage(house: Office) -> Caller:
        caller = await Caller.dial(house.port(door))
        await caller.reply()
        for line in (f"{hello} caller.there.test", *lines):
            assert (await caller.say(line))[:1] in ("2", "3"), line
        await caller.send(then)
        return caller

    return stage


def fresh(door: str) -> Stage:
    """A connection on which nothing was read or written."""
    return lambda house: Caller.dial(house.port(door))


def tls(door: str, *lines: str, upgrade: str = "", then: bytes = b"") -> Stage:
    """A session inside TLS, from the start or by `upgrade`."""

    async def stage(house: Office) -> Caller:
        caller = await Caller.dial(house.port(door), tls=None if upgrade else any_certificate())
        await caller.line()
        if upgrade:
            if upgrade == "STARTTLS":
                await caller.say("EHLO caller.there.test")
            await caller.ask(upgrade)
            await caller.start_tls()
        for line in lines:
            await caller.say(line)
        await caller.send(then)
        return caller

    return stage


def handshake(door: str, command: str) -> Stage:
    """A handshake that has begun: half of a ClientHello was sent."""

    async def stage(house: Office) -> Caller:
        caller = await Caller.dial(house.port(door))
        if command:
            await caller.line()
            if command == "STARTTLS":
                await caller.say("EHLO caller.there.test")
            await caller.ask(command)
        await caller.send(b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03")
        return caller

    return stage


def mailbox(*lines: str, then: bytes = b"") -> Stage:
    """A session of POP3 that has opened Alice's or Bob's mailbox."""

    async def stage(house: Office) -> Caller:
        user = lines[0]
        caller = await Caller.pop3(house.port("pop3s"), user)
        for line in lines[1:]:
            await caller.ask(line)
        await caller.send(then)
        return caller

    return stage


MAIL, RCPT = "MAIL FROM:<eve@else.test>", f"RCPT TO:<{BOB}>"
STAGES: dict[str, dict[str, Stage]] = {
    "smtp": {
        "connected": fresh("smtp"),
        "half a command": smtp(then=b"MAIL FR"),
        "EHLO": smtp(),
        "STARTTLS": smtp("STARTTLS"),
        "half a handshake": handshake("smtp", "STARTTLS"),
        "inside TLS": tls("smtp", "EHLO again.test", MAIL, upgrade="STARTTLS"),
        "MAIL": smtp(MAIL),
        "RCPT": smtp(MAIL, RCPT),
        "DATA": smtp(MAIL, RCPT, "DATA"),
        "in a header": smtp(MAIL, RCPT, "DATA", then=b"Subject: ne"),
        "in a content": smtp(MAIL, RCPT, "DATA", then=CONTENT),
        "in a large content": smtp(MAIL, RCPT, "DATA", then=CONTENT * 30_000),
        "before the dot": smtp(MAIL, RCPT, "DATA", then=CONTENT + b"."),
        "in a chunk": smtp(MAIL, RCPT, then=b"BDAT 1000000\r\n" + CONTENT),
        "in a large chunk": smtp(MAIL, RCPT, then=b"BDAT 1000000\r\n" + CONTENT * 30_000),
        "between chunks": smtp(MAIL, RCPT, then=b"BDAT %d\r\n" % len(CONTENT) + CONTENT),
        "does not read": smtp(then=b"HELP\r\n" * 60_000),
    },
    "submission": {
        "connected": fresh("submissions"),
        "half a handshake": handshake("submissions", ""),
        "greeted": tls("submissions"),
        "EHLO": tls("submissions", "EHLO laptop.test"),
        "AUTH": tls("submissions", "EHLO laptop.test", "AUTH PLAIN"),
        "AUTH, a user": tls("submissions", "EHLO laptop.test", "AUTH LOGIN", "YWxpY2U="),
        "AUTH, SCRAM": tls("submissions", "EHLO laptop.test", "AUTH SCRAM-SHA-256"),
        "STARTTLS": smtp("STARTTLS", door="submission"),
        "does not read": tls("submissions", "EHLO laptop.test", then=b"NOOP\r\n" * 100_000),
    },
    "lmtp": {
        "LHLO": smtp(door="lmtp", hello="LHLO"),
        "in a content": smtp(MAIL, RCPT, "DATA", then=CONTENT, door="lmtp", hello="LHLO"),
        "in a large content": smtp(MAIL, RCPT, "DATA", then=CONTENT * 30_000, door="lmtp", hello="LHLO"),
    },
    "pop3": {
        "connected": fresh("pop3"),
        "connected to TLS": fresh("pop3s"),
        "half a handshake": handshake("pop3", "STLS"),
        "half a handshake at once": handshake("pop3s", ""),
        "inside TLS": tls("pop3", upgrade="STLS", then=b"CAPA\r\n"),
        "a user": tls("pop3s", then=b"USER bob@here.test\r\n"),
        "AUTH": tls("pop3s", then=b"AUTH PLAIN\r\n"),
        "half a command": mailbox(ALICE, then=b"RET"),
        "deleted": mailbox(BOB, "DELE 1"),
    },
}


# -- ways to fail ----------------------------------------------------------------------------------------------


async def close(caller: Caller) -> None:
    caller.hang_up()


async def reset(caller: Caller) -> None:
    caller.reset()


async def stop_writing(caller: Caller) -> None:
    """Close one direction, and read to the end."""
    if caller.writer.can_write_eof():
        caller.writer.write_eof()
        await caller.rest()
    caller.hang_up()


async def stay_silent(caller: Caller) -> None:
    """Say nothing more, and read nothing, until the other side has had enough."""


async def talk_rubbish(caller: Caller) -> None:
    with contextlib.suppress(OSError, asyncio.TimeoutError):
        await asyncio.wait_for(caller.send(random.Random(4711).randbytes(200_000)), 5)
    caller.hang_up()


async def talk_rubbish_in_lines(caller: Caller) -> None:
    rubbish = random.Random(815).randbytes(60_000)
    with contextlib.suppress(OSError, asyncio.TimeoutError):
        await asyncio.wait_for(caller.send(b"\r\n".join(rubbish[k : k + 50] for k in range(0, 60_000, 50))), 5)
    caller.hang_up()


FAULTS = {
    fault.__name__: fault for fault in (close, reset, stop_writing, stay_silent, talk_rubbish, talk_rubbish_in_lines)
}


@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize("protocol", STAGES)
async def test_a_client_that_fails_gives_its_place_back_and_leaves_nothing(
    office: OpenOffice,
    ledger: Ledger,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
    protocol: str,
    fault: str,
) -> None:
    silent = fault == "stay_silent"
    house = await office(dispatch=False, limits={"command_timeout": int(PATIENCE * SECOND)} if silent else {})
    for sessions in ("waypost.intake.session", "waypost.access.pop3"):  # who floods and does not read waits 100 of them
        monkeypatch.setattr(f"{sessions}.JUNK_PAUSE", PATIENCE / 25)
    if silent:
        monkeypatch.setattr("waypost.access.pop3.LOGIN_TIMEOUT", PATIENCE)
        monkeypatch.setitem(Pop3Session.__init__.__kwdefaults__ or {}, "timeout", PATIENCE)
        house.timing = house.timing.__class__(session=300.0, handshake=PATIENCE, linger=PATIENCE)
    good = await Caller.smtp(house.port("smtp"))
    for _ in range(2):
        assert (await ledger.post(good, "eve@else.test", BOB)).startswith("250")
    good.hang_up()
    await house.empty()
    for door in ("submission", "submissions", "lmtp", "pop3", "pop3s"):
        house.port(door)
    before = open_files()

    for stage in STAGES[protocol].values():
        await FAULTS[fault](await stage(house))
    await house.empty()
    for caller in list(Caller.everybody):
        caller.hang_up()

    assert [record.message for record in caplog.records if record.levelname in ("ERROR", "CRITICAL")] == []
    assert not list((house.settings.data / "segments").glob("arriving-*"))
    assert not list((house.settings.data / "locks").glob("mailbox-*"))
    good = await Caller.smtp(house.port("smtp"))
    assert (await ledger.post(good, "eve@else.test", BOB)).startswith("250")
    good.hang_up()
    await house.empty()
    await asyncio.wait_for(until_closed(before), 20)
    found = await ledger.audit(house)
    assert found.mailboxes.total() == 3
    assert len(await house.storage.mailboxes.messages((await house.account(BOB)).inbox)) == 3


def open_files() -> int:
    return len(os.listdir("/proc/self/fd"))


async def until_closed(before: int) -> None:
    """Return when no more files are open than before: the ends of both sides close in their own time."""
    while open_files() > before:  # noqa: ASYNC110
        await asyncio.sleep(0.02)


async def test_a_silent_client_hears_why_it_is_sent_away(office: OpenOffice) -> None:
    house = await office(dispatch=False, limits={"command_timeout": int(PATIENCE * SECOND)})
    for stage in ("EHLO", "MAIL", "in a content"):
        caller = await STAGES["smtp"][stage](house)
        assert (await caller.rest()).startswith(b"421 4.4.2")
        caller.hang_up()
    await house.empty()
