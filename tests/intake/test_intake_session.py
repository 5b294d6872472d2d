"""An SMTP session over real storage: replies, faults of the disk and of our own, and everything given back."""

import asyncio
import logging
import math
from dataclasses import replace
from typing import Any

import pytest
from msgspec import structs
from tests.intake.conversation import CLIENT, MESSAGE, TLS, Conversation, House, plain, trace_of

from waypost.config.settings import ListenerProtocol
from waypost.login.desk import LoginDesk
from waypost.login.outcomes import LoginFault
from waypost.login.passwords import make_credentials
from waypost.protocol.session import Ending, Next
from waypost.reception import ReceptionPolicy
from waypost.storage import StorageError, StorageFull

SMTP, SUBMISSION = ListenerProtocol.SMTP, ListenerProtocol.SUBMISSION


async def test_a_message_ends_in_the_mailbox_with_its_trace_id_in_the_reply(house: House) -> None:
    talk = Conversation(house.session(SMTP))
    assert await talk.open() == "220 mx.here.test ESMTP Waypost\r\n"
    assert (await talk.say("EHLO mx.there.test")).startswith("250 LIMITS") or "STARTTLS" in await talk.say("EHLO x")
    reply = await talk.message("x@there.test", "bob@here.test")
    assert reply.startswith("250 2.0.0 Ok: queued as ")
    (stored,) = await house.inbox("bob@here.test")
    assert stored.endswith(MESSAGE.encode()) and await house.stored(trace_of(reply))
    assert await talk.say("QUIT") == "221 2.0.0 Goodbye" and talk.next is Next.CLOSE


async def test_a_whole_pipelined_session_in_one_packet(house: House) -> None:
    talk = Conversation(house.session(SMTP))
    await talk.open()
    written = await talk.send(
        b"EHLO x\r\nMAIL FROM:<x@there.test>\r\nRCPT TO:<bob@here.test>\r\nDATA\r\n"
        + MESSAGE.encode()
        + b".\r\nQUIT\r\n"
    )
    assert [line[:3] for line in written.split("\r\n") if line[3:4] == " "] == ["250"] * 3 + ["354", "250", "221"]
    assert talk.next is Next.CLOSE and len(await house.inbox("bob@here.test")) == 1


async def test_bdat_ends_in_the_mailbox_as_well(house: House) -> None:
    talk = await house.reception()
    await talk.say("MAIL FROM:<x@there.test> BODY=BINARYMIME", "RCPT TO:<bob@here.test>")
    assert (await talk.send(b"BDAT 9\r\nA: b\r\n\r\nxBDAT 5 LAST\r\n\0\n\r.\r")).endswith("\r\n")
    assert (await house.inbox("bob@here.test"))[0].endswith(b"A: b\r\n\r\nx\0\n\r.\r")


async def test_a_large_message_goes_to_disk_while_it_arrives_and_comes_back_the_same(house: House) -> None:
    house.settings = replace(house.settings, limits=replace(house.settings.limits, memory_per_message=100_000))
    content = MESSAGE.encode() + b"0123456789" * 7 + b"\r\n"
    content += (b"0123456789" * 7 + b"\r\n") * 50_000
    talk = await house.reception()
    assert (await talk.message("x@there.test", "bob@here.test", content=content)).startswith("250")
    (stored,) = await house.inbox("bob@here.test")
    assert stored.endswith(content)


async def test_what_is_pipelined_behind_starttls_is_never_run(house: House) -> None:
    talk = Conversation(house.session(SUBMISSION))
    await talk.open()
    assert "STARTTLS" in await talk.send(b"EHLO x\r\n")
    assert await talk.send(b"STARTTLS\r\nMAIL FROM:<alice@here.test>\r\n") == "220 2.0.0 Ready to start TLS\r\n"
    assert talk.next is Next.START_TLS
    talk.session.tls_started(TLS)
    assert (await talk.say("MAIL FROM:<alice@here.test>")).startswith("503")
    listed = await talk.send(b"EHLO x\r\n")
    assert "AUTH PLAIN LOGIN" in listed and "STARTTLS" not in listed


async def test_neither_starttls_nor_auth_is_the_last_line_of_ehlo(house: House) -> None:
    """GNU SASL's client does not see them there."""
    for protocol in (SMTP, SUBMISSION):
        talk = Conversation(house.session(protocol))
        await talk.open()
        assert "\r\n250-STARTTLS\r\n" in await talk.send(b"EHLO x\r\n")
        talk.session.tls_started(TLS)
        assert protocol is SMTP or "\r\n250-AUTH PLAIN LOGIN\r\n" in await talk.send(b"EHLO x\r\n")


async def test_starttls_is_offered_only_with_a_certificate(house: House) -> None:
    house.settings = replace(house.settings, tls=None)
    for protocol in (SMTP, SUBMISSION):
        talk = Conversation(house.session(protocol))
        await talk.open()
        assert "STARTTLS" not in await talk.send(b"EHLO x\r\n")


async def test_auth_needs_tls_and_mail_needs_auth(house: House) -> None:
    talk = Conversation(house.session(SUBMISSION))
    await talk.open()
    assert "AUTH" not in await talk.send(b"EHLO x\r\n")
    assert (await talk.say("AUTH PLAIN " + plain("alice@here.test"))).startswith("538 5.7.11")
    assert (await talk.say("MAIL FROM:<alice@here.test>")).startswith("530 5.7.0")


@pytest.mark.parametrize(
    ("fault", "reply"),
    [
        (LoginFault.WRONG, "535 5.7.8"),
        (LoginFault.THROTTLED, "454 4.7.0 Too many failed logins; please try again in 7 seconds"),
        (LoginFault.BINDING, "504 5.5.4 unsupported-channel-binding-type"),
        (LoginFault.MALFORMED, "501 5.5.2"),
        (LoginFault.UNAVAILABLE, "454 4.7.0"),
    ],
)
async def test_a_failed_login_is_answered_by_its_kind_and_may_be_tried_again(
    house: House, fault: LoginFault, reply: str
) -> None:
    house.desk.fault = fault
    talk = Conversation(house.session(ListenerProtocol.SUBMISSIONS), structs.replace(CLIENT, tls=TLS))
    await talk.open()
    await talk.say("EHLO laptop.test")
    assert (await talk.say("AUTH PLAIN " + plain("alice@here.test"))).startswith(reply)
    assert (await talk.say("MAIL FROM:<alice@here.test>")).startswith("530")
    house.desk.fault = None
    assert await talk.say("AUTH PLAIN") == "334 "
    assert (await talk.say("*")).startswith("501 5.7.0")
    assert await talk.say("AUTH PLAIN") == "334 "
    assert (await talk.say(plain("alice@here.test"))).startswith("235 2.7.0")
    assert (await talk.say("AUTH PLAIN " + plain("alice@here.test"))).startswith("503")


async def test_a_client_has_as_long_to_log_in_as_it_may_be_silent_and_three_minutes_at_least(house: House) -> None:
    for silence, time in ((300, 300.0), (60, 180.0)):
        limits = replace(house.settings.limits, command_timeout=silence * 1_000_000)
        house.settings = replace(house.settings, limits=limits)
        talk = Conversation(house.session(ListenerProtocol.SUBMISSIONS), structs.replace(CLIENT, tls=TLS))
        await talk.open()
        assert talk.session.lasts == time
        await talk.say("EHLO laptop.test", "AUTH PLAIN " + plain("alice@here.test"))
        assert talk.session.lasts == math.inf
    assert house.session(SMTP).lasts == math.inf


async def test_the_login_desk_itself_lets_a_user_in(house: House) -> None:
    await house.storage.directory.set_credentials("alice@here.test", make_credentials("rabbit hole"))
    desk = LoginDesk(house.storage.directory, now=house.clock)
    house.desk = desk  # type: ignore[assignment]
    talk = Conversation(house.session(ListenerProtocol.SUBMISSIONS), structs.replace(CLIENT, tls=TLS))
    await talk.open()
    assert "AUTH SCRAM-SHA-256 PLAIN LOGIN" in await talk.send(b"EHLO laptop.test\r\n")
    assert (await talk.say("AUTH PLAIN " + plain("alice@here.test", "looking glass"))).startswith("535 5.7.8")
    house.clock.now += 3600 * 1_000_000
    assert (await talk.say("AUTH PLAIN " + plain("alice@here.test", "rabbit hole"))).startswith("235 2.7.0")
    assert (await talk.message("alice@here.test", "bob@here.test")).startswith("250")
    desk.close()


# The disk, and we ourselves.


@pytest.mark.parametrize(
    ("error", "reply"), [(StorageFull("no space"), "452 4.3.1"), (StorageError("EIO"), "451 4.3.0")]
)
async def test_a_disk_that_fails_while_content_arrives_is_answered_at_its_end(
    house: House, error: StorageError, reply: str
) -> None:
    spool = house.watch_spool()
    talk = await house.reception()
    await talk.say("MAIL FROM:<x@there.test>", "RCPT TO:<bob@here.test>", "DATA")
    await talk.send(MESSAGE.encode())
    spool.write_error = error
    assert await talk.send(b"x" * 70_000 + b"\r\n") == ""
    assert not spool.in_use, "the octets go at once"
    spool.write_error = None
    assert (await talk.send(b"more\r\n.\r\n")).startswith(reply)
    assert (await talk.message("x@there.test", "bob@here.test")).startswith("250"), "the session goes on"
    assert len(await house.inbox("bob@here.test")) == 1


@pytest.mark.parametrize(
    ("error", "reply"), [(StorageFull("no space"), "452 4.3.1"), (StorageError("EIO"), "451 4.3.0")]
)
async def test_a_commit_that_fails_is_answered_and_nothing_is_kept(
    house: House, error: StorageError, reply: str, caplog: pytest.LogCaptureFixture
) -> None:
    spool = house.watch_spool()
    spool.accept_error = error
    talk = await house.reception()
    assert (await talk.message("x@there.test", "bob@here.test")).startswith(reply)
    assert not spool.in_use and "storage trouble" in caplog.messages
    spool.accept_error = None
    assert (await talk.message("x@there.test", "bob@here.test")).startswith("250")


async def test_a_disk_that_fails_in_one_packet_with_the_end_is_answered_once(house: House) -> None:
    spool = house.watch_spool()
    spool.write_error = StorageFull("no space")
    talk = await house.reception()
    content = MESSAGE.encode() + b"x" * 9000 + b"\r\n"
    assert (await talk.message("x@there.test", "bob@here.test", content=content)).startswith("452 4.3.1")
    spool.write_error = None
    assert (await talk.message("x@there.test", "bob@here.test", content=content)).startswith("250")


@pytest.mark.parametrize("where", ["hello", "mail", "recipient", "examine"])
async def test_a_bug_of_ours_is_logged_with_its_trace_and_answered_451(
    house: House, where: str, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stumble(*_: object) -> None:
        raise ZeroDivisionError("ours")

    spool = house.watch_spool()
    talk = await house.reception()
    with monkeypatch.context() as broken:
        broken.setattr(ReceptionPolicy, where, stumble)
        if where == "hello":
            assert await talk.say("EHLO x") == "451 4.3.0 Something went wrong on our side; please try later"
        else:
            assert (await talk.message("x@there.test", "bob@here.test")).startswith("451 4.3.0")
    assert any(record.exc_info for record in caplog.records), "with its traceback"
    await talk.say("RSET")
    assert (await talk.message("x@there.test", "bob@here.test")).startswith("250"), "the session goes on"
    assert not spool.in_use


async def test_a_mailbox_that_goes_away_meanwhile_is_a_temporary_failure(house: House) -> None:
    talk = await house.reception()
    await talk.say("MAIL FROM:<x@there.test>", "RCPT TO:<bob@here.test>", "DATA")
    await house.storage.directory.remove_account("bob@here.test")
    assert (await talk.send(MESSAGE.encode() + b".\r\n")).startswith("451")
    assert (await talk.message("x@there.test", "bob@here.test")).startswith("550 5.1.1")


# What is given back.


@pytest.mark.parametrize(
    "ending",
    ["RSET", "EHLO again", "size", "bare", "header", "quit in BDAT", "gone in DATA", "gone in BDAT", "stop", "refused"],
)
async def test_the_octets_of_a_message_are_given_back_on_every_path(house: House, ending: str) -> None:
    limits = replace(house.settings.limits, message_size=50_000, header_size=1000)
    house.settings = replace(house.settings, limits=limits)
    spool = house.watch_spool()
    talk = await house.reception()
    await talk.say("MAIL FROM:<x@there.test>", "RCPT TO:<bob@here.test>")
    if ending in ("RSET", "EHLO again", "quit in BDAT", "gone in BDAT"):
        await talk.send(b"BDAT 9000\r\n" + (MESSAGE.encode() + b"x" * 9000)[:9000])
    else:
        await talk.send(b"DATA\r\n" + MESSAGE.encode() + b"x" * 9000)
    assert len(spool.in_use) == 1
    match ending:
        case "RSET":
            await talk.say("RSET")
        case "EHLO again":
            await talk.say("EHLO x")
        case "size":
            await talk.send(b"x" * 60_000)
        case "bare":
            await talk.send(b"x\ny\r\n")
        case "header":
            await talk.send(b"\r\n.\r\n")
            await talk.say("MAIL FROM:<>", "RCPT TO:<bob@here.test>", "DATA")
            await talk.send(b"A: " + b"x" * 2000)
        case "quit in BDAT":
            await talk.say("QUIT")
        case "gone in DATA" | "gone in BDAT":
            talk.session.receive_eof()
            assert await talk.session.advance() is Next.CLOSE
        case "stop":
            talk.session.shut_down(Ending.STOPPING)
            assert talk.session.take_output().startswith(b"421 4.3.2")
            talk.session.closed()
        case "refused":
            await house.storage.directory.remove_account("bob@here.test")
            assert (await talk.send(b"\r\n.\r\n")).startswith("451")
    assert not spool.in_use
    talk.hang_up()
    assert not spool.in_use and not spool.expected


async def test_a_session_that_is_stopped_while_its_message_is_written_answers_for_it_first(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    spool = house.watch_spool()
    accept = spool.accept
    writing, go_on = asyncio.Event(), asyncio.Event()

    async def slowly(*arguments: Any) -> Any:
        writing.set()
        await go_on.wait()
        return await accept(*arguments)

    monkeypatch.setattr(spool, "accept", slowly)
    talk = await house.reception()
    await talk.say("MAIL FROM:<x@there.test>", "RCPT TO:<bob@here.test>", "DATA")
    sending = asyncio.ensure_future(talk.send(MESSAGE.encode() + b".\r\n"))
    await writing.wait()
    assert talk.session.busy
    talk.session.shut_down(Ending.STOPPING)
    go_on.set()
    stored, farewell, _ = (await sending).split("\r\n")
    assert stored.startswith("250 2.0.0 Ok: queued as")
    assert farewell == "421 4.3.2 The service is stopping; please connect again"
    assert talk.next is Next.CLOSE and not talk.session.busy
    talk.hang_up()
    assert len(await house.inbox("bob@here.test")) == 1 and not spool.in_use


# Before the greeting, and silence.


async def test_who_talks_before_the_greeting_is_sent_away(house: House, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    talk = Conversation(house.session(SMTP, greeting_delay=3600))
    opening = asyncio.ensure_future(talk.open())
    await asyncio.sleep(0)
    talk.session.receive(b"EHLO spammer.test\r\n")
    assert await opening == "554 5.5.1 You spoke before the greeting\r\n"
    assert talk.next is Next.CLOSE and "early talker refused" in caplog.messages


async def test_who_waits_is_greeted(house: House) -> None:
    talk = Conversation(house.session(SMTP, greeting_delay=0.001))
    assert (await talk.open()).startswith("220 ")
    assert (await talk.say("EHLO x")).startswith("250")


async def test_the_wait_before_the_greeting_ends_with_the_connection(house: House) -> None:
    talk = Conversation(house.session(SMTP, greeting_delay=3600))
    opening = asyncio.ensure_future(talk.open())
    await asyncio.sleep(0)
    talk.session.receive_eof()
    assert (await opening).startswith("220") and await talk.session.advance() is Next.CLOSE
    talk = Conversation(house.session(SMTP, greeting_delay=3600))
    opening = asyncio.ensure_future(talk.open())
    await asyncio.sleep(0)
    talk.session.shut_down(Ending.STOPPING)
    assert (await opening).startswith("421") and talk.next is Next.CLOSE


async def test_the_time_to_be_silent_is_shorter_inside_a_message(house: House) -> None:
    talk = await house.reception()
    assert talk.session.timeout == 300.0 and not talk.session.busy
    await talk.say("MAIL FROM:<x@there.test>", "RCPT TO:<bob@here.test>", "DATA")
    assert talk.session.timeout == 180.0 and talk.session.busy
    talk.session.shut_down(Ending.TIMED_OUT)
    assert talk.session.take_output().startswith(b"421 4.4.2")


def patient(house: House) -> None:
    """Bear more commands that lead to nothing than usual."""
    house.settings = replace(house.settings, limits=replace(house.settings.limits, junk_commands=10_000))


async def test_a_client_that_does_not_read_is_waited_for(house: House) -> None:
    patient(house)
    talk = await house.reception()
    drained: list[int] = []

    async def drain() -> None:
        drained.append(len(talk.session.take_output()))

    talk.session.drain = drain
    await talk.send(b"EHLO x\r\n" * 5000)
    assert len(drained) > 50 and max(drained) < 32 * 1024


async def test_a_connection_that_is_lost_while_we_wait_for_its_client_ends_the_session(house: House) -> None:
    patient(house)
    talk = await house.reception()

    async def drain() -> None:
        raise ConnectionResetError

    talk.session.drain = drain
    with pytest.raises(ConnectionResetError):
        await talk.send(b"EHLO x\r\n" * 5000)
    talk.hang_up()


async def test_few_octets_at_a_time_do_not_cost_an_object_each(house: House) -> None:
    spool = house.watch_spool()
    talk = await house.reception()
    await talk.say("MAIL FROM:<x@there.test>", "RCPT TO:<bob@here.test>", "DATA")
    for octet in MESSAGE.encode() + b"0123456789" * 2000:
        await talk.send(bytes([octet]))
    assert spool.made[0].pieces <= 2


async def test_refusals_are_one_line_each_and_words_of_the_peer_stay_in_their_field(
    house: House, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    talk = await house.reception()
    await talk.message("x@there.test", '"a\\ b"@here.test')
    (record,) = [record for record in caplog.records if record.getMessage() == "recipient refused"]
    fields: dict[str, str] = record.fields  # type: ignore[attr-defined]
    assert fields["peer"] == "192.0.2.7" and fields["recipient"] == '"a b"@here.test'
    assert fields["reply"].startswith("550 5.1.1") and fields["sender"] == "x@there.test"


async def test_an_answer_that_was_made_to_wait_leaves_when_its_wait_is_over(house: House) -> None:
    """A client that is gone is noticed by what is written: not only when 32 answers have waited."""
    talk = await house.reception()
    written: list[str] = []

    async def pause(seconds: float) -> None:
        written.append("wait")

    async def drain() -> None:
        written.append(talk.session.take_output().decode())
        if written.count("wait") == 3:
            raise ConnectionResetError("gone")

    talk.session.pause, talk.session.drain = pause, drain
    limit = house.settings.limits.junk_commands
    with pytest.raises(ConnectionResetError):
        await talk.send(b"NOOP\r\n" * (limit + 40))
    assert written[written.index("wait") :][1::2][1:] == ["250 2.0.0 Ok\r\n"] * 2
    assert written[-2] == "wait" and written.count("wait") == 3
