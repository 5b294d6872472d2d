"""What is mended in a submitted header, what is refused in words, and what is never touched (RFC 6409 8)."""

import re
from email import message_from_bytes, policy
from email.header import decode_header, make_header
from email.utils import getaddresses

import pytest
from hypothesis import given
from hypothesis import strategies as st

from waypost.message.address import Address
from waypost.message.headers import HeaderBlock
from waypost.submission.completion import MalformedHeader, prepare, read_originators

ALICE = Address("a", "x.test")
FROM = b"From: a@x.test\r\n"
NAMES = ("mx.here.test",)


def mended(header: bytes, *, smtputf8: bool = False) -> bytes:
    return prepare(HeaderBlock(header + b"\r\n"), sender=ALICE, smtputf8=smtputf8, names=NAMES).data[:-2]


def originators(header: bytes) -> list[str]:
    return [str(one) for one in read_originators(HeaderBlock(header + b"\r\n"))]


def refused(header: bytes, *, smtputf8: bool = False) -> str:
    with pytest.raises(MalformedHeader) as raised:
        read_originators(HeaderBlock(mended(header, smtputf8=smtputf8) + b"\r\n"))
    return str(raised.value)


@pytest.mark.parametrize(
    "value",
    [
        b"a@x.test",
        b"<a@x.test>",
        b"Alice <a@x.test>",
        b'"Smith, Alice" <a@x.test>',
        b"[List] Alice <a@x.test>",
        b"a@x.test (Alice)",
        b"(Alice) a@x.test",
        b"Alice (work) <a@x.test> (the host)",
        b'"A" "B" <a@x.test>',
        b'"a"@x.test',
        b"a@[192.0.2.1]",
        b"a@[IPv6:2001:db8::1]",
        b"=?utf-8?q?J=C3=B6rg?= <a@x.test>",
        b"=?utf-8?q?J=C3=B6rg_(Work)?= <a@x.test>",
        b"Staff: a@x.test;",
        b'"b@there.test" <a@x.test>',
    ],
)
def test_what_is_right_stays_octet_for_octet(value: bytes) -> None:
    for header in (b"From: " + value + b"\r\n", b"from :\r\n\t" + value + b"\r\n"):
        assert mended(header) == header


@pytest.mark.parametrize(
    ("value", "written"),
    [
        # As RFC 5322 allows, and many readers don't.
        (b"Alice <alice(work)@one.test(the host)>", b"Alice <alice@one.test>"),
        (b"alice @ one.test", b"alice@one.test"),
        (b"alice\t@\tone . test", b"alice@one.test"),
        (b"alice . smith@one.test (A)", b"alice.smith@one.test (A)"),
        (b'"alice".smith@one.test', b"alice.smith@one.test"),
        (b'"a b".c@one.test', b'"a b.c"@one.test'),
        (b"Alice < a@x.test >", b"Alice <a@x.test>"),
        (b"<(boss@there.test)a@x.test>", b"<a@x.test>"),
        (b"a(<boss@there.test>)@x.test", b"a@x.test"),
        (b"Alice <@relay.test:a@x.test>", b"Alice <a@x.test>"),
        (b"<@relay.test,@b.test : a@x.test>", b"<a@x.test>"),
        (b"Staff: a (b) @x.test;", b"Staff : a@x.test;"),
        # Slightly wrong, and clear.
        (b"a@x.test <a@x.test>", b'"a@x.test" <a@x.test>'),
        (b"A@X.TEST <a@x.test>", b'"A@X.TEST" <a@x.test>'),
        (b"Alice a@x.test <a@x.test>", b'"Alice a@x.test" <a@x.test>'),
        (b"<a@x.test", b"<a@x.test>"),
        (b"Alice <a@x.test", b"Alice <a@x.test>"),
        (b'"A" a@x.test', b"A <a@x.test>"),
        (b'"A, B" a@x.test', b'"A, B" <a@x.test>'),
        (b"Alice Smith a@x.test", b"Alice Smith <a@x.test>"),
        (b"Alice, Smith <a@x.test>", b'"Alice, Smith" <a@x.test>'),
        (b"Smith, Dr., Alice <a@x.test>", b'"Smith, Dr., Alice" <a@x.test>'),
        (b'"Smith", Alice <a@x.test>', b'"Smith, Alice" <a@x.test>'),
        (b"Alice: Work <a@x.test>", b'"Alice: Work" <a@x.test>'),
        (b"Alice; Work <a@x.test>", b'"Alice; Work" <a@x.test>'),
        (b"Support@Acme <a@x.test>", b'"Support@Acme" <a@x.test>'),
        (b"Alice @ Work <a@x.test>", b'"Alice @ Work" <a@x.test>'),
        (b"Al\\ice <a@x.test>", b'"Al\\\\ice" <a@x.test>'),
        (b"=?utf-8?q?M=C3=BCller?=, Alice <a@x.test>", b'=?utf-8?q?M=C3=BCller?= ", Alice" <a@x.test>'),
        (b"=?utf-8?q?M=C3=BCller,_Hans?= <a@x.test>", b"=?utf-8?q?M=C3=BCller=2C_Hans?= <a@x.test>"),
        (b"=?utf-8?Q?A,?= =?utf-8?Q?B. C?= <a@x.test>", b"=?utf-8?Q?A=2C?= =?utf-8?Q?B=2E_C?= <a@x.test>"),
        (b"=?utf-8?q?A:_B?= (x) <a@x.test>", b"=?utf-8?q?A=3A_B?= (x) <a@x.test>"),
        (b"=?utf-8?q?A,_B?= C <a@x.test>", b'"=?utf-8?q?A,_B?= C" <a@x.test>'),
        (b"=?utf-8?q?" + b"A," * 30 + b"?= <a@x.test>", b'"=?utf-8?q?' + b"A," * 30 + b'?="\r\n <a@x.test>'),
        (b"a@x.test.", b"a@x.test"),
        (b"a@x.test,", b"a@x.test"),
        (b"a@x.test;", b"a@x.test"),
        (b"Alice <a@x.test> ; (x)", b"Alice <a@x.test> (x)"),
        (b"Alice; Work <a@x.test>;", b'"Alice; Work" <a@x.test>'),
        (b",a@x.test", b"a@x.test"),
    ],
)
def test_what_leaves_no_doubt_is_mended(value: bytes, written: bytes) -> None:
    header = b"Subject: x\r\nFrom: " + value + b"\r\nTo: y@z.test\r\n"
    found = mended(header)
    assert found == b"Subject: x\r\nFrom: " + written + b"\r\nTo: y@z.test\r\n"
    assert mended(found) == found, "what was mended needs no mending"
    [address] = originators(found)
    assert [one for _, one in getaddresses([written.decode()])] == [address], "another reader reads the same"
    sender = b"From: a@x.test\r\nSender: " + value + b"\r\n"
    assert mended(sender) == b"From: a@x.test\r\nSender: " + written + b"\r\n"


def test_lists_are_mended_as_a_whole() -> None:
    header = b"From: Smith, A <a@x.test>, Jones, B <b@x.test>\r\nSender: a @ x.test\r\n"
    found = mended(header)
    assert found == b'From: "Smith, A" <a@x.test>, "Jones, B" <b@x.test>\r\nSender: a@x.test\r\n'
    assert originators(found) == ["a@x.test", "b@x.test", "a@x.test"]
    assert originators(mended(b"From: Robots:;\r\nSender: a@x.test\r\n")) == ["a@x.test"], "RFC 6854"
    assert originators(mended(b"From: Robots: ,;, b@x.test\r\nSender: a@x.test\r\n")) == ["b@x.test", "a@x.test"]


@pytest.mark.parametrize(
    ("value", "words"),
    [
        (b"boss@there.test <a@x.test>", "the name 'boss@there.test' holds an @ outside of quotes"),
        (b"a@x.test boss@there.test <a@x.test>", "holds an @ outside of quotes"),
        (b"boss @ there.test <a@x.test>", "holds an @ outside of quotes"),
        (b"boss(x)@(y)there.test <a@x.test>", "holds an @ outside of quotes"),
        (b"Smith, boss@there.test <a@x.test>", "holds an @ outside of quotes"),
        (b"boss@there.test: a@x.test;", "the name 'boss@there.test' holds an @ outside of quotes"),
        (b"boss@there.test: a <a@x.test>", "holds an @ outside of quotes"),
        (b"a@x.test boss@there.test", "'a@x.test boss@there.test' is not an address"),
        (b"a@x.test; boss@there.test", "is not an address"),
        (b"a@x.test; boss@there.test;", "is not an address"),
        (b"a@x.test;;", "is not an address"),
        (b";", "an address is missing"),
        (b"a@boss@there.test", "'a@boss@there.test' is not an address"),
        (b"<a@x.test> <boss@there.test>", "a comma is missing before '<boss@there.test>'"),
        (b"<a@x.test> boss@there.test", "a comma is missing"),
        (b"<a@x.test<boss@there.test>>", "a comma is missing before '>'"),
        (b"a@x.test>", "is not an address"),
        (b"Alice", "'Alice' has no address"),
        (b"a@x.test, Alice", "'Alice' has no address"),
        (b'"Alice <a@x.test>"', "has no address"),
        (b'"Alice <a@x.test>', "a quote has no end"),
        (b"Alice (work <a@x.test>", "a comment has no end"),
        (b"a b c@x.test d", "is not an address"),
        (b"Alice Jr. a@x.test", "is not an address"),
        (b'"A"a@x.test', "is not an address"),
        (b'"b@there.test"[ <a@x.test>', "holds an @ beside brackets"),
        (b'"b@there.test" [ a@x.test', "holds an @ beside brackets"),
        (b"<@there.test>", "is not an address"),
        (b"<@a @b@c:a@x.test>", "the route '@a @b@c' can't be read"),
        (b"=?utf-8?q?ceo=40there.test?=", "has no address"),
        (b"=?utf-8?q?ceo?=@there.test", "holds an encoded word, which an address may not"),
        (b"<=?utf-8?q?ceo=40there.test=3E?=@x.test>", "holds an encoded word"),
        (b'"=?utf-8?q?" <?=a@x.test>', "an encoded word has no end"),
        (b"=?utf-8?q?a.a@x.test (?=)", "an encoded word has no end"),
        (b"=?utf-8?q?boss@there.test?= <a@x.test>", "holds an @ outside of quotes"),
        (b'=?utf-8?q?"?=boss@there.test " <a@x.test>', "an encoded word has no end"),
        (b'"=?utf-8?q?"?=boss <a@x.test>', "an encoded word has no end"),
        (b"=?utf-8?q?(?= boss =?utf-8?q?)?= <a@x.test>", "an encoded word has no end"),
        (b"a@x.test (=?utf-8?q?), b@y.test (?=)", "an encoded word has no end"),
        (b"\x01Smith, Alice <a@x.test>", "a name holds a control character"),
        (b"Alice\x0b<a@x.test>", "something is wrong at"),
    ],
)
def test_what_is_in_doubt_is_refused_in_words(value: bytes, words: str) -> None:
    assert words in refused(b"From: " + value + b"\r\n")
    assert words in refused(b"From: a@x.test\r\nSender: " + value + b"\r\n")


PIECES = [
    *(
        b"a@x.test",
        b"b@y.test",
        b"a",
        b"@",
        b"x.test",
        b"<",
        b">",
        b"<a@x.test>",
        b'"',
        b'"A"',
        b"(",
        b")",
        b"(c)",
        b",",
    ),
    *(
        b":",
        b";",
        b" ",
        b".",
        b"\\",
        b"[",
        b"]",
        b"=?utf-8?q?b=40y.test?=",
        b'=?utf-8?q?"?=',
        b"=?utf-8?q?(?=",
        b"=?utf-8?q?a,b?=",
        b"\r\n ",
        b"J\xc3\xb6rg",
        b"<@r.test:",
    ),
]


@given(st.lists(st.sampled_from(PIECES), max_size=9), st.booleans())
def test_whatever_is_taken_names_one_sender_for_every_reader(pieces: list[bytes], smtputf8: bool) -> None:
    try:
        found = mended(b"From: " + b"".join(pieces) + b"\r\n", smtputf8=smtputf8)
        addresses = originators(found)
    except MalformedHeader:
        return
    assert mended(found, smtputf8=smtputf8) == found, "what was mended needs no mending"
    message = message_from_bytes(found, policy=policy.SMTPUTF8 if smtputf8 else policy.SMTP)
    assert message.keys().count("From") == 1 and not message.defects
    if not re.search(rb"[\[\]]", found):  # Python reads brackets in names as an address literal
        assert [str(one.addr_spec) for one in message["From"].addresses] == addresses


# A line of a mailbox file.


@pytest.mark.parametrize("line", [b"From a@x.test Tue Nov 24 06:00:00 2026", b">From boss@there.test", b"From "])
def test_the_line_of_a_mailbox_file_is_left_out(line: bytes) -> None:
    assert mended(line + b"\r\n" + FROM) == FROM
    signed = b"DKIM-Signature: v=1\r\n" + FROM
    assert mended(line + b"\r\n" + signed) == signed, "it is not a field, so nothing that is signed changes"


def test_the_byte_order_mark_of_a_file_is_left_out() -> None:
    mark = b"\xef\xbb\xbf"
    assert mended(mark + FROM) == FROM
    assert mended(mark + b"From a@x.test Tue Nov 24 06:00:00 2026\r\n" + FROM) == FROM
    assert refused(mark * 2 + FROM).startswith("This line of the header is not a field")
    assert refused(FROM + mark + b"Subject: x\r\n").startswith("This line of the header is not a field")
    assert refused(mark + b"From: boss@there.test\r\n" + FROM) == "There is more than one From: field"


@pytest.mark.parametrize(
    ("header", "words"),
    [
        (b"From boss@there.test\r\nFrom boss@there.test\r\n" + FROM, "This line of the header is not a field: 'From b"),
        (b"From boss@there.test\r\n folded\r\n" + FROM, "This line of the header is not a field: 'From boss"),
        (FROM + b"From boss@there.test\r\n", "This line of the header is not a field: 'From boss"),
        (b"FROM boss@there.test\r\n" + FROM, "This line of the header is not a field: 'FROM boss"),
        (b"From boss@there.test\r\n" + FROM * 2, "There is more than one From: field"),
        (b"From boss@there.test\r\nFrom : boss@there.test\r\n" + FROM, "There is more than one From: field"),
        (
            b"From boss@there.test\r\n" + FROM + b"Sender: a@x.test\r\nsender : b@y.test\r\n",
            "There is more than one Sender",
        ),
    ],
)
def test_a_second_header_is_not_hidden_behind_the_line_of_a_mailbox_file(header: bytes, words: str) -> None:
    assert refused(header).startswith(words)


def test_a_field_that_looks_like_the_line_of_a_mailbox_file_is_a_field() -> None:
    assert originators(mended(b"From : b@y.test\r\n")) == ["b@y.test"]


# Text outside ASCII without SMTPUTF8.


def decoded(value: str) -> str:
    return str(make_header(decode_header(value)))


@pytest.mark.parametrize(
    ("field", "written"),
    [
        ("Subject: Prüfung", "Subject: =?utf-8?q?Pr=C3=BCfung?="),
        ("Subject: Die Prüfung ist am Montag", "Subject: Die =?utf-8?q?Pr=C3=BCfung?= ist am Montag"),
        ("Subject: groß  und schön", "Subject: =?utf-8?q?gro=C3=9F?=  und =?utf-8?q?sch=C3=B6n?="),
        ("Subject: große schöne  Köpfe", "Subject: =?utf-8?q?gro=C3=9Fe_sch=C3=B6ne__K=C3=B6pfe?="),
        ("Subject: =?utf-8?q?=C3=A4?= Öl x", "Subject: =?utf-8?q?=C3=A4?= =?utf-8?q?_=C3=96l?= x"),
        ("Subject: Öl =?utf-8?q?=C3=A4?=", "Subject: =?utf-8?q?=C3=96l_?= =?utf-8?q?=C3=A4?="),
        ("X-Note: заметка", "X-Note: =?utf-8?b?0LfQsNC80LXRgtC60LA=?="),
        ("Comments: ü", "Comments: =?utf-8?b?w7w=?="),
        ("To: Jörg <j@y.test>", "To: =?utf-8?q?J=C3=B6rg?= <j@y.test>"),
        ('Cc: "Müller, Jörg" <j@y.test>, k@y.test', "Cc: =?utf-8?q?M=C3=BCller=2C_J=C3=B6rg?= <j@y.test>, k@y.test"),
        ("Reply-To: j@y.test (Jörg)", "Reply-To: j@y.test (=?utf-8?q?J=C3=B6rg?=)"),
        ("To: Jörg, Müller <j@y.test>", "To: =?utf-8?q?J=C3=B6rg=2C_M=C3=BCller?= <j@y.test>"),
        ("To: Größe:;", "To: =?utf-8?b?R3LDtsOfZQ==?= :;"),
        ("To: Größe: j@y.test, k@y.test;", "To: =?utf-8?b?R3LDtsOfZQ==?= : j@y.test, k@y.test;"),
        (
            "Disposition-Notification-To: Jörg <j@y.test>",
            "Disposition-Notification-To: =?utf-8?q?J=C3=B6rg?= <j@y.test>",
        ),
        ("Keywords: Prüfung, test", "Keywords: =?utf-8?q?Pr=C3=BCfung?=, test"),
        ("List-Id: Größe <list.y.test>", "List-Id: =?utf-8?b?R3LDtsOfZQ==?= <list.y.test>"),
        (
            "Date: Tue, 24 Nov 2026 06:00:00 +0100 (Mitteleuropäische Zeit)",
            "Date: Tue, 24 Nov 2026 06:00:00 +0100\r\n (=?utf-8?q?Mitteleurop=C3=A4ische_Zeit?=)",
        ),
        (
            'Content-Type: text/plain; charset=utf-8; name="Prüfung 1.txt"',
            "Content-Type: text/plain;\r\n charset=utf-8;\r\n name*=UTF-8''Pr%C3%BCfung%201.txt",
        ),
        (
            "Content-Disposition: attachment; filename=Prüfung.txt",
            "Content-Disposition: attachment;\r\n filename*=UTF-8''Pr%C3%BCfung.txt",
        ),
        (
            "Content-Disposition: attachment; filename=Prüfung 1.txt ; size=3",
            "Content-Disposition: attachment;\r\n filename*=UTF-8''Pr%C3%BCfung%201.txt;\r\n size=3",
        ),
        (
            "Content-Disposition: attachment; FileName=\"ü.pdf\"; filename*=UTF-8''%C3%BC.pdf; size=3",
            "Content-Disposition: attachment;\r\n filename*=UTF-8''%C3%BC.pdf;\r\n size=3",
        ),
        (
            "Content-Disposition: attachment; filename*0*=UTF-8''%C3%BC; filename*1=.pdf; filename=ü.pdf",
            "Content-Disposition: attachment;\r\n filename*0*=UTF-8''%C3%BC;\r\n filename*1=.pdf",
        ),
        ("Bcc: Jörg <j@y.test>\r\nSubject: x", "Subject: x"),
    ],
)
def test_text_outside_ascii_is_encoded_where_it_may_be(field: str, written: str) -> None:
    header = FROM + field.encode() + b"\r\nX-Other: y\r\n"
    assert mended(header) == FROM + written.encode() + b"\r\nX-Other: y\r\n"
    kept = FROM + field.partition("\r\n")[2].encode() + b"\r\nX-Other: y\r\n" if field.startswith("Bcc") else header
    assert mended(header, smtputf8=True) == kept, "SMTPUTF8 carries it as it is"


def test_a_long_field_with_a_comment_outside_ascii_stays_folded() -> None:
    """A line has 998 octets at most (RFC 5322 2.1.1), and what was unfolded is folded where it was: at its spaces."""
    ids = [f"<{number:060}@x.test>" for number in range(40)]
    for fold in ("\r\n ", "\r\n\t", " "):
        found = mended(FROM + f"References: {fold.join(ids)} (ältere) {fold.join(ids)}\r\n".encode())
        lines = found.split(b"\r\n")
        assert max(map(len, lines)) <= 998 and all(len(line) <= 76 for line in lines if b"=?" in line)
        value = b"".join(lines[1:]).decode()
        assert [word for word in value.split() if word.startswith("<")] == ids + ids


def test_an_author_outside_ascii_is_encoded_and_stays_the_author() -> None:
    for value in ("Jörg <a@x.test>", "Jörg a@x.test", "Jörg, Müller <a@x.test>", "a@x.test (Jörg)", "a (ö) @x.test"):
        found = mended(f"From: {value}\r\n".encode())
        assert found.isascii() and originators(found) == ["a@x.test"]


@given(
    st.sampled_from(["Subject", "X-" + "a" * 60, "Comments"]),
    st.lists(
        st.text(st.characters(codec="utf-8", exclude_categories=("Cc", "Cs", "Zs", "Zl", "Zp")), max_size=90),
        max_size=9,
    ),
)
def test_every_line_with_an_encoded_word_has_76_octets_at_most_and_the_text_is_kept(
    name: str, words: list[str]
) -> None:
    text = " ".join(word for word in words if word)
    found = mended(FROM + f"{name}: {text}\r\n".encode())[len(FROM) :]
    if text.isascii() or "=?" in text:
        return
    lines = found.removesuffix(b"\r\n").split(b"\r\n")
    assert found.isascii() and all(len(line) <= 76 for line in lines if b"=?utf-8?" in line)
    assert all(line.strip() for line in lines) and all(line.startswith(b" ") for line in lines[1:])
    for word in re.findall(rb"=\?utf-8\?[^ ]*\?=", found):
        assert len(word) <= 75 and decoded(word.decode())
    value = re.sub(rb"\r\n(?=[ \t])", b"", found).decode().partition(":")[2].strip()
    assert decoded(value) == text


def test_a_long_name_is_folded_too() -> None:
    found = mended(
        FROM + b"Cc: " + ("Größenwahnsinnige " * 30).encode() + b"<j@y.test> (" + "ü".encode() * 90 + b")\r\n"
    )
    assert found.isascii() and all(len(line) <= 76 for line in found.split(b"\r\n"))


@pytest.mark.parametrize(
    ("field", "words"),
    [
        (
            "To: jörg@y.test",
            "To: the address jörg@y.test has characters outside ASCII: the mail program has to say SMTPUTF8",
        ),
        ("To: j@größe.test", "To: the address j@größe.test has characters outside ASCII"),
        (
            "Cc: Jörg j, k@y.test",
            "Cc: has characters outside ASCII, and can't be mended: 'Jörg j' has no address; encode",
        ),
        (
            "Message-ID: <größe@y.test>",
            "Message-ID: has characters outside ASCII where none may stand: write this field in",
        ),
        ("References: <a@b> (größe) <ü@y>", "References: has characters outside ASCII where none may stand"),
        ("MIME-Version: 1.0ü", "MIME-Version: has characters outside ASCII where none may stand"),
        ("Received: from größe (größe) by x; y", "Received: has characters outside ASCII where none may stand"),
        ("Received: from x (größe) by x; y", "Received: has characters outside ASCII where none may stand"),
        ("Content-Type: text/plaïn", "Content-Type: has characters outside ASCII where none may stand"),
        ('Content-Type: text/plain; name="ü', "Content-Type: has characters outside ASCII where none may stand"),
        (
            'Content-Type: multipart/mixed; boundary="größe"',
            "Content-Type: has characters outside ASCII where none may",
        ),
        ("Content-Type: text/plain; charset=größe", "Content-Type: has characters outside ASCII where none may"),
        ("Content-Disposition: inline; filename=ü (x)", "Content-Disposition: has characters outside ASCII where none"),
        ("List-Id: x <größe.y.test>", "List-Id: has characters outside ASCII where none may stand"),
    ],
)
def test_what_may_not_be_encoded_is_refused_by_the_name_of_its_field(field: str, words: str) -> None:
    assert refused(FROM + field.encode() + b"\r\n").startswith(words)


@pytest.mark.parametrize("smtputf8", [False, True])
@pytest.mark.parametrize("charset", ["latin-1", "shift_jis", "utf-16-be"])
def test_another_charset_is_refused_with_a_way_out(charset: str, smtputf8: bool) -> None:
    text = {"latin-1": "Prüfung", "shift_jis": "件名", "utf-16-be": "ȢǼ\u80ff"}[charset]
    words = refused(FROM + b"Subject: " + text.encode(charset) + b"\r\n", smtputf8=smtputf8)
    assert words.startswith("Subject: is not UTF-8: write the message in UTF-8 (iconv -t UTF-8 ")
    assert words.isascii() and len(words) < 400, "it fits into a reply"


def test_the_work_of_encoding_is_bounded() -> None:
    header = FROM + b"X-Y: " + b"z" * 65536 + "\r\nSubject: ü\r\n".encode()
    assert refused(header) == "The header is long and has characters outside ASCII: encode them (RFC 2047)"
    assert mended(header, smtputf8=True) == header


# What is signed.


@pytest.mark.parametrize(
    "signed",
    [
        b"DKIM-Signature: v=1; h=from\r\n",
        b"dkim-signature : v=1\r\n",
        b"DomainKey-Signature: a\r\n",
        b"ARC-Message-Signature: i=1\r\n",
        b'Content-Type: multipart/signed; boundary="x"; protocol="application/pgp-signature"\r\n',
        b"Content-Type: (c) Multipart/Signed\r\n",
        b"Content-Type: application/pkcs7-mime; smime-type=signed-data\r\n",
    ],
)
@pytest.mark.parametrize(
    ("field", "words"),
    [
        (
            "Subject: Prüfung",
            "Subject: there are characters outside ASCII, which are to be encoded (RFC 2047), and nothing",
        ),
        ("To: Jörg <j@y.test>", "To: there are characters outside ASCII"),
        (
            "Sender: A, B <a@x.test>",
            "Sender: this is not written as RFC 5322 wants it, and nothing is mended in a signed",
        ),
        ("Sender: <a(b@y.test)@x.test>", "Sender: this is not written as RFC 5322 wants it"),
    ],
)
def test_a_signed_message_is_left_alone_and_its_field_is_named(signed: bytes, field: str, words: str) -> None:
    for header in (signed + FROM + field.encode() + b"\r\n", FROM + field.encode() + b"\r\n" + signed):
        assert refused(header).startswith(words)


def test_what_is_valid_in_a_signed_message_stays_octet_for_octet() -> None:
    header = b"From: A <a(work)@x.test(the host)>\r\nDKIM-Signature: v=1\r\nSubject: =?utf-8?q?=C3=A4?=\r\n"
    assert mended(header) == header and originators(header) == ["a@x.test"]
    international = FROM + "DKIM-Signature: v=1\r\nSubject: Prüfung\r\n".encode()
    assert mended(international, smtputf8=True) == international
