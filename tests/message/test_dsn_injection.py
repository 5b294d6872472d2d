"""Whatever peers say and addresses hold, a report has one field of each name, and lines that SMTP can carry."""

import re
from dataclasses import replace
from email import message_from_bytes, policy
from email.message import Message

from hypothesis import given
from hypothesis import strategies as st
from msgspec import structs

from waypost.message.address import Address
from waypost.message.dsn import compose
from waypost.message.dsn_fields import field, neutral, passes_smtp, quoted_printable, whole_field
from waypost.message.envelope import Envelope, OriginalRecipient, Recipient
from waypost.message.report import Action, Concerned, Report
from waypost.message.trace import TraceId

HEADER = b"Message-ID: <a@b>\r\nSubject: hi\r\n\r\n"
HOSTILE = st.one_of(
    st.text(max_size=300),
    st.text(alphabet="a \r\n\t\0:\x1b\u2028\u202e\x85é", max_size=60),
    st.sampled_from(
        [
            "550 no\r\nAction: delivered\r\n\r\nFinal-Recipient: rfc822; x@y",
            "\r\n\r\n--=_boundary",
            "\n.\n",
            "x" * 5000,
            "\ud800",
            "é" * 3000,
            " " * 2000,
        ]
    ),
)
ADDRESSES = st.one_of(
    st.just(Address.parse("bob@builder.test")),
    st.just(Address.parse("bob@bücher.test")),
    st.builds(Address, HOSTILE, st.just("builder.test")),
)
CONCERNED = st.builds(
    Concerned,
    st.builds(Recipient, ADDRESSES, st.none(), st.none() | st.builds(OriginalRecipient, HOSTILE, HOSTILE)),
    st.sampled_from(["5.1.1", "5.4.7", "4.2.2", "2.0.0", "nonsense"]),
    st.none() | HOSTILE,
    st.none() | HOSTILE,
)
REPORTS = st.builds(
    Report,
    action=st.sampled_from(Action),
    trace=st.just(TraceId(1 << 60)),
    date=st.just(1_795_539_446_000_000),
    hostname=st.just("mx.wonderland.test"),
    to=st.sampled_from([Address.parse("alice@wonderland.test"), Address.parse("élise@wonderland.test")]),
    about=st.just(TraceId(1 << 59)),
    envelope=st.builds(Envelope, st.none(), envid=st.none() | HOSTILE, smtputf8=st.booleans()),
    arrived=st.just(1_795_539_000_000_000),
    concerned=st.lists(CONCERNED, min_size=1, max_size=3).map(tuple),
    header=st.one_of(st.just(HEADER), st.just(b""), st.binary(max_size=200)),
    content=st.one_of(st.none(), st.just(HEADER + b"hello\r\n"), st.binary(min_size=1, max_size=200)),
    remote=st.none() | HOSTILE,
    last_attempt=st.none() | st.just(1_795_539_445_000_000),
    retry_until=st.none() | st.just(1_795_539_999_000_000),
)


def parts_of(octets: bytes) -> list[tuple[Message, bytes]]:
    """Split a report by its delimiter; return head and decoded body of each part."""
    boundary = message_from_bytes(octets).get_boundary()
    assert boundary is not None
    found = []
    for part in octets.split(b"--" + boundary.encode())[1:-1]:
        head, _, body = part.removeprefix(b"\r\n").partition(b"\r\n\r\n")
        message = message_from_bytes(b"Content-Type: text/plain\r\n" + head.partition(b"\r\n")[2] + b"\r\n\r\n" + body)
        decoded = message.get_payload(decode=True)
        assert isinstance(decoded, bytes)
        found.append((message_from_bytes(head + b"\r\n\r\n"), decoded.removesuffix(b"\r\n")))
    return found


@given(REPORTS)
def test_a_report_parses_back_with_one_field_of_each_name(report: Report) -> None:
    report = replace(report, envelope=structs.replace(report.envelope, reverse_path=report.to))
    dsn = compose(report)
    assert passes_smtp(dsn.octets)
    assert dsn.eight_bit or dsn.octets.isascii()
    message = message_from_bytes(dsn.octets, policy=policy.SMTP)
    assert not message.defects
    names = [name.lower() for name in message]
    assert len(names) == len(set(names))
    assert set(names) <= {
        *("from", "to", "subject", "date", "message-id", "in-reply-to", "references", "auto-submitted"),
        *("mime-version", "content-type", "content-transfer-encoding"),
    }
    parts = parts_of(dsn.octets)
    assert len(parts) in (2, 3)
    blocks = parts[1][1].rstrip(b"\r\n").split(b"\r\n\r\n")
    assert len(blocks) == 1 + len(report.concerned)
    for block in blocks:
        fields = [line.partition(b":")[0].lower() for line in block.split(b"\r\n") if not line.startswith(b" ")]
        assert len(fields) == len(set(fields))
        assert all(re.fullmatch(rb"[a-z-]+", name) for name in fields)
    for block in blocks[1:]:
        actions = re.findall(rb"(?m)^Action: ([^\r]*)", block)
        assert actions == [report.action.value.encode()]


@given(HOSTILE)
def test_neutral_text_is_one_printable_line(text: str) -> None:
    assert neutral(text).isprintable()


@given(st.from_regex(r"[A-Z][a-z-]{0,20}", fullmatch=True), HOSTILE)
def test_a_field_is_one_field_in_lines_that_mail_can_carry(name: str, value: str) -> None:
    for written in (field(name, value), whole_field(name, value)):
        lines = written.encode().split(b"\r\n")
        assert lines.pop() == b""
        assert lines[0].startswith(name.encode() + b":")
        assert all(line.startswith(b" ") and line.strip() for line in lines[1:])
        assert passes_smtp(written.encode())


@given(st.binary(max_size=400))
def test_quoted_printable_gives_the_octets_back(data: bytes) -> None:
    encoded = quoted_printable(data)
    assert passes_smtp(encoded) and encoded.isascii()
    assert all(len(line) <= 76 for line in encoded.split(b"\r\n"))
    joined = encoded.replace(b"=\r\n", b"")
    assert re.sub(rb"=([0-9A-F]{2})", lambda found: bytes([int(found[1], 16)]), joined) == data
