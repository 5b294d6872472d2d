"""Address lists of header fields (RFC 5322 3.4, RFC 6854): strict, and linear in time."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from waypost.message.address_list import AddressListError, mailboxes_of


@pytest.mark.parametrize(
    ("value", "found"),
    [
        (b"a@b.test", ["a@b.test"]),
        (b" A. B <a@b.test> ", ["a@b.test"]),
        (b'"Last, First; x@y" <a@b.test>, c@d.test (Tea (at five) @x)', ["a@b.test", "c@d.test"]),
        (b"(c) a@b.test (d)", ["a@b.test"]),
        (b"friends: a@b.test, C <c@d.test>; , e@f.test", ["a@b.test", "c@d.test", "e@f.test"]),
        (b"undisclosed recipients:;", []),
        (b'"a@b.test": c@d.test;', ["c@d.test"]),
        (b'"a@b.test" <c@d.test>', ["c@d.test"]),
        (b'"a@[b]" <c@d.test>', ["c@d.test"]),
        (b"[List] C <c@d.test>", ["c@d.test"]),
        (b"=?utf-8?q?J=C3=B6rg?= [List] =?utf-8?b?SsO2cmc=?= <c@d.test>", ["c@d.test"]),
        (b"[List] C: c@d.test;", ["c@d.test"]),
        (b"a@[192.0.2.1]", ["a@[192.0.2.1]"]),
        (b'"a b"@c.test', ['"a b"@c.test']),
        (b'<"a>b"@c.test>', ['"a>b"@c.test']),
        ("Bjørn <bjørn@b.test>".encode(), ["bjørn@b.test"]),
        (b"=?utf-8?q?Bj=C3=B8rn?= <b@b.test>", ["b@b.test"]),
    ],
)
def test_the_addresses_are_found(value: bytes, found: list[str]) -> None:
    assert mailboxes_of(value) == found


@pytest.mark.parametrize(
    "value",
    [
        b"",
        b"Alice",
        b"a@b.test,",
        b"a@b.test, , c@d.test",
        b"a@b.test <c@d.test>",
        b"a@b.test: c@d.test;",
        b"Team a@b.test : c@d.test;",
        b'"a@b.test"[ <c@d.test>',
        b'"a@b.test"] <c@d.test>',
        b'[List] "a@b.test" <c@d.test>',
        b'"a@b.test"[: c@d.test;',
        b"=?utf-8?q?a=40b.test?=[ <c@d.test>",
        b"=?utf-8?b?YUBiLnRlc3Q=?=[ <c@d.test>",
        b"=?utf-8?b?YUBiLnRlc3Q?=[ <c@d.test>",
        b"<a@b.test> <c@d.test>",
        b"<a@b.test> trailing",
        b"a b@c.test",
        b"a@b.test c@d.test",
        b"<a@b.test",
        b'"open <a@b.test>',
        b"(open a@b.test",
        b"group: a@b.test",
        b"a@b.test;",
        b"one: two: a@b.test;",
        b": a@b.test;",
        b"g:; a@b.test",
        b"<>",
        b"a@b.test\r\n",
        b"\xff@b.test",
        b"a@b.test\\",
    ],
)
def test_what_could_be_read_in_two_ways_is_refused(value: bytes) -> None:
    with pytest.raises(AddressListError):
        mailboxes_of(value)


def test_words_of_the_client_are_shown_short_and_without_control_characters() -> None:
    with pytest.raises(AddressListError) as raised:
        mailboxes_of(b"\x1b[31m" + b"x" * 5000)
    assert len(str(raised.value)) < 120 and str(raised.value).isprintable()


@pytest.mark.parametrize("piece", [b'"\\', b"(", b"<", b'<"', b'\\"', b'"a"', b"x:", b"( ", b"a@b,", b";", b" "])
def test_a_value_of_any_size_is_read_in_one_pass(piece: bytes) -> None:
    try:
        mailboxes_of(piece * 100_000)
    except AddressListError as error:
        assert len(str(error)) < 120


@given(st.lists(st.sampled_from([b"a@b", b"<", b">", b'"', b"(", b")", b",", b":", b";", b" ", b"\\", b"\xff"])))
def test_any_value_is_read_or_refused_in_words(pieces: list[bytes]) -> None:
    try:
        assert all("@" in found for found in mailboxes_of(b"".join(pieces)))
    except AddressListError as error:
        assert str(error)
