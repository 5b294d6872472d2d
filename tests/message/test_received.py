"""The Received field (RFC 5321 4.4), its keywords (RFC 3848, RFC 6531 4.3), and what it tells of loops."""

import pytest

from waypost.message.address import Address
from waypost.message.headers import HeaderBlock
from waypost.message.received import Hop, count_received, date_text, passed_here, received_field, with_protocol
from waypost.message.trace import TraceId

NOW = 1_795_500_000_000_000
TRACE = TraceId(1838592000000000000)
HOP = Hop("client.test", "192.0.2.1", "mx.here.test", "ESMTPS", "TLSv1.3 TLS_AES_256_GCM_SHA384")


@pytest.mark.parametrize(
    ("keyword", "facts"),
    [
        ("SMTP", {}),
        ("ESMTP", {"extended": True}),
        ("ESMTPS", {"extended": True, "tls": True}),
        ("ESMTPA", {"extended": True, "authenticated": True}),
        ("ESMTPSA", {"extended": True, "tls": True, "authenticated": True}),
        ("LMTP", {"extended": True, "lmtp": True}),
        ("LMTPS", {"extended": True, "lmtp": True, "tls": True}),
        ("UTF8SMTP", {"extended": True, "utf8": True}),
        ("UTF8SMTPSA", {"extended": True, "tls": True, "authenticated": True, "utf8": True}),
        ("UTF8LMTP", {"extended": True, "lmtp": True, "utf8": True}),
    ],
)
def test_the_with_keyword_says_how_the_message_came(keyword: str, facts: dict[str, bool]) -> None:
    assert with_protocol(**{"extended": False, "tls": False, "authenticated": False} | facts) == keyword


def test_the_field_has_the_form_of_rfc_5321() -> None:
    assert received_field(HOP, TRACE, NOW, Address("bob", "here.test")) == (
        b"Received: from client.test ([192.0.2.1])\r\n"
        b"\tby mx.here.test (Waypost) with ESMTPS (TLSv1.3 TLS_AES_256_GCM_SHA384)\r\n"
        b"\tid 1k0zxnv3e0000\r\n"
        b"\tfor <bob@here.test>; Tue, 24 Nov 2026 06:00:00 +0000\r\n"
    )


@pytest.mark.parametrize(
    ("recipient", "clause"),
    [
        (Address("bob", "bücher.test"), b"\tfor <bob@xn--bcher-kva.test>; "),
        (Address("bøb", "here.test"), b"\tid 1k0zxnv3e0000; "),
        (Address("аскии", "bücher.test"), b"\tid 1k0zxnv3e0000; "),
        (Address("bob＠x", "here.test"), b"\tid 1k0zxnv3e0000; "),
    ],
)
def test_the_clause_for_is_in_ascii_or_left_out(recipient: Address, clause: bytes) -> None:
    field = received_field(HOP, TRACE, NOW, recipient)
    assert (
        field.isascii()
        and clause in field.splitlines(keepends=True)[-1]
        and field.count(b"for <") == clause.count(b"for")
    )


def test_an_ipv6_address_is_a_literal_with_its_tag() -> None:
    assert b"([IPv6:2001:db8::1])" in received_field(Hop("x", "2001:db8::1", "mx", "SMTP"), TRACE, NOW)


def test_a_submitters_address_is_not_told() -> None:
    hidden = Hop("laptop.test", "192.0.2.1", "mx.here.test", "ESMTPSA", hide_peer=True)
    assert b"192.0.2.1" not in received_field(hidden, TRACE, NOW)


@pytest.mark.parametrize("helo", ["a\r\nBcc: x", "(a) b <c>", "bøb\x1b[2J", ";", "", "x" * 5000])
def test_nothing_that_a_client_says_of_itself_breaks_the_field(helo: str) -> None:
    field = received_field(Hop(helo, "192.0.2.1", "mx.here.test", "SMTP"), TRACE, NOW)
    headers = HeaderBlock(field + b"\r\n")
    assert [one.name for one in headers.fields] == [b"received"] and not headers.problems
    assert field.isascii() and max(map(len, field.split(b"\r\n"))) < 998
    assert b"(" not in field.partition(b" ([")[0], "no comment of theirs stands before ours"


def test_dates_are_those_of_rfc_5322() -> None:
    assert date_text(0) == "Thu, 1 Jan 1970 00:00:00 +0000"


def test_loops_are_seen_by_count_and_by_our_own_name() -> None:
    ours = received_field(HOP, TRACE, NOW)
    other = received_field(Hop("x", "192.0.2.1", "mx.there.test", "SMTP"), TRACE, NOW)
    headers = HeaderBlock(ours + other + ours.replace(b"mx.here", b"MX.Here") + b"\r\n")
    assert count_received(headers) == 3 and passed_here(headers, "mx.here.test") == 2
    assert passed_here(headers, "x.here.test") == 0
