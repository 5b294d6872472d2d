"""Each worker keeps to a processor of its own where every processor has its worker."""

import os
import threading
from collections.abc import Callable

import pytest

from waypost import processors

HERE = sorted(os.sched_getaffinity(0))
several = pytest.mark.skipif(len(HERE) < 2, reason="there is one processor")


def seen_by_a_thread(*work: Callable[[], None]) -> list[set[int]]:
    """Return what a fresh thread may use after each of these steps; the thread of the tests stays as it is."""
    seen: list[set[int]] = []

    def run() -> None:
        for step in work:
            step()
            seen.append(os.sched_getaffinity(0))

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    return seen


@several
@pytest.mark.parametrize("place", range(5))
def test_a_worker_keeps_to_one_processor_and_others_to_others(place: int) -> None:
    workers = len(HERE)
    assert seen_by_a_thread(lambda: processors.keep_to_one(place, workers)) == [{HERE[place % workers]}]


@several
def test_what_a_worker_starts_runs_beside_it_until_it_asks_for_any() -> None:
    inner: list[set[int]] = []

    def start() -> None:
        inner.extend(seen_by_a_thread(lambda: None, processors.use_any))

    outer, _ = seen_by_a_thread(lambda: processors.keep_to_one(0, len(HERE)), start)
    assert inner == [outer, set(HERE)]


def test_where_processors_are_left_over_the_scheduler_decides() -> None:
    assert seen_by_a_thread(lambda: processors.keep_to_one(0, len(HERE) - 1)) == [set(HERE)]


def test_a_processor_that_is_gone_leaves_it_to_the_scheduler(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(processors, "_allowed", [100_000, 100_001])
    assert seen_by_a_thread(lambda: processors.keep_to_one(0, 2), processors.use_any) == [set(HERE)] * 2


def test_there_is_a_worker_for_each_processor_unless_the_settings_say_otherwise() -> None:
    assert processors.count_workers(0) == len(HERE)
    assert processors.count_workers(7) == 7
