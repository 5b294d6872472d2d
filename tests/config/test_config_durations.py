"""Durations in the configuration."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from waypost.config.durations import format_duration, parse_duration


@pytest.mark.parametrize(
    ("text", "microseconds"),
    [("500ms", 500_000), ("2s", 2_000_000), ("5m", 300_000_000), ("4h", 14_400_000_000), ("5d", 432_000_000_000)],
)
def test_a_duration_is_a_number_with_a_unit(text: str, microseconds: int) -> None:
    assert parse_duration(text) == microseconds


@pytest.mark.parametrize("text", ["", "5", "d", "5 d", "-5d", "5dayz", "5D", "1.5h", "5d ", "٥d", "5d\n"])
def test_anything_else_is_none(text: str) -> None:
    with pytest.raises(ValueError, match='not a duration; write for example "5d" or "120h"'):
        parse_duration(text)


def test_ten_years_are_the_longest() -> None:
    assert parse_duration("3650d") == 3650 * 86_400_000_000
    with pytest.raises(ValueError, match="longer than ten years"):
        parse_duration("3651d")


@given(st.integers(0, 10**9).map(lambda milliseconds: milliseconds * 1000))
def test_what_is_written_is_read_back(microseconds: int) -> None:
    assert parse_duration(format_duration(microseconds)) == microseconds


@given(st.text())
def test_no_text_does_anything_but_give_a_duration_or_a_value_error(text: str) -> None:
    try:
        assert parse_duration(text) >= 0
    except ValueError as error:
        assert ";" in str(error)
