"""Header and log injection: the words of peers stay words, wherever they are shown. (What commands print, `tests/cli`
looks at.)"""

import json
import logging
from pathlib import Path

import pytest
from tests.security.live import Live, Recorder, host

from waypost.message.headers import HeaderBlock
from waypost.message.structure import scan_structure
from waypost.service.machine.logging import HumanFormatter, JsonFormatter

HOSTILE = (
    '\x1b[2J\x1b]0;owned\x07 \u202etxt.exe\u2028Action: delivered \x85 \x9b31m forged="yes" \\r\\nBcc: all@here.test'
)
"""What a peer may write into a line of its own: no line end, but all that makes one or moves a cursor."""


async def relayed(here: Live) -> None:
    """Submit a message for elsewhere; return when it has gone or come back."""
    alice = await here.submitter("alice@here.test")
    await alice.say("MAIL FROM:<alice@here.test>", "RCPT TO:<bob@there.test>")
    await alice.content(b"From: alice@here.test\r\nSubject: tea\r\n\r\nhi\r\n.\r\n")
    await alice.close()
    await here.idle()


@pytest.mark.parametrize("stage", ["GREETING", "MAIL", "RCPT", "CONTENT"])
async def test_a_servers_words_forge_nothing(tmp_path: Path, stage: str, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG, "waypost")
    answers = {stage: f"550-5.7.1 {HOSTILE}\r\n550 5.7.1 second\r\n"}
    async with (
        Recorder("PIPELINING", answers=answers).open() as there,
        host(tmp_path, "here.test", next_hop=("there.test", there.port)) as here,
    ):
        await here.account("alice@here.test")
        await relayed(here)
        [report] = await here.inbox("alice@here.test")
    # The report: its own fields, three parts, one group of fields for the one recipient.
    assert b"\x1b" not in report and b"\x07" not in report and b"\xe2\x80\xae" not in report and b"\x9b" not in report
    assert not HeaderBlock(report).problems and HeaderBlock(report).count(b"bcc") == 0
    structure = scan_structure(report)
    assert [part.content_type.value for part in structure.root.parts][:2] == ["text/plain", "message/delivery-status"]
    status = report[structure.root.parts[1].body : structure.root.parts[1].end]
    assert status.lower().count(b"\r\naction:") == 1 and b"Action: failed" in status
    # The log: a line an event, and nothing a terminal acts on.
    for record in caplog.records:
        for formatter in (HumanFormatter(colour=False), JsonFormatter()):
            assert formatter.format(record).isprintable()
    json.loads(JsonFormatter().format(caplog.records[-1]))


@pytest.mark.parametrize(
    "helo", ["a(b)c\\d", "x;y=z", "mx.far.test\twith\tESMTP", "[127.0.0.1]", "by mx.here.test (Waypost)", "é" * 200]
)
async def test_a_clients_name_forges_no_trace_field(tmp_path: Path, helo: str) -> None:
    async with host(tmp_path, "here.test") as here:
        await here.account("alice@here.test")
        wire = await here.client()
        await wire.reply()
        if (await wire.say(f"EHLO {helo}")).startswith("250"):
            await wire.say("MAIL FROM:<x@far.test>", "RCPT TO:<alice@here.test>")
            await wire.content(b"Subject: x\r\n\r\nhi\r\n.\r\n")
            [message] = await here.inbox("alice@here.test")
            block = HeaderBlock(message)
            assert block.count(b"received") == 1 and not block.problems
            [received] = block.get_all(b"received")
            name = received.split(b" (")[0].removeprefix(b"from ")
            assert b"(" not in name and b";" not in name and b" " not in name
            assert received.count(b"by mx.here.test (Waypost)") == 1, "a loop can't be feigned"
        await wire.close()


@pytest.mark.parametrize(
    "line",
    [
        "EHLO \x1b[2J",
        "EHLO a\u2028b",
        "MAIL FROM:<a\x1b@far.test>",
        "MAIL FROM:<\x85@far.test> SMTPUTF8",
        "MAIL FROM:<a@far.test> ENVID=x+0D+0AAction:+20delivered",
        "MAIL FROM:<a@[\x1b[2J]>",
        "AUTH \x1b[2J",
        "\x1b[2J",
        "HELP \x9b2J",
        "VRFY \u202e",
    ],
)
async def test_a_clients_words_come_back_without_control_characters(
    tmp_path: Path, line: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG, "waypost")
    async with host(tmp_path, "here.test") as here:
        wire = await here.client()
        await wire.reply()
        await wire.say("EHLO x.test")
        reply = await wire.say(line)
        assert reply.isprintable() and reply[:1] in "25"
        await wire.close()
    assert all(JsonFormatter().format(record).isprintable() for record in caplog.records)


async def test_a_recipients_parameters_forge_no_report(tmp_path: Path) -> None:
    async with host(tmp_path, "here.test") as here:
        await here.account("alice@here.test")
        alice = await here.submitter("alice@here.test")
        await alice.say("MAIL FROM:<alice@here.test> ENVID=x+20y")
        for original in ("rfc822;x+0D+0AAction:+20failed", "rfc822;x+00", "utf-8;\\x{D}\\x{A}"):
            reply = await alice.say(f"RCPT TO:<alice@here.test> NOTIFY=SUCCESS ORCPT={original}")
            assert reply.startswith("501")
        await alice.say("RCPT TO:<alice@here.test> NOTIFY=SUCCESS ORCPT=x+0Ay;Action:failed")
        await alice.content(b"From: alice@here.test\r\n\r\nhi\r\n.\r\n")
        await here.idle()
        report = next(message for message in await here.inbox("alice@here.test") if b"multipart/report" in message)
        root = scan_structure(report).root
        status = report[root.parts[1].body : root.parts[1].end]
        assert [line.split(b":")[0] for line in status.split(b"\r\n")].count(b"Action") == 1
        await alice.close()
