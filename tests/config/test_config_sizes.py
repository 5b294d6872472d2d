"""Sizes in the configuration and on the command line."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from waypost.config.sizes import check_size, format_size, parse_size, rounded_size


@pytest.mark.parametrize(
    ("text", "octets"),
    [("0", 0), ("1234", 1234), ("64 KiB", 65536), ("64KiB", 65536), ("50 mib", 50 << 20), ("2 GiB", 2 << 30)],
)
def test_a_size_is_a_number_of_octets_or_has_a_binary_unit(text: str, octets: int) -> None:
    assert parse_size(text) == octets


@pytest.mark.parametrize("text", ["", "MiB", "5 MB", "5M", "-1", "1.5 GiB", "5  MiB", "5 MiB "])
def test_anything_else_is_none(text: str) -> None:
    with pytest.raises(ValueError, match="not a size; write a number of octets"):
        parse_size(text)


def test_a_size_has_a_ceiling_and_a_floor() -> None:
    with pytest.raises(ValueError, match="too large"):
        parse_size("1025 TiB")
    with pytest.raises(ValueError, match="not a size"):
        check_size(-1)


@given(st.integers(0, 1 << 50))
def test_what_is_written_is_read_back(octets: int) -> None:
    assert parse_size(format_size(octets)) == octets


@pytest.mark.parametrize(
    ("octets", "text"), [(0, "0 B"), (312, "312 B"), (1024, "1 KiB"), (1_500_000, "1.4 MiB"), (5 << 30, "5 GiB")]
)
def test_people_see_at_most_one_decimal(octets: int, text: str) -> None:
    assert rounded_size(octets) == text
