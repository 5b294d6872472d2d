"""What MAIL and RCPT say to a server, by what it offers, and what it can't be given at all."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace
from tests.protocol.smtp_talk import BOB, CONTENT, ENVELOPE, NOW, SECOND, Talk

from waypost.message.address import Address
from waypost.message.envelope import BodyType, DeliverBy, Envelope, Notify, OriginalRecipient, Recipient, Ret
from waypost.protocol.smtp.capabilities import Capabilities, parse_capabilities
from waypost.protocol.smtp.outgoing import scan
from waypost.protocol.smtp.transaction import CommandPlan, Refusal, plan_transaction

EIGHT_BIT = "Subject: tea\r\n\r\nGrüße\r\n".encode()
UTF8_HEADER = "Subject: Grüße\r\n\r\nhi\r\n".encode()
BINARY = b"Subject: tea\r\n\r\n\0\x01\n\xff"
JOERG = Address.parse("jörg@server.test")
BUECHER = Address.parse("buch@bücher.test")


def plan(
    *offers: str,
    envelope: Envelope = ENVELOPE,
    recipients: tuple[Recipient, ...] = BOB,
    content: bytes = CONTENT,
) -> CommandPlan | Refusal:
    server = parse_capabilities(["server.test", *offers])
    return plan_transaction(envelope, recipients, scan(content), server, NOW)


def mail(*offers: str, envelope: Envelope = ENVELOPE, content: bytes = CONTENT) -> str:
    """The parameters of MAIL."""
    found = plan(*offers, envelope=envelope, content=content)
    assert isinstance(found, CommandPlan), found
    line = found.mail.decode()
    assert line.startswith("MAIL FROM:<alice@client.test>") and line.endswith("\r\n")
    return line[29:-2]


def rcpt(recipient: Recipient, *offers: str, envelope: Envelope = ENVELOPE) -> str:
    """The argument of RCPT, or the refusal."""
    found = plan(*offers, envelope=envelope, recipients=(recipient,))
    assert isinstance(found, CommandPlan), found
    [line], [refused] = found.rcpt, found.refused
    return line.decode()[8:-2] if line is not None else str(refused)


def refusal(*offers: str, envelope: Envelope = ENVELOPE, content: bytes = CONTENT) -> str:
    """Why nothing may be sent."""
    found = plan(*offers, envelope=envelope, content=content)
    assert isinstance(found, Refusal), found
    return f"{found.reply.code} {found.reply.enhanced}"


# -- EHLO ------------------------------------------------------------------------------------------------------


def test_what_a_server_offers_is_read() -> None:
    read = parse_capabilities(
        ["server.test greets", "pipelining", "SIZE 1000", "8BITMIME", "CHUNKING", "BINARYMIME", "SMTPUTF8", "DSN"]
        + ["STARTTLS", "AUTH PLAIN", "auth login", "LIMITS MAILMAX=5 rcptmax=10 X=y", "DELIVERBY 60"]
        + ["FUTURERELEASE 3600 2030-01-01T00:00:00Z", "", "  "]
    )
    assert read.pipelining and read.eight_bit and read.chunking and read.binary and read.smtputf8 and read.dsn
    assert (read.size, read.rcpt_max, read.mail_max) == (1000, 10, 5)
    assert read.starttls and read.mechanisms == {"PLAIN", "LOGIN"}
    assert (read.deliver_by, read.max_hold) == (60, 3600)


def test_binarymime_without_chunking_can_not_be_used() -> None:
    assert not parse_capabilities(["server.test", "BINARYMIME"]).binary


@pytest.mark.parametrize(
    "value", ["RCPTMAX=0", "RCPTMAX=", "RCPTMAX", "RCPTMAX=-1", "RCPTMAX=1e3", "RCPTMAX=" + "9" * 99]
)
def test_a_limit_that_makes_no_sense_is_no_limit(value: str) -> None:
    assert parse_capabilities(["server.test", f"LIMITS {value}"]).rcpt_max is None


@given(st.lists(st.text()))
def test_no_line_of_ehlo_crashes_the_reader(lines: list[str]) -> None:
    assert isinstance(parse_capabilities(lines), Capabilities)


# -- RFC 1870, 6152, 3030 --------------------------------------------------------------------------------------


def test_nothing_is_said_that_was_not_offered() -> None:
    envelope = replace(ENVELOPE, ret=Ret.FULL, envid="x", priority=4, deliver_by=DeliverBy(NOW + 9 * SECOND, "N"))
    assert mail(envelope=envelope) == ""
    assert (
        rcpt(replace(BOB[0], notify=Notify.NEVER, original=OriginalRecipient("rfc822", "b@x"))) == "<bob@server.test>"
    )


def test_the_size_is_declared_and_a_limit_is_kept() -> None:
    assert mail("SIZE") == f" SIZE={len(CONTENT)}"
    assert mail(f"SIZE {len(CONTENT)}") == f" SIZE={len(CONTENT)}"
    assert refusal(f"SIZE {len(CONTENT) - 1}") == "552 5.3.4"
    assert mail("SIZE 0") == f" SIZE={len(CONTENT)}", "RFC 1870 section 4: 0 is no limit"


def test_8_bit_content_needs_8bitmime() -> None:
    assert mail("8BITMIME", content=EIGHT_BIT) == " BODY=8BITMIME"
    assert mail("8BITMIME") == ""
    assert refusal(content=EIGHT_BIT) == "554 5.6.3"
    assert refusal(content=EIGHT_BIT, envelope=replace(ENVELOPE, body=BodyType.SEVEN_BIT)) == "554 5.6.3"


def test_binary_content_needs_binarymime_and_goes_by_bdat() -> None:
    binary = replace(ENVELOPE, body=BodyType.BINARY)
    assert mail("CHUNKING", "BINARYMIME", envelope=binary, content=BINARY) == " BODY=BINARYMIME"
    assert refusal("CHUNKING", "8BITMIME", envelope=binary, content=BINARY) == "554 5.6.3"
    assert mail("8BITMIME", envelope=binary, content=EIGHT_BIT) == " BODY=8BITMIME", "not binary after all"
    talk = Talk("CHUNKING", "BINARYMIME")
    talk.engine.begin(binary, BOB, BINARY)
    talk.said()
    talk.hear("250 ok")
    assert talk.hear("250 ok") == b"BDAT %d LAST\r\n" % len(BINARY) + BINARY


@pytest.mark.parametrize("content", [BINARY, b"a\nb\r\n", b"a\rb\r\n", b"a\r\n\0\r\n", b"a\r", b"\r\r\n"])
def test_a_bare_line_end_or_nul_never_leaves(content: bytes) -> None:
    assert refusal("8BITMIME", "CHUNKING", "BINARYMIME", content=content) == "554 5.6.1"


# -- SMTPUTF8 (RFC 6531) ---------------------------------------------------------------------------------------


def test_an_address_outside_ascii_needs_smtputf8() -> None:
    assert rcpt(Recipient(JOERG), "SMTPUTF8") == "<jörg@server.test>"
    assert rcpt(Recipient(JOERG)).startswith("553 5.6.7")
    assert mail("SMTPUTF8", envelope=replace(ENVELOPE, smtputf8=True)) == " SMTPUTF8"
    found = plan(envelope=Envelope(JOERG))
    assert isinstance(found, Refusal) and str(found.reply).startswith("553 5.6.7")


def test_only_the_recipients_that_need_smtputf8_fail_without_it() -> None:
    found = plan(recipients=(Recipient(JOERG), *BOB))
    assert isinstance(found, CommandPlan)
    assert found.rcpt == (None, b"RCPT TO:<bob@server.test>\r\n")
    assert found.refused[1] is None


def test_when_every_recipient_fails_nothing_is_sent() -> None:
    talk = Talk("PIPELINING")
    assert talk.begin((Recipient(JOERG),)) == b""
    assert talk.fates[0].startswith("(553 5.6.7") and not talk.ended.dsn
    assert talk.begin() != b"", "the session goes on"


def test_a_domain_outside_ascii_has_a_form_in_ascii() -> None:
    assert rcpt(Recipient(BUECHER)) == "<buch@xn--bcher-kva.test>"
    found = plan(envelope=Envelope(BUECHER))
    assert isinstance(found, CommandPlan) and found.mail == b"MAIL FROM:<buch@xn--bcher-kva.test>\r\n"


def test_a_header_outside_ascii_needs_smtputf8() -> None:
    utf8 = replace(ENVELOPE, smtputf8=True)
    assert mail("8BITMIME", "SMTPUTF8", envelope=utf8, content=UTF8_HEADER) == " BODY=8BITMIME SMTPUTF8"
    assert refusal("8BITMIME", envelope=utf8, content=UTF8_HEADER) == "550 5.6.9"
    assert refusal(envelope=utf8, content=UTF8_HEADER) == "550 5.6.9", "of two reasons, the one that a person can mend"
    found = plan("8BITMIME", envelope=utf8, content=UTF8_HEADER, recipients=(Recipient(JOERG),))
    assert isinstance(found, Refusal) and str(found.reply).startswith("553 5.6.7"), "the header names him, mostly"
    assert mail("8BITMIME", envelope=utf8, content=EIGHT_BIT) == " BODY=8BITMIME", "only the body is UTF-8"


# -- DSN (RFC 3461) --------------------------------------------------------------------------------------------


def test_dsn_parameters_are_passed_on() -> None:
    envelope = replace(ENVELOPE, ret=Ret.HEADERS, envid="Ä+b=")
    assert mail("DSN", envelope=envelope) == " RET=HDRS ENVID=+C3+84+2Bb+3D"
    recipient = replace(
        BOB[0], notify=Notify.SUCCESS | Notify.DELAY, original=OriginalRecipient("rfc822", "bob+x@old.test")
    )
    assert rcpt(recipient, "DSN") == "<bob@server.test> NOTIFY=SUCCESS,DELAY ORCPT=rfc822;bob+2Bx@old.test"
    assert rcpt(replace(BOB[0], notify=Notify.NEVER), "DSN") == "<bob@server.test> NOTIFY=NEVER"


@pytest.mark.parametrize("offers", [("DSN",), ("DSN", "SMTPUTF8")])
def test_an_original_recipient_outside_ascii_is_coded(offers: tuple[str, ...]) -> None:
    recipient = replace(BOB[0], original=OriginalRecipient("rfc822", "jörg=+\\@x"))
    expected = "<bob@server.test> ORCPT=utf-8;j\\x{F6}rg\\x{3D}\\x{2B}\\x{5C}@x"  # RFC 6533 section 3
    assert rcpt(recipient, *offers) == expected


def test_who_got_the_dsn_parameters_is_told() -> None:
    for offers in (("PIPELINING",), ("PIPELINING", "DSN")):
        talk = Talk(*offers)
        talk.begin()
        talk.hear("250 ok", "250 ok", "354 go", "250 taken")
        assert talk.ended.dsn == ("DSN" in offers)


# -- DELIVERBY, FUTURERELEASE, MT-PRIORITY (RFC 2852, 4865, 6710) ----------------------------------------------


def by(seconds: int, mode: str, *, trace: bool = False) -> Envelope:
    return replace(ENVELOPE, deliver_by=DeliverBy(NOW + seconds * SECOND, "R" if mode == "R" else "N", trace))


def test_the_time_that_is_left_is_passed_on() -> None:
    assert mail("DELIVERBY", envelope=by(90, "R")) == " BY=90;R"
    assert mail("DELIVERBY", envelope=by(90, "N", trace=True)) == " BY=90;NT"
    assert mail("DELIVERBY", envelope=by(-5, "N")) == " BY=-5;N", "late already: the next hop tells of the delay"
    assert mail(envelope=by(90, "N")) == ""


def test_return_rather_than_delay_is_kept() -> None:
    assert refusal("DELIVERBY", envelope=by(0, "R")) == "554 5.4.7"
    assert refusal("DELIVERBY 60", envelope=by(59, "R")) == "554 5.4.7"
    assert mail("DELIVERBY 60", envelope=by(60, "R")) == " BY=60;R"
    assert refusal(envelope=by(60, "R")) == "554 5.3.3"


def test_a_hold_is_passed_on_where_it_is_offered_and_not_too_long() -> None:
    held = replace(ENVELOPE, hold_until=NOW + 60 * SECOND)
    assert mail("FUTURERELEASE 60 2030-01-01T00:00:00Z", envelope=held) == " HOLDFOR=60"
    assert mail("FUTURERELEASE 59 2030-01-01T00:00:00Z", envelope=held) == ""
    assert mail(envelope=held) == ""
    assert mail("FUTURERELEASE 60", envelope=replace(ENVELOPE, hold_until=NOW)) == ""


def test_a_priority_is_passed_on() -> None:
    assert mail("MT-PRIORITY MIXER", envelope=replace(ENVELOPE, priority=-3)) == " MT-PRIORITY=-3"
    assert mail("MT-PRIORITY", envelope=ENVELOPE) == ""


# -- no injection ----------------------------------------------------------------------------------------------


def test_the_null_path_and_postmaster_have_their_forms() -> None:
    found = plan(envelope=Envelope(None), recipients=(Recipient(Address("postmaster", "")),))
    assert isinstance(found, CommandPlan)
    assert found.mail == b"MAIL FROM:<>\r\n" and found.rcpt == (b"RCPT TO:<postmaster>\r\n",)


_ANY_TEXT = st.text(st.one_of(st.sampled_from('\r\n\0<> a"\\ü'), st.characters(exclude_categories=["Cs"])), max_size=12)
_OFFERS = st.sets(st.sampled_from(["SMTPUTF8", "DSN", "SIZE", "8BITMIME", "DELIVERBY", "MT-PRIORITY"]))


@given(_OFFERS, _ANY_TEXT, _ANY_TEXT, _ANY_TEXT, _ANY_TEXT)
def test_no_address_or_parameter_breaks_out_of_its_line(
    offers: set[str], local: str, domain: str, envid: str, original: str
) -> None:
    recipient = Recipient(Address(local, domain), Notify.FAILURE, OriginalRecipient("rfc822", original))
    found = plan(*offers, envelope=Envelope(Address(local, domain), envid=envid), recipients=(recipient, *BOB))
    if isinstance(found, CommandPlan):
        for line in (found.mail, *found.rcpt):
            if line is not None:
                assert line.endswith(b"\r\n")
                assert not set(line[:-2]) & set(b"\r\n\0")
