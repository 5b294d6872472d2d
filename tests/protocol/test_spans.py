"""Spans of time in words."""

import pytest

from waypost.protocol.spans import in_words


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (0, "0 seconds"),
        (1, "1 second"),
        (2, "2 seconds"),
        (119, "119 seconds"),
        (120, "2 minutes"),
        (541, "10 minutes"),
    ],
)
def test_people_read_a_span(seconds: int, words: str) -> None:
    assert in_words(seconds) == words
