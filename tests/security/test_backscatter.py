"""Backscatter: who never wrote to us hears nothing from us. What can't be delivered is refused while its true sender
is still on the line."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from tests.security.live import Live, Recorder, host

from waypost.config.settings import ListenerProtocol

CONTENT = b"From: victim@there.test\r\nSubject: buy\r\n\r\nnow\r\n.\r\n"
RECEIPTS = b"".join(
    b"%s: <victim@there.test>\r\n" % name
    for name in (b"Return-Receipt-To", b"Disposition-Notification-To", b"Errors-To", b"Generate-Delivery-Report")
)


@pytest.fixture
async def there() -> AsyncIterator[Recorder]:
    """The mail server of the victim, whose address is forged."""
    async with Recorder().open() as server:
        yield server


@pytest.fixture
async def here(tmp_path: Path, there: Recorder) -> AsyncIterator[Live]:
    async with host(tmp_path, "here.test", next_hop=("there.test", there.port)) as live:
        await live.account("full@here.test", quota=10)
        await live.account("alice@here.test")
        await live.alias("circle@here.test", "circle@here.test")
        yield live


@pytest.mark.parametrize("recipient", ["nobody@here.test", "full@here.test", "circle@here.test", "x@elsewhere.test"])
async def test_a_forged_sender_hears_nothing(here: Live, there: Recorder, recipient: str) -> None:
    wire = await here.client()
    await wire.reply()
    await wire.say("EHLO x.test", "MAIL FROM:<victim@there.test> SIZE=100")
    assert (await wire.say(f"RCPT TO:<{recipient}>"))[:1] in "45"
    assert (await wire.say("DATA")).startswith("554 5.5.1")
    await wire.close()
    await here.idle()
    assert there.heard == []


async def test_a_wish_for_reports_of_success_sends_nothing_to_a_forged_sender(here: Live, there: Recorder) -> None:
    await here.alias("all@here.test", "alice@here.test", "bob@there.test")
    wire = await here.client()
    await wire.reply()
    await wire.say("EHLO x.test", "MAIL FROM:<victim@there.test> RET=FULL BY=3600;NT")
    for recipient in ("alice@here.test", "all@here.test"):
        assert (await wire.say(f"RCPT TO:<{recipient}> NOTIFY=SUCCESS,FAILURE")).startswith("250")
    assert (await wire.content(CONTENT)).startswith("250")
    await wire.close()
    await here.idle()
    assert len(await here.inbox("alice@here.test")) == 1
    assert len(there.contents) == 1 and there.contents[0].endswith(CONTENT), "the alias's copy, and no report"
    assert b"SUCCESS" not in there.heard[0]


@pytest.mark.parametrize(
    ("protocol", "hello"),
    [(ListenerProtocol.SMTP, "EHLO x"), (ListenerProtocol.SMTP, "HELO x"), (ListenerProtocol.LMTP, "LHLO x")],
)
async def test_nobody_whom_a_stranger_names_hears_of_success(
    tmp_path: Path, protocol: ListenerProtocol, hello: str
) -> None:
    """By no parameter of MAIL or RCPT, no field of the header, and no way that an address leads, on either port."""
    recipients = ["alice@here.test", "away@here.test", "group@here.test", "whoever@here.test"]
    async with (
        Recorder("DSN", "DELIVERBY").open() as there,
        host(tmp_path, "here.test", next_hop=("there.test", there.port)) as here,
    ):
        await here.account("alice@here.test")
        await here.alias("away@here.test", "z@there.test")
        await here.alias("group@here.test", "alice@here.test", "away@here.test")
        await here.alias("@here.test", "y@there.test")
        wire = await here.client(protocol)
        await wire.reply()
        await wire.say(hello)
        sent = 0
        for mail in ("<victim@there.test>", "<victim@there.test> RET=FULL ENVID=x", "<victim@there.test> BY=3600;NT"):
            for wishes in ("NOTIFY=SUCCESS", "NOTIFY=SUCCESS,DELAY ORCPT=rfc822;victim@there.test", "notify=success"):
                assert (await wire.say("RSET")).startswith("250")
                if not (await wire.say(f"MAIL FROM:{mail}")).startswith("250"):
                    assert hello.startswith("HELO"), "extensions are there after EHLO and LHLO"
                    continue
                taken = [r for r in recipients if (await wire.say(f"RCPT TO:<{r}> {wishes}")).startswith("250")]
                if not taken:
                    assert hello.startswith("HELO")
                    continue
                await wire.say("DATA")
                await wire.send(RECEIPTS + CONTENT)
                for _ in taken if protocol is ListenerProtocol.LMTP else taken[:1]:
                    assert (await wire.reply()).startswith("250")
                sent += 1
        await wire.close()
        await here.idle()
        heard = b"".join(there.heard).lower()
        assert hello.startswith("HELO") or sent == 9
        assert b"success" not in heard and b"to:<victim@" not in heard
        assert all(content.endswith(CONTENT) for content in there.contents), "copies, and no reports"


async def test_content_that_is_refused_comes_back_in_the_session_only(here: Live, there: Recorder) -> None:
    wire = await here.client()
    await wire.reply()
    await wire.say("EHLO x.test")
    for content in (b"Received: x\r\n" * 60 + CONTENT, b"a\nb\r\n.\r\n", b"A: " + b"b" * 300_000 + b"\r\n" + CONTENT):
        await wire.say("MAIL FROM:<victim@there.test>", "RCPT TO:<alice@here.test>")
        assert (await wire.content(content))[:1] == "5"
    await wire.close()
    await here.idle()
    assert there.heard == [] and await here.inbox("alice@here.test") == []


async def test_the_null_sender_is_never_answered(tmp_path: Path) -> None:
    answers = {"RCPT": "550 5.1.1 no such user\r\n"}
    async with (
        Recorder(answers=answers).open() as there,
        host(tmp_path, "here.test", next_hop=("there.test", there.port)) as here,
    ):
        await here.account("alice@here.test")
        await here.alias("away@here.test", "gone@there.test")
        wire = await here.client()
        await wire.reply()
        await wire.say("EHLO x.test", "MAIL FROM:<>", "RCPT TO:<away@here.test> NOTIFY=FAILURE,DELAY,SUCCESS")
        assert (await wire.content(CONTENT)).startswith("250")
        await wire.close()
        await here.idle()
        assert there.connections >= 1 and there.contents == []
        assert await here.inbox("alice@here.test") == []


async def test_a_recipient_that_is_refused_elsewhere_makes_one_report_and_not_one_for_each_try(tmp_path: Path) -> None:
    answers = {"RCPT": "550 5.1.1 no such user\r\n"}
    async with (
        Recorder(answers=answers).open() as there,
        host(tmp_path, "here.test", next_hop=("there.test", there.port)) as here,
    ):
        await here.account("alice@here.test")
        alice = await here.submitter("alice@here.test")
        await alice.say("MAIL FROM:<alice@here.test>", "RCPT TO:<a@there.test>", "RCPT TO:<b@there.test>")
        await alice.content(b"From: alice@here.test\r\n\r\nhi\r\n.\r\n")
        await alice.close()
        await here.idle()
        assert len(await here.inbox("alice@here.test")) == 1
