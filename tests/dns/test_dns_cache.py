"""The cache keeps what holds, forgets what no longer does, and stays small."""

from hypothesis import given
from hypothesis import strategies as st
from tests.dns.servers import FakeClock

from waypost.dns.cache import Cache


def test_a_value_is_kept_until_its_term_ends() -> None:
    clock = FakeClock()
    cache: Cache[str, int] = Cache(10, clock)
    cache.put("a", 1, 5, 1)
    clock.now += 4
    assert cache.get("a") == (1, 1)
    clock.now += 1
    assert cache.get("a") is None
    assert len(cache) == 0


def test_the_least_recently_used_go_first() -> None:
    cache: Cache[str, int] = Cache(2, FakeClock())
    cache.put("a", 1, 5, 1)
    cache.put("b", 2, 5, 1)
    assert cache.get("a")
    cache.put("c", 3, 5, 1)
    assert cache.get("b") is None and cache.get("a") and cache.get("c")


def test_a_newer_value_takes_the_place_of_an_older_one() -> None:
    cache: Cache[str, int] = Cache(2, FakeClock())
    cache.put("a", 1, 5, 2)
    cache.put("a", 2, 9, 2)
    assert cache.get("a") == (2, 9)
    cache.put("a", 3, 0, 2)
    assert cache.get("a") is None, "it does not hold, and neither does what it replaces"


def test_what_is_larger_than_all_is_not_kept_and_drives_nothing_out() -> None:
    cache: Cache[str, int] = Cache(10, FakeClock())
    cache.put("a", 1, 5, 1)
    cache.put("b", 2, 5, 11)
    assert cache.get("b") is None and cache.get("a")


@given(st.lists(st.tuples(st.integers(0, 9), st.integers(-1, 5), st.integers(1, 12), st.integers(0, 3))))
def test_it_never_grows_past_its_capacity_and_never_returns_what_is_over(
    puts: list[tuple[int, int, int, int]],
) -> None:
    clock = FakeClock()
    cache: Cache[int, float] = Cache(10, clock)
    weights: dict[int, int] = {}
    for key, seconds, weight, passed in puts:
        cache.put(key, clock.now + seconds, seconds, weight)
        weights[key] = weight
        clock.now += passed
        held = [key for key in weights if cache.get(key)]
        assert sum(weights[key] for key in held) <= 10
        for key in held:
            found = cache.get(key)
            assert found is not None and found[0] > clock.now
    cache.clear()
    assert len(cache) == 0
