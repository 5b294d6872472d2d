"""Addresses: the grammar of RFC 5321 4.1.2, and a public suite of verdicts through MAIL and RCPT."""

import xml.etree.ElementTree as ElementTree
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from waypost.message.address import Address, AddressError, domain_key, literal_address, parse_path
from waypost.protocol.smtp import replies
from waypost.protocol.smtp.events import Hello, MailOffered, RecipientOffered
from waypost.protocol.smtp.server import ServerOptions, SmtpServer

SUITE = Path(__file__).parents[3] / "shared/suites/addresses/tests.xml"
ACCEPTED = {"ISEMAIL_VALID_CATEGORY", "ISEMAIL_DNSWARN", "ISEMAIL_RFC5321"}
OVERRULED = {
    "ISEMAIL_ERR_DOT_START": "a dot in front of a local part",
    "ISEMAIL_ERR_DOT_END": "a dot behind a local part, or behind a domain",
    "ISEMAIL_ERR_CONSECUTIVEDOTS": "dots in a row in a local part",
    "ISEMAIL_RFC5322_LOCAL_TOOLONG": "a local part of more than 64 octets: only the path has a limit",
}
"""Kinds of which the suite says that they are wrong, and that real mailboxes have (docs/decisions/0030)."""
STILL_REFUSED = ("test@.iana.org", "test@iana..com", "test..iana.org")
DIALOGUE = (b"MAIL FROM:<%s>\r\n", b"RCPT TO:<%s>\r\n")


def cases() -> list[tuple[str, str, bool]]:
    if not SUITE.exists():
        return []
    found = []
    for test in ElementTree.parse(SUITE).getroot().iter("test"):
        # Control characters stand as their pictures, U+2400 and on.
        address = "".join(
            chr(ord(c) - 0x2400) if 0x2400 <= ord(c) < 0x2420 else c for c in test.findtext("address") or ""
        )
        overruled = test.findtext("diagnosis") in OVERRULED and address not in STILL_REFUSED
        found.append((test.get("id") or "", address, overruled or test.findtext("category") in ACCEPTED))
    return found


def accepted(command: bytes, address: str) -> bool:
    """Ask a fresh engine, which has said EHLO (and MAIL, for RCPT)."""
    engine = SmtpServer(ServerOptions("mx.test"), now=lambda: 0)
    engine.receive(b"EHLO x\r\n" + (b"MAIL FROM:<a@b.test>\r\n" if command.startswith(b"RCPT") else b""))
    offered = 0
    for data in (b"", command % address.encode()):
        engine.receive(data)
        offered = 0
        while event := engine.next_event():
            if isinstance(event, Hello | MailOffered | RecipientOffered):
                engine.answer(replies.OK)
                offered += not isinstance(event, Hello)
        engine.take_output()
    return offered == 1


@pytest.mark.skipif(not SUITE.exists(), reason="the public address suite is not beside this checkout")
@pytest.mark.parametrize("command", DIALOGUE)
def test_every_address_of_the_public_suite_gets_its_verdict(command: bytes) -> None:
    # An empty text is the null path in MAIL, which is not an address and has a meaning of its own.
    wrong = [
        (number, address)
        for number, address, verdict in cases()
        if (address or command.startswith(b"RCPT")) and accepted(command, address) != verdict
    ]
    assert wrong == [] and len(cases()) > 150


def test_the_wire_form_quotes_what_must_be_quoted() -> None:
    for text in ("a@b.test", '"a b"@b.test', '""@b.test', '"a\\"b\\\\"@b.test', "bøb@exämple.test"):
        assert str(Address.parse(text)) == text
    assert str(Address.parse('"plain"@b.test')) == "plain@b.test", "quotes that are not needed go"


def test_domains_are_compared_as_lower_case_a_labels() -> None:
    assert domain_key("EXÄMPLE.Test.") == "xn--exmple-cua.test"
    assert Address.parse("Bob@Example.TEST").key == "bob@example.test"


def test_address_literals_are_ip_addresses() -> None:
    assert str(literal_address("[192.0.2.1]")) == "192.0.2.1"
    assert str(literal_address("[IPv6:2001:db8::1]")) == "2001:db8::1"
    for wrong in ("[1.2.3]", "[IPv6:x]", "[1.2.3.4", "[x:y]", "[IPv6:fe80::1%eth0]", "[IPv6:1:2:3:4:5:6:7::]"):
        with pytest.raises(AddressError):
            literal_address(wrong)


def test_paths_are_read_with_source_routes_that_are_forgotten() -> None:
    assert parse_path("<>", utf8=False) == (None, 2)
    assert parse_path("<@x.test,@y.test:a@b.test> SIZE=1", utf8=False) == (Address("a", "b.test"), 26)
    assert parse_path("<Postmaster>", utf8=False)[0] == Address("Postmaster", "")
    assert parse_path("Postmaster NOTIFY=NEVER", utf8=False) == (Address("Postmaster", ""), 10)
    assert parse_path('<"a>b"@c.test>', utf8=False)[0] == Address("a>b", "c.test")


@pytest.mark.parametrize(
    "text",
    [
        *["<a@b", "<a@@b>", "<@x:>", "<a@-b.test>", "<a@b..>", "<a@.b>", "<.@b.test>", "<..@b.test>", "<a@.>"],
        *[
            "a",
            "",
            " ",
            "a@b>",
            "a<b@c.test>",
            "Bob <b@c.test>",
            "b@c.test,d@e.test",
            '"a b@c.test',
            "@c.test",
            "SIZE=1",
            "postmaster@",
            "postmaster>",
            "postmaster,bob",
            "postmasters",
        ],
    ],
)
def test_malformed_paths_are_refused(text: str) -> None:
    with pytest.raises(AddressError):
        parse_path(text, utf8=True)


@pytest.mark.parametrize("text", ["x" * 248 + "@b.test", "a@" + "x" * 64 + ".test", "a@" + "x." * 130 + "test"])
def test_the_limits_of_length_hold(text: str) -> None:
    with pytest.raises(AddressError):
        Address.parse(text)


@pytest.mark.parametrize(
    "text",
    [
        "bounces+19390322-d49f-firstname.lastname=some-longer-company-name.test@em7169.news.test",
        "SRS0=HHH=TT=example.org=SRS1=HHH=example.net==HHH=TT=somewhere.test=" + "x" * 60 + "@srs.test",
        "x" * 247 + "@b.test",
        '"' + "a b" * 60 + '"@b.test',
    ],
)
def test_a_local_part_may_be_longer_than_64_octets(text: str) -> None:
    """RFC 5321 4.5.3.1: that is what must be taken, and not what may."""
    assert str(Address.parse(text)) == text and parse_path(f"<{text}>", utf8=False) == (
        Address.parse(text),
        len(text) + 2,
    )


@pytest.mark.parametrize(
    "text",
    ["taro..yamada@docomo.test", "taro.@docomo.test", ".taro@docomo.test", "..a...b..@x.test", "root@web_1.app.test"],
)
def test_addresses_that_every_peer_takes_go_on_as_they_came(text: str) -> None:
    assert str(Address.parse(text)) == text
    assert parse_path(f"<{text}> SIZE=1", utf8=False) == (Address.parse(text), len(text) + 2)


def test_a_local_part_that_came_in_quotes_for_its_dots_keeps_them() -> None:
    quoted, bare = Address.parse('"taro..yamada"@docomo.test'), Address.parse("taro..yamada@docomo.test")
    assert str(quoted) == '"taro..yamada"@docomo.test' and quoted.key == bare.key
    assert str(quoted.at("xn--exmple-cua.test")) == '"taro..yamada"@xn--exmple-cua.test'


@pytest.mark.parametrize("dot", [".", "\u3002", "\uff0e", "\uff61"])
def test_one_dot_behind_a_domain_is_dropped(dot: str) -> None:
    assert Address.parse(f"bob@one.test{dot}") == Address("bob", "one.test")
    with pytest.raises(AddressError):
        Address.parse(f"bob@one.test.{dot}")


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("root@x.test", "root@x.test"),
        ("root@x.test SIZE=1", "root@x.test"),
        ('"a b"@x.test BODY=8BITMIME', '"a b"@x.test'),
        ("root@x.test.", "root@x.test"),
        ("root@[192.0.2.1]", "root@[192.0.2.1]"),
        ("Postmaster BODY=8BITMIME", "Postmaster"),
    ],
)
def test_brackets_that_are_missing_are_added(text: str, address: str) -> None:
    found, end = parse_path(text, utf8=False)
    assert str(found) == address and text[end:].strip() in ("", "SIZE=1", "BODY=8BITMIME")


@given(st.text(max_size=80))
def test_what_is_read_is_written_the_same(text: str) -> None:
    try:
        address = Address.parse(text)
    except AddressError:
        return
    assert Address.parse(str(address)) == address


@given(st.text(max_size=80))
def test_a_key_is_read_back_whatever_needs_quotes_in_it(local: str) -> None:
    assert Address.of_key(Address(local, "Bücher.test").key) == Address(local.lower(), "xn--bcher-kva.test")
    assert str(Address.of_key("a b@c@d.test")) == '"a b@c"@d.test'


@pytest.mark.parametrize("character", ["\x80", "\x85", "\x9b", "\u2028", "\u2029", "\u202e", "\u2066", "\u2069"])
def test_no_address_ends_a_line_steers_a_terminal_or_turns_text_around(character: str) -> None:
    for text in (f"a{character}b@there.test", f'"a {character}"@there.test'):
        with pytest.raises(AddressError):
            Address.parse(text)
    assert Address.parse("\u0645\u06cc\u200c\u062e@there.test"), "Persian needs its joiners"


@pytest.mark.parametrize(
    "domain", ["[\x1b[2J]", "[IPv6:\x07::]", "[IPv6:::\r\n250 ok]", "[IPv6:" + "x" * 5000 + "]", "[1.2.3.\x85]"]
)
def test_what_is_said_of_a_wrong_literal_is_short_and_printable(domain: str) -> None:
    with pytest.raises(AddressError) as caught:
        literal_address(domain)
    assert str(caught.value).isprintable() and len(str(caught.value)) < 300
