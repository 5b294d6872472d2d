"""Whole line ends, and lines that begin with a dot, wherever the borders of blocks and windows fall."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from waypost.protocol import lines
from waypost.protocol.lines import double_dots, find_dot, is_clean

PIECES = st.lists(st.sampled_from([b"\r", b"\n", b"\r\n", b"\0", b"x", b".", b"\r\n.", b"xxxxx"]), max_size=30)
ENDS = [b"\r\n", b"\r", b"\n", b"\n\r", b"\r\r\n", b"\r\n\n", b"\r\n\r\n", b"\0", b"\r\n.", b"x"]
large = pytest.mark.parametrize("end", ENDS, ids=repr)


def clean_by_the_rule(piece: bytes) -> bool:
    return not set(piece.replace(b"\r\n", b"")) & set(b"\r\n\0")


@pytest.fixture(autouse=True)
def small_blocks(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    if request.node.get_closest_marker("parametrize") is None:
        monkeypatch.setattr(lines, "_BLOCK", 4)
        monkeypatch.setattr(lines, "_WINDOW", 3)


@given(PIECES.map(b"".join))
def test_clean_is_what_has_only_whole_line_ends_and_no_nul(piece: bytes) -> None:
    assert is_clean(piece) == clean_by_the_rule(piece)


@given(PIECES.map(b"".join))
def test_the_first_dot_behind_a_line_end_is_found(data: bytes) -> None:
    assert find_dot(data) == data.find(b"\r\n.")


@given(PIECES.map(b"".join))
def test_dots_are_doubled_behind_line_ends_only(data: bytes) -> None:
    assert double_dots(data) == data.replace(b"\r\n.", b"\r\n..")


@large
@pytest.mark.parametrize("border", [lines._BLOCK, lines._WINDOW, 2 * lines._BLOCK])
@pytest.mark.parametrize("shift", range(-4, 3))
def test_borders_of_blocks_hide_nothing(end: bytes, border: int, shift: int) -> None:
    for before in (b"a" * (border + shift), b"." + b"a" * (border + shift - 1), b"\r\n" * ((border + shift) // 2)):
        for piece in (before + end, before + end + b"." * 9, before + end + b"\r\n" * 9):
            assert is_clean(piece) == clean_by_the_rule(piece)
            assert find_dot(piece) == piece.find(b"\r\n.")
            assert double_dots(piece) == piece.replace(b"\r\n.", b"\r\n..")
