"""Submission: only as oneself, within limits, and complete (RFC 6409)."""

import asyncio
import logging
import threading
from dataclasses import replace
from typing import Any

import pytest
from tests.intake.conversation import NOW, SECOND, House, trace_of

from waypost.config.settings import Submission
from waypost.message.address import AddressError
from waypost.message.headers import HeaderBlock
from waypost.storage import StorageFull
from waypost.submission import SubmissionPolicy
from waypost.submission.completion import prepare

ALICE = "alice@here.test"
ELSEWHERE = "x@there.test"


def limited(house: House, **changes: int) -> None:
    house.settings = replace(house.settings, submission=replace(house.settings.submission, **changes))  # type: ignore[arg-type]


def written(sender: str, *, more: str = "") -> str:
    return f"From: {sender}\r\n{more}Subject: x\r\n\r\nhello\r\n"


# Who may send as whom.


@pytest.mark.parametrize("sender", [ALICE, "ALICE@HERE.test", "alice+news@here.test", "sales@here.test", ""])
async def test_the_reverse_path_is_ones_own_address_or_empty(house: House, sender: str) -> None:
    await house.alias("sales@here.test", ALICE, "x@away.test")
    talk = await house.submission(ALICE)
    assert (await talk.message(sender, ELSEWHERE)).startswith("250 2.0.0")


@pytest.mark.parametrize("sender", ["bob@here.test", "ceo@there.test", "team@here.test", "alice@there.test"])
async def test_nobody_sends_as_another(house: House, sender: str) -> None:
    await house.alias("team@here.test", "bob@here.test")
    talk = await house.submission(ALICE)
    reply = await talk.message(sender, ELSEWHERE)
    assert reply == f"553 5.7.1 {ALICE} may not send as {sender}"
    reply = await talk.message(ALICE, ELSEWHERE, content=written(sender))
    assert reply == f"553 5.7.1 {ALICE} may not send as {sender}"
    reply = await talk.message("", ELSEWHERE, content=written(sender))
    assert reply.startswith("553 5.7.1"), "the null reverse-path makes nobody another"
    reply = await talk.message(ALICE, ELSEWHERE, content=written(ALICE, more=f"Sender: {sender}\r\n"))
    assert reply.startswith("553 5.7.1")
    reply = await talk.message(ALICE, ELSEWHERE, content=written(f"{ALICE}, {sender}", more=f"Sender: {ALICE}\r\n"))
    assert reply.startswith("553 5.7.1")
    assert await house.queued() == []


async def test_the_configuration_allows_more_senders(house: House) -> None:
    send_as = (("Alice@here.test", ("ceo@there.test", "@Exämple.test")),)
    house.settings = replace(house.settings, submission=Submission(send_as=send_as))
    talk = await house.submission(ALICE)
    for sender in ("ceo@there.test", "anybody@xn--exmple-cua.test"):
        assert (await talk.message(sender, ELSEWHERE, content=written(sender))).startswith("250")
    assert (await talk.message("cfo@there.test", ELSEWHERE)).startswith("553 5.7.1")
    bob = await house.submission("bob@here.test")
    assert (await bob.message("ceo@there.test", ELSEWHERE)).startswith("553 5.7.1")


def test_a_sender_in_the_settings_that_is_no_address_is_an_error(house: House) -> None:
    settings = Submission(send_as=((ALICE, ("not an address",)),))
    with pytest.raises(AddressError):
        SubmissionPolicy(
            book=house.book(), directory=house.storage.directory, settings=settings, hostname="mx.here.test"
        )


async def test_an_account_that_is_closed_meanwhile_sends_no_more(house: House) -> None:
    talk = await house.submission(ALICE)
    assert (await talk.message(ALICE, ELSEWHERE)).startswith("250")
    await house.storage.directory.set_disabled(ALICE, True)
    assert (await talk.message(ALICE, ELSEWHERE)).startswith("525 5.7.13")
    await house.storage.directory.remove_account(ALICE)
    assert (await talk.message(ALICE, ELSEWHERE)).startswith("525 5.7.13")


# To whom.


async def test_recipients_may_be_anywhere_and_those_here_must_exist(house: House) -> None:
    await house.storage.directory.set_disabled("bob@here.test", True)
    talk = await house.submission(ALICE)
    await talk.say(f"MAIL FROM:<{ALICE}>")
    assert (await talk.say("RCPT TO:<x@there.test>")).startswith("250")
    assert (await talk.say("RCPT TO:<nobody@here.test>")).startswith("550 5.1.1")
    assert (await talk.say("RCPT TO:<bob@here.test>")).startswith("550 5.2.1")
    assert (await talk.say("RCPT TO:<postmaster>")).startswith("250")
    assert (await talk.say("RCPT TO:<x@[192.0.2.1]>")).startswith("250")
    assert (await talk.say("RCPT TO:<x@printer>")).startswith("554 5.1.2")
    assert (await talk.say("RCPT TO:<x%there.test@here.test>")).startswith("550 5.1.1")


# What becomes of the message.


async def test_a_message_is_completed_and_the_body_is_untouched(house: House) -> None:
    talk = await house.submission(ALICE)
    body = "\r\nBcc: this is text\r\n.\r\n" + "x" * 2000 + "\r\n"
    content = f"Bcc: z@there.test\r\nFrom: Alice <{ALICE}>\r\n" + body
    reply = await talk.message(ALICE, ELSEWHERE, content=content)
    trace = reply.split()[-1]
    stored = (await house.stored(trace_of(reply))).decode()
    received, _, rest = stored.partition("+0000\r\n")
    assert "with ESMTPSA (TLSv1.3" in received and "192.0.2.7" not in received
    assert rest == (
        f"Date: Tue, 24 Nov 2026 06:00:00 +0000\r\nMessage-ID: <{trace}@mx.here.test>\r\n"
        f"From: Alice <{ALICE}>\r\n" + body
    )
    assert await house.storage.journal.find_message_id(f"<{trace}@mx.here.test>") == [trace_of(reply)]


async def test_a_large_message_is_completed_as_well(house: House) -> None:
    house.settings = replace(house.settings, limits=replace(house.settings.limits, memory_per_message=50_000))
    talk = await house.submission(ALICE)
    body = ("x" * 70 + "\r\n") * 10_000
    reply = await talk.message(ALICE, ELSEWHERE, content=f"Bcc: z@there.test\r\nFrom: {ALICE}\r\n\r\n{body}")
    stored = (await house.stored(trace_of(reply))).decode()
    assert stored.endswith(f"From: {ALICE}\r\n\r\n{body}") and "Bcc" not in stored


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("hello\r\n", "This line of the header is not a field: 'hello'"),
        (written(f"{ALICE}\r\nFrom: {ALICE}"), "There is more than one From: field"),
    ],
)
async def test_structural_errors_are_answered_in_clear_text(house: House, content: str, words: str) -> None:
    talk = await house.submission(ALICE)
    assert await talk.message(ALICE, ELSEWHERE, content=content) == f"554 5.6.0 {words}"
    assert await house.queued() == []


async def test_internationalised_mail_must_say_so(house: House) -> None:
    talk = await house.submission(ALICE)
    content = written(ALICE, more="To: Bjørn <bjørn@there.test>\r\n").encode()
    reply = await talk.message(ALICE, ELSEWHERE, content=content)
    assert reply.startswith("554 5.6.0 To: the address bj\\xf8rn@there.test has characters outside ASCII")
    await talk.say(f"MAIL FROM:<{ALICE}>")
    assert (await talk.say("RCPT TO:<bjørn@there.test>")).startswith("553 5.6.7")
    await talk.say("RSET")
    reply = await talk.message(ALICE, "bjørn@there.test", content=content, parameters="SMTPUTF8")
    assert reply.startswith("250")
    (entry,) = await house.queued()
    assert entry.envelope.smtputf8 and b"with UTF8SMTPSA" in await house.stored(entry.trace)


async def test_extensions_are_kept_in_the_envelope(house: House) -> None:
    talk = await house.submission(ALICE)
    parameters = "BY=3600;R RET=HDRS ENVID=abc MT-PRIORITY=3 HOLDFOR=60"
    assert (await talk.message(ALICE, ELSEWHERE, parameters=parameters)).startswith("250 2.0.0 Ok: queued as")
    (entry,) = await house.queued()
    assert entry.envelope.deliver_by and entry.envelope.deliver_by.deadline == NOW + 3600 * SECOND
    assert (entry.envelope.envid, str(entry.envelope.ret), entry.priority) == ("abc", "HDRS", 3)
    assert entry.next_attempt == NOW + 60 * SECOND and entry.account == ALICE


async def test_delivery_before_the_release_is_a_contradiction(house: House) -> None:
    talk = await house.submission(ALICE)
    assert (await talk.say(f"MAIL FROM:<{ALICE}> HOLDFOR=60 BY=60;R")).startswith("501 5.5.4")
    assert (await talk.say(f"MAIL FROM:<{ALICE}> HOLDFOR=60 BY=61;R")).startswith("250")


@pytest.mark.parametrize(("asked", "given"), [(9, 4), (-9, -4)])
async def test_a_priority_beyond_what_users_may_ask_for_is_changed_and_the_reply_says_so(
    house: House, asked: int, given: int
) -> None:
    talk = await house.submission(ALICE)
    reply = await talk.message(ALICE, ELSEWHERE, parameters=f"MT-PRIORITY={asked}")
    assert reply.startswith(f"250 2.3.6 {given} is the new priority; queued as ")
    (entry,) = await house.queued()
    assert entry.priority == entry.envelope.priority == given and trace_of(reply) == entry.trace


@pytest.mark.parametrize(
    ("header", "stored"),
    [
        (
            "From: Alice, Smith <{}>\r\nSubject: Prüfung",
            'From: "Alice, Smith" <{}>\r\nSubject: =?utf-8?q?Pr=C3=BCfung?=',
        ),
        ("From root@host Tue Nov 24 06:00:00 2026\r\nFrom: {0} <{0}>", 'From: "{0}" <{0}>'),
        ("Subject: Backup", "From: {}\r\nSubject: Backup"),
        ("Authentication-Results: mx.here.test; spf=pass\r\nReceived-SPF: pass\r\nFrom: {}", "From: {}"),
    ],
)
async def test_what_scripts_write_is_mended_and_the_body_is_untouched(house: House, header: str, stored: str) -> None:
    talk = await house.submission(ALICE)
    body = "\r\nFrom x\r\nSubject: Prüfung\r\n"
    reply = await talk.message(ALICE, ELSEWHERE, content=(header.format(ALICE) + "\r\n" + body))
    assert reply.startswith("250"), reply
    _, separator, rest = (await house.stored(trace_of(reply))).partition(b"@mx.here.test>\r\n")
    assert separator and rest == (stored.format(ALICE) + "\r\n" + body).encode()
    (entry,) = await house.queued()
    assert not entry.envelope.smtputf8, "no SMTPUTF8 is needed on the way"


async def test_an_author_is_made_up_only_of_an_address_that_the_account_may_use(house: House) -> None:
    await house.alias("sales@here.test", ALICE)
    talk = await house.submission(ALICE)
    reply = await talk.message("sales@here.test", ELSEWHERE, content="Subject: x\r\n\r\nhi\r\n")
    assert b"\r\nFrom: sales@here.test\r\n" in await house.stored(trace_of(reply))
    assert (await talk.message("bob@here.test", ELSEWHERE, content="\r\nhi\r\n")).startswith("553 5.7.1")
    reply = await talk.message("", ELSEWHERE, content="Subject: x\r\n\r\nhi\r\n")
    assert reply == "554 5.6.0 There is no From: field, and MAIL FROM:<> names nobody for it"
    assert len(await house.queued()) == 1


@pytest.mark.parametrize("field", ["Resent-From", "Resent-Sender", "resent-from "])
async def test_nobody_sends_again_as_another(house: House, field: str) -> None:
    talk = await house.submission(ALICE)
    for value in ("bob@here.test", "Bob, B <bob@here.test>", f"{ALICE}, bob@here.test"):
        reply = await talk.message(ALICE, ELSEWHERE, content=written(ALICE, more=f"{field}: {value}\r\n"))
        assert reply == f"553 5.7.1 {ALICE} may not send as bob@here.test"
    assert (await talk.message(ALICE, ELSEWHERE, content=written(ALICE, more=f"{field}: {ALICE}\r\n"))).startswith(
        "250"
    )


async def test_a_reply_about_a_field_names_it_and_what_helps(house: House) -> None:
    talk = await house.submission(ALICE)
    content = f"From: {ALICE}\r\nSubject: Pr\xfcfung\r\n\r\nx\r\n".encode("latin-1")
    assert await talk.message(ALICE, ELSEWHERE, content=content) == (
        "554 5.6.0 Subject: is not UTF-8: write the message in UTF-8 (iconv -t UTF-8 changes the charset of a file), "
        "or encode the field (RFC 2047)"
    )


async def test_a_header_that_takes_long_to_mend_keeps_nobody_waiting(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    others = threading.Event()

    def prepare_late(*arguments: Any, **named: Any) -> HeaderBlock:
        if len(arguments[0].data) > 10_000:
            assert others.wait(30), "another client is served meanwhile"
        return prepare(*arguments, **named)

    monkeypatch.setattr("waypost.submission.policy.prepare", prepare_late)
    alice, bob = await house.submission(ALICE), await house.submission("bob@here.test")
    large = f"From: {ALICE}\r\nTo: " + "Jörg <j@there.test>, " * 600 + "k@there.test\r\n\r\nx\r\n"
    first = asyncio.create_task(alice.message(ALICE, ELSEWHERE, content=large))
    assert (await bob.message("bob@here.test", ELSEWHERE, content=written("bob@here.test"))).startswith("250")
    others.set()
    assert (await first).startswith("250")


async def test_more_addresses_of_ones_own_than_anybody_needs_are_refused_before_they_are_looked_up(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    directory, asked = house.storage.directory, 0
    find = directory.find

    async def count(address: str) -> object:
        nonlocal asked
        asked += 1
        return await find(address)

    monkeypatch.setattr(directory, "find", count)
    talk = await house.submission(ALICE)
    before = asked
    many = ", ".join(f"alice+{number}@here.test" for number in range(13_000))
    reply = await talk.message(
        "", ELSEWHERE, content=written(many[:250_000].rpartition(",")[0], more=f"Sender: {ALICE}\r\n")
    )
    assert reply == "554 5.6.0 The fields that say who sends are longer than 16384 octets" and asked == before


# Limits.


@pytest.mark.parametrize(
    ("limit", "words"),
    [("messages_per_hour", "2 messages an hour"), ("messages_per_day", "2 messages a day")],
)
async def test_messages_are_counted_by_hour_and_day(
    house: House, limit: str, words: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    limited(house, **{limit: 2})
    talk = await house.submission(ALICE)
    for _ in range(2):
        assert (await talk.message(ALICE, ELSEWHERE)).startswith("250")
    reply = await talk.message(ALICE, ELSEWHERE)
    assert reply == f"452 4.7.1 You have reached the limit of {words}; please try later"
    assert "sending limit reached" in caplog.messages and len(await house.queued()) == 2
    bob = await house.submission("bob@here.test")
    assert (await bob.message("bob@here.test", ELSEWHERE, content=written("bob@here.test"))).startswith("250")
    house.clock.now += 3600 * SECOND
    after_an_hour = await talk.message(ALICE, ELSEWHERE)
    house.clock.now += 24 * 3600 * SECOND
    after_a_day = await talk.message(ALICE, ELSEWHERE)
    assert after_an_hour.startswith("250" if "hour" in limit else "452") and after_a_day.startswith("250")


@pytest.mark.parametrize("limit", ["recipients_per_hour", "recipients_per_day"])
async def test_recipients_are_counted_too(house: House, limit: str) -> None:
    limited(house, **{limit: 3})
    talk = await house.submission(ALICE)
    assert (await talk.message(ALICE, "a@x.test", "b@x.test")).startswith("250")
    assert (await talk.message(ALICE, "a@x.test", "b@x.test")).startswith("452 4.7.1 You have reached the limit of 3 r")
    assert (await talk.message(ALICE, "a@x.test")).startswith("250"), "what was refused was not counted"
    assert (await talk.message(ALICE, "a@x.test")).startswith("452")


async def test_what_is_refused_for_another_reason_costs_nothing(house: House) -> None:
    limited(house, messages_per_hour=1)
    spool = house.watch_spool()
    talk = await house.submission(ALICE)
    assert (await talk.message(ALICE, ELSEWHERE, content="no header\r\n")).startswith("554")
    assert (await talk.message(ALICE, ELSEWHERE, content=written("bob@here.test"))).startswith("553")
    spool.accept_error = StorageFull("no space")
    assert (await talk.message(ALICE, ELSEWHERE)).startswith("452 4.3.1")
    spool.accept_error = None
    assert (await talk.message(ALICE, ELSEWHERE)).startswith("250")
    assert (await talk.message(ALICE, ELSEWHERE)).startswith("452 4.7.1")


async def test_the_same_message_again_counts_again(house: House) -> None:
    limited(house, messages_per_hour=2)
    answers = [await (await house.submission(ALICE)).message(ALICE, ELSEWHERE) for _ in range(3)]
    assert [answer[:9] for answer in answers] == ["250 2.0.0", "250 2.0.0", "452 4.7.1"]


async def test_each_message_costs_one_commit(house: House) -> None:
    spool = house.watch_spool()
    talk = await house.submission(ALICE)
    before = house.commits()
    for _ in range(3):
        assert (await talk.message(ALICE, ELSEWHERE)).startswith("250")
    assert house.commits() - before == len(spool.accepted) == 3


async def test_two_that_reach_for_the_last_message_at_once_get_one_of_them(house: House) -> None:
    limited(house, messages_per_hour=1)
    talks = [await house.submission(ALICE) for _ in range(2)]
    answers = await asyncio.gather(*(talk.message(ALICE, ELSEWHERE) for talk in talks))
    assert sorted(answer[:9] for answer in answers) == ["250 2.0.0", "452 4.7.1"] and len(await house.queued()) == 1


async def test_an_account_past_its_limit_writes_nothing_more(house: House) -> None:
    limited(house, messages_per_hour=1)
    policy = house.submission_policy()
    talk = await house.submission(ALICE, policy=policy)
    answers = [await talk.message(ALICE, ELSEWHERE) for _ in range(2)]
    spool, before = house.watch_spool(), house.commits()
    talk = await house.submission(ALICE, policy=policy)
    answers += [await talk.message(ALICE, ELSEWHERE) for _ in range(3)]
    assert [answer[:3] for answer in answers] == ["250", "452", "452", "452", "452"]
    assert spool.accepted == [] and house.commits() == before, "known to be too much before it comes to a commit"


async def test_a_disk_that_fails_when_the_sums_are_asked_for_is_answered(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    limited(house, messages_per_hour=1)
    talk = await house.submission(ALICE)
    assert [(await talk.message(ALICE, ELSEWHERE))[:3] for _ in range(2)] == ["250", "452"]

    async def fail(*_: object) -> None:
        raise StorageFull("no space")

    monkeypatch.setattr(house.storage.directory, "spent", fail)
    assert (await talk.message(ALICE, ELSEWHERE)).startswith("452 4.3.1")
