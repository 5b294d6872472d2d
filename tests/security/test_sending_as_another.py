"""Nobody sends as another by what is mended: whatever a submitter writes, what is taken names himself alone."""

import re
from email import message_from_string, policy
from email.message import EmailMessage
from pathlib import Path

import pytest
from tests.security.live import Live, host

ALICE = "alice@here.test"
OTHERS = "ceo@there.test"

FROMS = [
    # Two fields, one of which might vanish or appear when the header is mended.
    f"From: {ALICE}\r\nFrom: {OTHERS}",
    f"From: {OTHERS}\r\nFrom : {ALICE}",
    f"From: {ALICE}\r\nfrom\t:\r\n {OTHERS}",
    f"From:\r\nFrom: {OTHERS}",
    f"From {ALICE} Tue Nov 24 06:00:00 2026\r\nFrom: {OTHERS}",
    f"From {OTHERS} Tue Nov 24 06:00:00 2026\r\nFrom: {ALICE}\r\nFrom: {OTHERS}",
    f"From {ALICE}\r\n folded\r\nFrom: {OTHERS}",
    f"From {ALICE}\r\nFrom {ALICE}\r\nFrom: {OTHERS}",
    f">From {ALICE}\r\nFrom: {OTHERS}",
    f" From: {OTHERS}\r\nFrom: {ALICE}",
    f"Subject: x\r\n \r\nFrom: {OTHERS}",
    # Comments, white space, routes.
    f"From: {OTHERS}({ALICE})",
    f"From: ({ALICE}) {OTHERS}",
    f"From: ceo(x)@(y)there.test <{ALICE}>",
    "From: ceo @ there . test",
    f"From: <@here.test,@x.test:{OTHERS}>",
    f"From: <@{ALICE}:{OTHERS}>",
    f"From: <{ALICE}:{OTHERS}>",
    f"From: <(<{ALICE}>){OTHERS}>",
    f"From: {ALICE}(\r\n)\r\n ,{OTHERS}",
    # Names, quotes, groups, lists.
    f"From: {OTHERS} <{ALICE}>",
    f"From: {ALICE}, {OTHERS} <{ALICE}>",
    f"From: {OTHERS}, Alice <{ALICE}>",
    f"From: Alice, {OTHERS}",
    f'From: "{ALICE}" <{OTHERS}>',
    f'From: "Alice" {OTHERS}',
    f"From: Alice {OTHERS}",
    f'From: "{OTHERS}"[ <{ALICE}>',
    f'From: "{ALICE} <{OTHERS}>',
    f"From: {OTHERS}: {ALICE};",
    f"From: {ALICE}: {OTHERS};",
    f"From: Alice: {OTHERS}",
    f'From: "{OTHERS}":;\r\nSender: {ALICE}',
    f"From: {OTHERS}:;\r\nSender: {ALICE}",
    f"From: Board:;\r\nSender: {OTHERS}",
    "From: Board:;",
    f"From: <{ALICE}> <{OTHERS}>",
    f"From: <{ALICE}>,<{OTHERS}>",
    f"From: <{ALICE}<{OTHERS}>>",
    f"From: {ALICE}; {OTHERS}",
    f"From: {ALICE} {OTHERS}",
    f"From: {ALICE}@there.test",
    "From: <ceo@there.test",
    "From: ceo@there.test.",
    # Encoded words that decode to addresses, or have no end.
    "From: =?utf-8?q?ceo=40there.test?=",
    f"From: =?utf-8?q?ceo=40there.test?=[ <{ALICE}>",
    "From: =?utf-8?q?ceo?=@there.test",
    f'From: "=?utf-8?q?" <?={ALICE}>',
    f'From: =?utf-8?q?"?={OTHERS} " <{ALICE}>',
    f'From: "=?utf-8?q?"?= {OTHERS} <{ALICE}>',
    f"From: =?utf-8?q?(?= {OTHERS} =?utf-8?q?)?= <{ALICE}>",
    f"From: =?utf-8?q?{OTHERS},_?= <{ALICE}>",
    f"From: =?utf-8?q?=22?= <{OTHERS}> =?utf-8?q?=22?= <{ALICE}>",
    "From: =?utf-8?q?alice?= =?utf-8?q?=40here.test?= <ceo@there.test>",
    # Those who send it for others, or again.
    f"From: {ALICE}\r\nSender: {OTHERS}",
    f"From: {ALICE}\r\nSender: {OTHERS} <{OTHERS}>",
    f"From: {ALICE}\r\nResent-From: {OTHERS}",
    f"From: {ALICE}\r\nResent-From: {ALICE}\r\nResent-From: CEO, Big <{OTHERS}>",
    f"From: {ALICE}\r\nResent-Sender : {OTHERS}",
    # Letters that look alike.
    "From: ceo＠there.test",
    f"From: ceo＠there.test <{ALICE}",
    "From: alice@hėre.test",
    "From: аlice@here.test",
]


def senders(content: bytes) -> list[str]:
    """Return whom another reader takes for the senders of a message."""
    parsed = message_from_string(content.decode(), EmailMessage, policy=policy.SMTPUTF8)
    names = ("From", "Sender", "Resent-From", "Resent-Sender")
    return [one.addr_spec for name in names for value in parsed.get_all(name, []) for one in value.addresses]


async def told(here: Live, header: str, parameters: str = "") -> list[bytes]:
    """Submit a message as alice; return what arrived of it: nothing where it was refused."""
    alice = await here.submitter(ALICE)
    await alice.say(f"MAIL FROM:<{ALICE}> {parameters}".strip(), "RCPT TO:<bob@here.test>")
    reply = await alice.content(header.encode() + b"\r\nX-Tail: y\r\n\r\nbody\r\n.\r\n")
    await alice.close()
    arrived = await here.inbox("bob@here.test")
    assert reply[:3] in ("250", "553", "554") and len(arrived) == (reply[:3] == "250"), reply
    return arrived


@pytest.mark.parametrize("header", FROMS)
@pytest.mark.parametrize("parameters", ["", "SMTPUTF8"])
async def test_no_form_of_from_makes_somebody_another(tmp_path: Path, header: str, parameters: str) -> None:
    async with host(tmp_path, "here.test") as here:
        await here.account(ALICE)
        await here.account("bob@here.test")
        for content in await told(here, header, parameters):
            assert set(senders(content)) == {ALICE}
            assert len(re.findall(rb"(?im)^from[ \t]*:", content)) == 1 and not re.search(rb"(?m)^>?From ", content)


LINE_ENDS = [
    b"From: alice@here.test\r\nX: a\nFrom: ceo@there.test\r\n",
    b"From: alice@here.test\r\nX: a\rFrom: ceo@there.test\r\n",
    b"From: alice@here.test\r\nX: a\r\r\nFrom: ceo@there.test\r\n",
    b"From alice@here.test\nFrom: ceo@there.test\r\n",
    b"From alice@here.test\rFrom: ceo@there.test\r\n",
    b"From: A,\n B <alice@here.test>\nFrom: ceo@there.test\n",
    b"From: A, B <alice@here.test>\x00\r\nSubject: x\r\n",
    b"From: A\x0bB, <alice@here.test>\r\n",
    "From: A\u2028From: ceo@there.test, B <alice@here.test>\r\n".encode(),
    "From: A\x85, B <alice@here.test>\r\n".encode(),
]


@pytest.mark.parametrize("header", LINE_ENDS)
@pytest.mark.parametrize("body", ["8BITMIME", "BINARYMIME"])
async def test_no_line_end_hides_a_second_header(tmp_path: Path, header: bytes, body: str) -> None:
    async with host(tmp_path, "here.test") as here:
        await here.account(ALICE)
        await here.account("bob@here.test")
        alice = await here.submitter(ALICE)
        await alice.say(f"MAIL FROM:<{ALICE}> BODY={body}", "RCPT TO:<bob@here.test>")
        content = header + b"X-Tail: y\r\n\r\nbody\r\n"
        await alice.send(b"BDAT %d LAST\r\n" % len(content) + content)
        reply = await alice.reply()
        await alice.close()
        arrived = await here.inbox("bob@here.test")
        assert len(arrived) == (reply[:3] == "250"), reply
        for message in arrived:
            assert set(senders(message)) == {ALICE} and message.lower().count(b"\r\nfrom:") == 1
