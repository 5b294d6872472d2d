"""A clock that is set is noticed; one that is slewed, or a process that slept, is not."""

from tests.queue.world import SECOND, FakeClock

from waypost.queue.clocks import ClockWatch


def test_time_that_passes_is_no_step() -> None:
    clock = FakeClock()
    watch = ClockWatch(clock.now, clock.monotonic)
    for seconds in (0, 1, 3600, 1_000_000):
        clock.advance(seconds)
        assert watch.step() == 0


def test_a_step_is_told_once_with_its_sign() -> None:
    clock = FakeClock()
    watch = ClockWatch(clock.now, clock.monotonic)
    clock.set_by(3600)
    assert watch.step() == 3600 * SECOND
    assert watch.step() == 0
    clock.set_by(-7200)
    assert watch.step() == -7200 * SECOND


def test_a_clock_that_is_slewed_is_left_alone() -> None:
    clock = FakeClock()
    watch = ClockWatch(clock.now, clock.monotonic)
    for _ in range(1000):
        clock.advance(30)
        clock.set_by(0.015)  # 500 ppm
        assert watch.step() == 0
