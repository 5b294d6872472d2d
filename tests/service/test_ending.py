"""The sessions of an account that was closed end wherever they stand, and nothing is committed in its name after that.

A whole worker, with its sockets and its storage, over both loops.
"""

import asyncio
import base64
import logging
import os
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
from tests.faults.callers import Caller, any_certificate
from tests.faults.office import ALICE, BOB, PASSWORD, Office, settings_for

from waypost.access.pop3 import _FAREWELLS as pop3_farewells
from waypost.login.passwords import make_credentials
from waypost.protocol.session import Ending
from waypost.protocol.smtp.replies import FAREWELLS as smtp_farewells
from waypost.service.processes.control_socket import ask_workers
from waypost.service.processes.session_control import SessionControl
from waypost.service.processes.session_requests import EndAccountSessions, EndSessions, ListSessions
from waypost.storage import Conflict
from waypost.storage.sqlite import open_storage

PATIENCE = 30.0
CLOSED = "421 4.7.0 The account was closed or has a new password since you logged in; log in again"
CLOSED_POP3 = "-ERR The account was closed or has a new password since you logged in; log in again"


@pytest.fixture
async def office(tmp_path: Path) -> AsyncIterator[Office]:
    async with Office(settings_for(tmp_path)) as office:
        await office.staff()
        yield office
    for caller in tuple(Caller.everybody):
        caller.hang_up()


async def ask(office: Office, request: Any) -> list[dict[str, Any]]:
    """What a command hears of the one worker."""
    answers = await ask_workers(office.settings.data / "bus", request, PATIENCE)
    assert answers.silent == []
    return answers.rows


async def close(office: Office, address: str = ALICE) -> int:
    """Disable an account as the command does; return how many sessions were ended."""
    await office.storage.directory.set_disabled(address, True)
    [row] = await ask(office, EndAccountSessions(address))
    assert row["working"] == 0
    return int(row["ended"])


async def submits(office: Office, user: str = ALICE) -> Caller:
    return await Caller.submission(office.port("submissions"), user)


async def reads(office: Office, user: str = ALICE) -> Caller:
    return await Caller.pop3(office.port("pop3s"), user)


async def delivered(office: Office, octets: int, count: int = 1) -> None:
    """Bring Alice messages of that size by port 25."""
    caller = await Caller.smtp(office.port("smtp"))
    for _ in range(count):
        content = b"Subject: x\r\n\r\n" + b"y" * 70 + b"\r\n"
        await caller.say("MAIL FROM:<x@there.test>")
        await caller.say(f"RCPT TO:<{ALICE}>")
        await caller.say("DATA")
        caller.writer.write(content + (b"z" * 70 + b"\r\n") * (octets // 72) + b".\r\n")
        assert (await caller.reply()).startswith("250")
    caller.hang_up()


async def nothing_stored(office: Office) -> None:
    assert await office.queued() == []
    bob = await office.account(BOB)
    assert await office.storage.mailboxes.messages(bob.inbox) == []


async def test_an_idle_submission_session_hears_421_and_is_over(office: Office) -> None:
    alice, bob = await submits(office), await submits(office, BOB)
    assert await close(office) == 1
    assert await alice.reply() == CLOSED
    assert await alice.reader.read() == b""
    assert (await bob.say("NOOP")).startswith("250"), "another account's session goes on"


async def test_a_submission_session_in_the_middle_of_data_hears_421_and_nothing_is_stored(office: Office) -> None:
    alice = await submits(office)
    await alice.say(f"MAIL FROM:<{ALICE}>")
    await alice.say(f"RCPT TO:<{BOB}>")
    assert (await alice.say("DATA")).startswith("354")
    alice.writer.write(b"From: alice@here.test\r\n\r\nhalf of it\r\n")
    await alice.writer.drain()
    assert await close(office) == 1
    assert await alice.reply() == CLOSED
    await nothing_stored(office)


async def test_a_commit_that_is_on_its_way_looks_at_the_accounts_version(
    office: Office, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All that was asked of the account before the commit was answered with yes; only the commit itself can know."""
    accept = office.storage.spool.accept
    closing: list[asyncio.Task[int]] = []

    async def late(message: Any, reports: Any = ()) -> None:
        await office.storage.directory.set_disabled(ALICE, True)
        closing.append(asyncio.create_task(close(office)))
        await accept(message, reports)

    alice = await submits(office)
    monkeypatch.setattr(office.storage.spool, "accept", late)
    await alice.say(f"MAIL FROM:<{ALICE}>")
    await alice.say(f"RCPT TO:<{BOB}>")
    await alice.say("DATA")
    alice.writer.write(b"From: alice@here.test\r\n\r\nall of it\r\n.\r\n")
    assert await alice.reply() == CLOSED
    assert await closing[0] in (0, 1)
    await nothing_stored(office)


async def test_a_message_whose_commit_came_first_is_answered_before_the_session_ends(
    office: Office, monkeypatch: pytest.MonkeyPatch
) -> None:
    accept = office.storage.spool.accept
    committed, go_on = asyncio.Event(), asyncio.Event()

    async def slow(message: Any, reports: Any = ()) -> None:
        await accept(message, reports)
        committed.set()
        await go_on.wait()

    alice = await submits(office)
    monkeypatch.setattr(office.storage.spool, "accept", slow)
    await alice.say(f"MAIL FROM:<{ALICE}>")
    await alice.say(f"RCPT TO:<{BOB}>")
    await alice.say("DATA")
    alice.writer.write(b"From: alice@here.test\r\n\r\nall of it\r\n.\r\n")
    await committed.wait()
    closing = asyncio.create_task(close(office))
    while not office.assembly.listening.connections._waiting:  # noqa: ASYNC110  it waits for this session
        await asyncio.sleep(0)
    go_on.set()
    assert (await alice.reply()).startswith("250 2.0.0 Ok: queued as")
    assert await alice.reply() == CLOSED
    assert await closing == 1


async def test_a_pop3_session_hears_err_and_gives_its_mailbox_back_with_all_that_was_marked(office: Office) -> None:
    await delivered(office, 100)
    alice = await reads(office)
    assert (await alice.say("DELE 1")).startswith("+OK")
    account = await office.account(ALICE)
    with pytest.raises(Conflict):
        await office.storage.mailboxes.lock(account.inbox)
    assert await close(office) == 1
    assert await alice.line() == CLOSED_POP3
    assert await alice.reader.read() == b""
    (await office.storage.mailboxes.lock(account.inbox)).release()
    assert len(await office.storage.mailboxes.messages(account.inbox)) == 1


async def test_a_pop3_session_whose_client_does_not_read_is_dropped_in_the_middle_of_its_message(
    office: Office,
) -> None:
    await delivered(office, 8 << 20)
    alice = await reads(office)
    alice.writer.transport.pause_reading()  # type: ignore[attr-defined]
    alice.writer.write(b"RETR 1\r\n")
    [(_, connection)] = office.assembly.listening.connections.open
    async with asyncio.timeout(PATIENCE):
        while not connection._flow.waits_for_peer:  # noqa: ASYNC110  no event tells of a full kernel
            await asyncio.sleep(0.01)
    assert await close(office) == 1
    account = await office.account(ALICE)
    (await office.storage.mailboxes.lock(account.inbox)).release()


async def test_a_deletion_that_is_on_its_way_looks_at_the_accounts_version(
    office: Office, monkeypatch: pytest.MonkeyPatch
) -> None:
    await delivered(office, 100)
    expunge = office.storage.mailboxes.expunge

    async def late(mailbox: int, uids: Any, login: Any) -> int:
        await office.storage.directory.set_credentials(ALICE, make_credentials("a new one"))
        return await expunge(mailbox, uids, login)

    alice = await reads(office)
    monkeypatch.setattr(office.storage.mailboxes, "expunge", late)
    alice.writer.write(b"DELE 1\r\nQUIT\r\n")
    assert (await alice.line()).startswith("+OK")
    assert await alice.line() == CLOSED_POP3
    account = await office.account(ALICE)
    assert len(await office.storage.mailboxes.messages(account.inbox)) == 1


async def test_a_session_that_is_closing_hears_nothing_more_and_is_dropped_when_its_peer_lingers(
    office: Office, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("waypost.service.sockets.connections._LAST_WORDS", 0.01)
    caller = await Caller.smtp(office.port("smtp"))
    assert (await caller.say("QUIT")).startswith("221")
    [(_, connection)] = office.assembly.listening.connections.open
    assert connection._state.name == "CLOSING", "the peer has not closed its side"
    assert await _ended(office, EndSessions(network="127.0.0.1")) == 1
    assert await caller.reader.read() == b""
    await office.empty()


@pytest.mark.parametrize("way", ["smtp", "pop3"])
async def test_a_login_that_is_decided_while_its_account_closes_is_refused(
    office: Office, monkeypatch: pytest.MonkeyPatch, way: str
) -> None:
    """The worker has answered the command already when the session becomes the account's: nobody would end it."""
    find = office.storage.directory.account
    seen: list[str] = []

    async def late(address: str) -> Any:
        found = await find(address)
        seen.append(address)
        if len(seen) == 2:  # the password was right; what the check returns is the account of before
            await office.storage.directory.set_disabled(ALICE, True)
            assert (await ask(office, EndAccountSessions(ALICE)))[0]["ended"] == 0
        return found

    monkeypatch.setattr(office.storage.directory, "account", late)
    caller = await Caller.dial(office.port("submissions" if way == "smtp" else "pop3s"), tls=any_certificate())
    if way == "smtp":
        await caller.greet()
        said = await caller.say(f"AUTH PLAIN {_plain(ALICE)}")
        assert said.startswith("535")
    else:
        await caller.line()
        caller.writer.write(f"USER {ALICE}\r\nPASS {PASSWORD}\r\n".encode())
        await caller.line()
        assert (await caller.line()).startswith("-ERR [AUTH]")


async def test_a_notice_alone_ends_the_sessions(office: Office) -> None:
    alice = await submits(office)
    await office.storage.directory.set_credentials(ALICE, make_credentials("a new one"))
    assert await alice.reply() == CLOSED


async def test_a_lost_notice_is_repaired_by_a_slow_sweep(office: Office) -> None:
    alice = await submits(office)
    data = office.settings.data
    apart = await open_storage(data, now=office.now, worker=9, publish=lambda notice: None, memory_per_message=1 << 16)
    await apart.storage.directory.remove_account(ALICE)
    await apart.close()
    assert (await alice.say("NOOP")).startswith("250")
    connections, directory = office.assembly.listening.connections, office.storage.directory
    control = SessionControl(connections, directory, now=office.now, sweep=0.01)
    assert await alice.reply() == CLOSED
    await control.close()


async def test_what_does_not_concern_a_login_ends_nothing(office: Office) -> None:
    alice = await submits(office)
    directory = office.storage.directory
    await directory.set_quota(ALICE, 1 << 30)
    await directory.set_disabled(ALICE, False)  # it is enabled already
    assert await ask(office, EndAccountSessions(ALICE)) == [
        {"worker": _worker(), "ended": 0, "working": 0},
    ]
    assert (await alice.say("NOOP")).startswith("250")


async def test_sessions_are_listed_and_ended_by_id_by_account_and_by_network(
    office: Office, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    stranger = await Caller.smtp(office.port("smtp"))
    alice, bob = await submits(office), await reads(office, BOB)
    rows = await ask(office, ListSessions())
    assert [(row["protocol"], row["account"], row["tls"], row["busy"]) for row in rows] == [
        ("smtp", None, False, False),
        ("submissions", ALICE, True, False),
        ("pop3s", BOB, True, False),
    ]
    assert {row["peer"] for row in rows} == {"127.0.0.1"}
    assert await _ended(office, EndSessions()) == 0
    assert await _ended(office, EndSessions(id="1.1")) == 0
    assert await _ended(office, EndSessions(network="192.0.2.0/24")) == 0
    assert await _ended(office, EndSessions(id=rows[0]["id"])) == 1
    assert await stranger.reply() == "421 4.3.2 The operator of this server has ended the session"
    assert await _ended(office, EndSessions(account=ALICE, network="127.0.0.0/8")) == 1
    assert (await alice.reply()).startswith("421 4.3.2")
    assert await _ended(office, EndSessions(network="127.0.0.1")) == 1
    assert (await bob.line()).startswith("-ERR [SYS/TEMP] The operator")
    assert await ask(office, ListSessions()) == []
    told = [record for record in caplog.records if record.message == "sessions ended"]
    assert len(told) == 3


async def test_a_handshake_is_broken_off_when_its_network_is_ended(office: Office) -> None:
    caller = await Caller.dial(office.port("submission"))
    await caller.greet()
    assert (await caller.say("STARTTLS")).startswith("220")
    [(_, connection)] = office.assembly.listening.connections.open
    async with asyncio.timeout(PATIENCE):
        while connection._state.name != "SHAKING":  # noqa: ASYNC110
            await asyncio.sleep(0)
    assert await _ended(office, EndSessions(network="127.0.0.1/32")) == 1
    await office.empty()


async def test_a_session_that_works_on_something_that_cannot_be_broken_off_is_not_confirmed(
    office: Office, monkeypatch: pytest.MonkeyPatch
) -> None:
    go_on = asyncio.Event()

    async def hangs(message: Any, reports: Any = ()) -> None:
        await go_on.wait()

    alice = await submits(office)
    monkeypatch.setattr(office.storage.spool, "accept", hangs)
    monkeypatch.setattr("waypost.service.sockets.connections._LAST_WORDS", 0.01)
    monkeypatch.setattr("waypost.service.sockets.connections._DROPPED", 0.01)
    await alice.say(f"MAIL FROM:<{ALICE}>")
    await alice.say(f"RCPT TO:<{BOB}>")
    await alice.say("DATA")
    alice.writer.write(b"From: alice@here.test\r\n\r\nall of it\r\n.\r\n")
    await alice.writer.drain()
    [(_, connection)] = office.assembly.listening.connections.open
    async with asyncio.timeout(PATIENCE):
        while connection._task is None:  # noqa: ASYNC110
            await asyncio.sleep(0)
    [row] = await ask(office, EndSessions(account=ALICE))
    assert row == {"worker": _worker(), "ended": 1, "working": 1}
    go_on.set()


async def test_many_sessions_end_together(office: Office) -> None:
    callers = [await submits(office) for _ in range(60)]
    assert await close(office) == 60
    assert {await caller.reply() for caller in callers} == {CLOSED}


async def test_a_request_that_makes_no_sense_is_logged_and_the_next_is_answered(
    office: Office, caplog: pytest.LogCaptureFixture
) -> None:
    class Nonsense(msgspec.Struct, tag="nonsense", tag_field="ask"):
        pass

    answers = await ask_workers(office.settings.data / "bus", Nonsense(), PATIENCE)
    assert answers.silent == [_worker()]
    assert "command not understood" in [record.message for record in caplog.records]
    assert await ask(office, ListSessions()) == []


async def test_every_way_to_end_a_session_has_its_words() -> None:
    assert set(smtp_farewells) == set(pop3_farewells) == set(Ending)


async def _ended(office: Office, request: EndSessions) -> int:
    [row] = await ask(office, request)
    return int(row["ended"])


def _worker() -> str:
    return f"worker 0 (process {os.getpid()})"


def _plain(user: str) -> str:
    return base64.b64encode(f"\0{user}\0{PASSWORD}".encode()).decode()
