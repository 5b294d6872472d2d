"""The regulator: one pure decision about how many connections a destination gets."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from waypost.transport.regulator import Decision, DestinationRecord, Pace, Reason, Signal, decide

SECOND = 1_000_000
MINUTE = 60 * SECOND
PACE = Pace()
BAD = {Signal.REFUSED, Signal.DROPPED, Signal.UNREACHABLE}


def play(*signals: Signal, pace: Pace = PACE, every: int = SECOND, begin: int = 1000 * MINUTE) -> Decision:
    """The decision after some signals, one each `every`."""
    decision = decide(DestinationRecord(), None, begin, pace)
    for number, signal in enumerate(signals, 1):
        decision = decide(decision.record, signal, begin + number * every, pace)
    return decision


def test_a_new_destination_begins_with_two_connections() -> None:
    assert play().connections == 2
    assert play(pace=Pace(ceiling=1)).connections == 1


def test_each_round_of_taken_messages_adds_a_connection() -> None:
    assert [play(*[Signal.TAKEN] * count).connections for count in (1, 2, 4, 5, 8, 9)] == [2, 3, 3, 4, 4, 5]


def test_it_grows_to_the_ceiling_and_not_past_it() -> None:
    assert play(*[Signal.TAKEN] * 1000).connections == PACE.ceiling


def test_messages_that_are_refused_add_nothing() -> None:
    assert play(*[Signal.ANSWERED] * 100).connections == 2


def test_a_dropped_connection_halves() -> None:
    grown = [Signal.TAKEN] * 1000
    assert play(*grown, Signal.DROPPED).connections == PACE.ceiling // 2
    assert play(Signal.DROPPED).connections == 1
    assert play(*grown, Signal.DROPPED, *[Signal.TAKEN] * 1000).connections == PACE.ceiling, "and that is soon over"


def test_a_number_that_was_too_many_is_respected_for_a_while() -> None:
    record = play(*[Signal.TAKEN] * 1000).record
    for _ in range(2):  # two lanes came too late at the same time
        record = decide(record, Signal.REFUSED, record.at, PACE, standing=3).record
    assert (record.limit, record.wall) == (3, 4)
    for _ in range(100):
        record = decide(record, Signal.TAKEN, record.wall_at + PACE.respect - 1, PACE).record
    assert record.limit == 3
    for _ in range(3):
        record = decide(record, Signal.TAKEN, record.wall_at + PACE.respect, PACE).record
    assert record.limit == 4


def test_the_third_connection_in_a_row_that_goes_wrong_ends_the_round() -> None:
    assert play(Signal.DROPPED, Signal.REFUSED).connections == 1
    assert play(Signal.DROPPED, Signal.REFUSED, Signal.DROPPED).connections == 0
    assert play(Signal.DROPPED, Signal.DROPPED, Signal.ANSWERED, Signal.DROPPED).connections == 1


def test_who_does_not_answer_is_left_alone_for_a_share_of_the_time_in_trouble() -> None:
    first = play(Signal.UNREACHABLE)
    assert (first.connections, first.not_before) == (0, first.record.at), "the first failure costs no pause"
    later = play(*[Signal.UNREACHABLE] * 9, every=MINUTE)
    assert later.not_before - later.record.at == 8 * MINUTE // PACE.share
    at_last = play(*[Signal.UNREACHABLE] * 100, every=MINUTE)
    assert at_last.not_before - at_last.record.at == PACE.longest_pause


def test_an_answer_ends_the_trouble() -> None:
    assert (
        play(*[Signal.UNREACHABLE] * 9, Signal.ANSWERED, Signal.UNREACHABLE, every=MINUTE).not_before
        == (1000 + 11) * MINUTE
    )


def test_a_destination_in_trouble_is_probed_with_one_connection() -> None:
    decision = play(Signal.UNREACHABLE)
    assert decide(decision.record, None, decision.record.at + SECOND, PACE).connections == 1


def test_a_record_that_is_too_old_says_nothing() -> None:
    old = play(*[Signal.TAKEN] * 1000).record
    assert decide(old, None, old.at + PACE.memory, PACE).connections == PACE.ceiling
    assert decide(old, None, old.at + PACE.memory + 1, PACE).connections == PACE.start


@pytest.mark.parametrize(
    ("signals", "reason"),
    [
        ([], Reason.BEGINNING),
        ([Signal.ANSWERED] * 5, Reason.BEGINNING),
        ([Signal.TAKEN], Reason.BEGINNING),
        ([Signal.TAKEN] * 5, Reason.GROWING),
        ([Signal.TAKEN] * 1000, Reason.CEILING),
        ([Signal.TAKEN] * 1000 + [Signal.DROPPED], Reason.DROPPED),
        ([Signal.TAKEN] * 5 + [Signal.REFUSED], Reason.TOO_MANY),
        ([Signal.TAKEN] * 5 + [Signal.REFUSED] + [Signal.TAKEN] * 50, Reason.TOO_MANY),
        ([Signal.DROPPED] * 3, Reason.LEFT_ALONE),
        ([Signal.UNREACHABLE], Reason.UNREACHABLE),
        ([Signal.UNREACHABLE, Signal.ANSWERED], Reason.BEGINNING),
        ([Signal.DROPPED] * 3 + [Signal.TAKEN], Reason.BEGINNING),
    ],
)
def test_a_decision_carries_the_term_that_binds(signals: list[Signal], reason: Reason) -> None:
    assert play(*signals).reason is reason


def test_a_pause_is_remembered_by_the_next_round_and_ends_with_its_time_or_an_answer() -> None:
    stopped = play(*[Signal.UNREACHABLE] * 9, every=MINUTE)
    assert stopped.not_before > stopped.record.at
    during = decide(stopped.record, None, stopped.not_before - 1, PACE)
    assert (during.connections, during.not_before) == (1, stopped.not_before)
    assert decide(stopped.record, None, stopped.not_before, PACE).not_before == 0
    answered = decide(stopped.record, Signal.ANSWERED, stopped.not_before - 1, PACE).record
    assert decide(answered, None, stopped.not_before - 1, PACE).not_before == 0


def test_a_clock_that_is_set_back_makes_no_pause_longer() -> None:
    stopped = play(*[Signal.UNREACHABLE] * 100, every=MINUTE)
    assert decide(stopped.record, None, stopped.record.at - 60 * MINUTE, PACE).not_before == 0


_SIGNALS = st.lists(st.sampled_from(Signal), max_size=60)
_PACES = st.builds(
    Pace,
    ceiling=st.integers(1, 50),
    start=st.integers(1, 5),
    patience=st.integers(1, 5),
    longest_pause=st.integers(0, 30 * MINUTE),
)
# The clock may jump, in both directions.
_TIMES = st.lists(st.integers(0, 10**16), min_size=60, max_size=60)


@given(_SIGNALS, _PACES, _TIMES, st.integers(0, 60))
def test_whatever_happens_the_decision_keeps_its_bounds(
    signals: list[Signal], pace: Pace, times: list[int], standing: int
) -> None:
    record = DestinationRecord()
    for signal, now in zip(signals, times, strict=False):
        before = decide(record, None, now, pace)
        after = decide(record, signal, now, pace, standing=standing)
        assert 1 <= before.connections <= pace.ceiling, "to begin with there is always one"
        assert 0 <= after.connections <= pace.ceiling
        assert 1 <= after.record.limit <= pace.ceiling
        assert 0 <= after.record.taken <= after.record.limit
        if signal in BAD:
            assert after.record.limit <= before.record.limit, "a bad signal never raises it"
            assert after.record.trouble_since is not None
        else:
            assert before.record.limit <= after.record.limit <= before.record.limit + 1
            assert after.record.trouble_since is None and after.connections >= 1
        if after.connections == 0:
            assert now <= after.not_before <= now + pace.longest_pause
        record = after.record


@given(_SIGNALS, _PACES)
def test_enough_success_reaches_the_ceiling_from_anywhere(signals: list[Signal], pace: Pace) -> None:
    record = play(*signals, pace=pace).record
    now = record.at + pace.respect
    for _ in range(pace.ceiling * pace.ceiling):
        record = decide(record, Signal.TAKEN, now, pace).record
    assert record.limit == pace.ceiling


@given(_SIGNALS, st.sampled_from(Signal), st.integers(PACE.memory + 1, 10**12))
def test_forgetting_an_old_record_changes_nothing(signals: list[Signal], next_signal: Signal, silence: int) -> None:
    record = play(*signals).record
    now = record.at + silence
    assert decide(record, next_signal, now, PACE) == decide(DestinationRecord(), next_signal, now, PACE)


def test_decisions_are_values() -> None:
    with pytest.raises(AttributeError):
        play().record.limit = 3  # type: ignore[misc]
