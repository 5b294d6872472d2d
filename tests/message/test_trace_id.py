"""The trace id as people see it: 13 characters, and no more of them than storage holds."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from waypost.message.trace import TraceId, format_trace_id, parse_trace_id


@given(st.integers(0, 2**62 - 1).map(TraceId))
def test_every_trace_id_is_read_as_it_is_written_in_either_case(trace: TraceId) -> None:
    text = format_trace_id(trace)
    assert parse_trace_id(text) == parse_trace_id(text.upper()) == trace


@pytest.mark.parametrize("text", ["4000000000000", "zzzzzzzzzzzzz"])
def test_what_is_larger_than_any_trace_id_is_none(text: str) -> None:
    with pytest.raises(ValueError, match="too large"):
        parse_trace_id(text)
