"""Header blocks over their octets (RFC 5322 2.2)."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from waypost.message.headers import HeaderBlock, fields_end, find_header_end, message_id_of

BLOCK = b"From: a@b.test\r\nSubject: one\r\n\ttwo\r\nX-Empty:\r\nfrom : c@d.test\r\n\r\nFrom: not this\r\n"


def test_fields_are_found_with_their_octets() -> None:
    headers = HeaderBlock(BLOCK)
    assert [field.name for field in headers.fields] == [b"from", b"subject", b"x-empty", b"from"]
    subject = headers.fields[1]
    assert BLOCK[subject.start : subject.end] == b"Subject: one\r\n\ttwo\r\n"
    assert headers.problems == []


def test_values_are_unfolded_and_stripped() -> None:
    headers = HeaderBlock(BLOCK)
    assert headers.get(b"subject") == b"one\ttwo"
    assert headers.get(b"x-empty") == b"" and headers.get(b"to") is None
    assert headers.get_all(b"from") == [b"a@b.test", b"c@d.test"] and headers.count(b"from") == 2


def test_a_block_without_some_fields_keeps_every_other_octet() -> None:
    without = HeaderBlock(BLOCK).without({b"from"})
    assert without == b"Subject: one\r\n\ttwo\r\nX-Empty:\r\n\r\nFrom: not this\r\n"
    assert HeaderBlock(BLOCK).without({b"bcc"}) == BLOCK


def test_a_line_that_is_no_field_is_named_in_plain_words() -> None:
    headers = HeaderBlock(b"From: a@b.test\r\nhello there\x1b[2J\r\nTo: x\r\n\r\n")
    assert headers.problems == ["this line of the header is not a field: 'hello there\\x1b[2J'"]
    assert [field.name for field in headers.fields] == [b"from", b"to"]
    assert HeaderBlock(b" folded without a field\r\n\r\n").problems


def test_a_folded_line_may_be_all_white_space() -> None:
    headers = HeaderBlock(b"Subject: x\r\n \r\n y\r\nTo: z\r\n\r\n")
    assert headers.get(b"subject") == b"x  y" and headers.get(b"to") == b"z"


def test_a_block_may_lack_its_end() -> None:
    assert HeaderBlock(b"From: a@b.test").get(b"from") == b"a@b.test"
    assert HeaderBlock(b"").fields == []


def test_the_end_of_the_header_is_found_as_it_grows() -> None:
    assert find_header_end(b"a: b\r\n\r\nbody") == 8
    assert find_header_end(b"\r\nbody") == 2
    assert find_header_end(b"a: b\r\n") is None
    for cut in range(1, 9):
        data = bytearray(b"a: b\r\n\r\nbody"[:cut])
        if find_header_end(data) is None:
            data += b"a: b\r\n\r\nbody"[cut:]
            assert find_header_end(data, cut) == 8


def test_the_message_id_is_found_in_what_people_write() -> None:
    assert message_id_of(HeaderBlock(b"Message-ID: (x) <a@b> \r\n\r\n")) == "<a@b>"
    assert message_id_of(HeaderBlock(b"Message-ID: a@b\r\n\r\n")) == "a@b"
    assert message_id_of(HeaderBlock(b"Message-ID:\r\n\r\n")) is None
    assert message_id_of(HeaderBlock(b"To: x\r\n\r\n")) is None
    assert message_id_of(HeaderBlock(b"Message-ID: <\xff@b>\r\n\r\n")) == "<\\xff@b>"


def test_a_block_of_nothing_but_fields_or_folds_is_read_in_one_pass() -> None:
    assert len(HeaderBlock(b"a:\r\n" * 60_000).fields) == 60_000
    assert len(HeaderBlock(b"a:\r\n" + b" x\r\n" * 60_000).fields) == 1


PIECES = st.sampled_from([b"From: a@b", b"\r\n", b" ", b"\t", b":", b"x", b"\r", b"\n", b"\0", b"\xff", b"Bcc: y"])


@given(st.lists(PIECES, max_size=40).map(b"".join))
def test_any_octets_are_covered_by_fields_and_problems_alone(data: bytes) -> None:
    headers = HeaderBlock(data)
    position = 0
    for field in headers.fields:
        assert position <= field.start < field.value_start <= field.end <= len(data)
        position = field.end
    assert headers.without({field.name for field in headers.fields}) != data or not headers.fields


@given(st.lists(PIECES, max_size=40).map(b"".join))
def test_what_is_left_without_a_field_has_the_other_fields_unchanged(data: bytes) -> None:
    headers = HeaderBlock(data)
    rest = HeaderBlock(headers.without({b"bcc"}))
    kept = [headers.data[f.start : f.end] for f in headers.fields if f.name != b"bcc"]
    assert [rest.data[f.start : f.end] for f in rest.fields if f.name != b"bcc"][: len(kept)] == kept


@pytest.mark.parametrize(
    ("content", "header"),
    [
        (b"A: x\r\nB: y\r\n\r\nbody", b"A: x\r\nB: y"),
        (b"\r\nbody\r\n\r\nmore", b""),
        (b"A: x\r\n folded\r\nthis is the body\r\n", b"A: x\r\n folded"),
        (b"A: x\r\nB: y\r\n", b"A: x\r\nB: y"),
        (b"A: x\r\nB: y", b"A: x\r\nB: y"),
        (b"A: x\r\nno field\r\nB: y\r\n\r\nbody", b"A: x\r\nno field\r\nB: y"),
        (b"no field", b""),
        (b"", b""),
    ],
)
def test_a_header_ends_at_the_blank_line_or_where_the_fields_do(content: bytes, header: bytes) -> None:
    assert content[: fields_end(content)] == header


def test_of_many_lines_that_are_no_fields_the_first_few_are_named_and_the_fields_behind_them_are_found() -> None:
    block = HeaderBlock(b"no field\r\n" * 50_000 + b"Subject: here\r\n\r\nbody")
    assert 1 <= len(block.problems) <= 10
    assert block.get(b"subject") == b"here" and len(block.fields) == 1
