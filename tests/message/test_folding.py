"""Fields that we write: lines of 78 octets at most, and no word of a stranger's begins another field."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from waypost.message.folding import folded
from waypost.message.headers import HeaderBlock


def test_a_short_field_stands_on_one_line() -> None:
    assert folded("X-Spam", "no") == b"X-Spam: no\r\n"
    assert folded("X-Empty", "") == b"X-Empty:\r\n"


def test_a_long_field_is_folded_at_white_space_and_reads_the_same() -> None:
    value = " ".join(f"word{n}" for n in range(60))
    field = folded("Authentication-Results", value)
    assert max(map(len, field.split(b"\r\n"))) <= 78
    assert HeaderBlock(field).get(b"authentication-results") == value.encode()


@pytest.mark.parametrize("length", [70, 71, 78, 200])
def test_a_word_that_is_too_long_for_a_line_has_one_for_itself(length: int) -> None:
    field = folded("X-Long", "a " + "b" * length + " c")
    assert HeaderBlock(field).get(b"x-long") == b"a " + b"b" * length + b" c"
    assert b" " + b"b" * length in field.split(b"\r\n") or len(b" c" + b"b" * length) <= 78


def test_a_word_that_no_line_may_hold_is_cut() -> None:
    field = folded("X-Giant", "g" * 5000)
    assert max(map(len, field.split(b"\r\n"))) <= 998 and field.count(b"g") == 5000
    assert len(HeaderBlock(field).fields) == 1


@pytest.mark.parametrize("name", ["", "X Y", "X:", "X\r\n", "Grüße", "\tX"])
def test_what_is_no_name_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match="is not the name of a header field"):
        folded(name, "value")


@given(st.text(max_size=3000))
def test_whatever_the_value_is_it_is_one_field_in_ascii_within_the_limits(value: str) -> None:
    field = folded("X-Any", value)
    assert field.isascii() and field.endswith(b"\r\n") and b"\0" not in field
    lines = field[:-2].split(b"\r\n")
    assert all(len(line) <= 998 and not {13, 10} & set(line) for line in lines)
    assert all(line[:1] in (b" ", b"\t") and line.strip() for line in lines[1:]), "no line continues nothing"
    assert len(HeaderBlock(field + b"\r\n").fields) == 1
