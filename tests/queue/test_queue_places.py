"""Shares of places: no holder has more than its share, whoever comes next finds one, and nobody waits for nothing."""

import asyncio

import pytest
from hypothesis import given
from hypothesis import strategies as st

from waypost.queue.places import PlaceClaim, Places, Turns, comes_back, may_take

SECOND = 1_000_000


def fill(places: Places, claim: PlaceClaim) -> int:
    """Let a claim take what it may; return how many that is."""
    count = 0
    while places.allows(claim):
        places.take(claim)
        count += 1
    return count


def of(*holders: str, proven: bool = False, reserve: int = 0, part: int = 1) -> PlaceClaim:
    return PlaceClaim(holders, proven, reserve, part)


def test_one_alone_has_half_of_the_places() -> None:
    assert fill(Places(500), of("a")) == 250
    assert fill(Places(500), of("a", part=2)) == 167
    assert fill(Places(1), of("a")) == 1


def test_each_further_one_finds_some() -> None:
    places = Places(500)
    shares = [fill(places, of(f"account {number}")) for number in range(20)]
    assert (shares[:3] == [250, 125, 63] and min(shares) >= 1) or places.free(of("new")) == 0
    assert shares == sorted(shares, reverse=True)


@given(st.lists(st.tuples(st.integers(0, 9), st.booleans()), max_size=400), st.integers(1, 60))
def test_whatever_is_asked_for_shares_and_reserves_are_kept(asked: list[tuple[int, bool]], count: int) -> None:
    places = Places(count)
    reserve = count // 8
    taken: list[PlaceClaim] = []
    for number, proven in asked:
        claim = of(f"account {number}", proven=proven, reserve=reserve)
        free, held = places.free(claim), places.held(f"account {number}")
        if places.allows(claim):
            assert free > 0 and held <= free
            places.take(claim)
            taken.append(claim)
        elif free > 0:
            assert held >= 1, "whoever has none gets one, while there is one"
    assert places.taken <= count
    assert sum(not claim.proven for claim in taken) <= count - reserve
    for claim in taken:
        places.give(claim)
    assert places.taken == 0 and places.free(of("x", proven=True)) == count


def test_some_are_kept_for_destinations_that_answered() -> None:
    places = Places(40)
    for number in range(100):
        fill(places, of(f"account {number}", reserve=5))
    assert places.taken == 35
    assert places.allows(of("another", proven=True)) and not places.allows(of("another", reserve=5))


def test_every_holder_of_a_claim_needs_its_share() -> None:
    places = Places(8)
    assert fill(places, of("alice", "192.0.2.1")) == 4
    assert not places.allows(of("bob", "192.0.2.1")), "that server has enough"
    assert not places.allows(of("alice", "192.0.2.2")), "that account has enough"
    assert places.allows(of("bob", "192.0.2.2"))


@given(st.integers(0, 600), st.integers(-5, 600), st.integers(1, 4))
def test_more_held_or_less_free_never_helps(held: int, free: int, part: int) -> None:
    if may_take(held, free, part):
        assert free > 0
        assert may_take(max(0, held - 1), free, part) and may_take(held, free + 1, part)


async def test_who_waits_gets_a_place_in_turn_and_not_before_its_share_allows() -> None:
    places = Places(4)
    alice, bob = of("alice"), of("bob")
    assert fill(places, alice) == 2 and fill(places, bob) == 1
    later = [places.wait(alice), places.wait(alice), places.wait(bob)]
    places.give(alice)
    await asyncio.sleep(0)
    assert [future.done() for future in later] == [True, False, False], "the first that waits, and may have it"
    places.give(bob)
    assert later[2].done() or later[1].done()
    for _ in range(10):
        for claim in (alice, bob):
            if places.held(claim.holders[0]):
                places.give(claim)
    assert all(future.done() and future.result() for future in later) and places.waiting == 0


async def test_a_place_given_to_one_that_left_goes_to_the_next() -> None:
    places = Places(1)
    places.take(of("alice"))
    first, second = places.wait(of("bob")), places.wait(of("bob"))
    first.cancel()
    places.give(of("alice"))
    assert second.done() and second.result()
    places.leave(of("bob"), first)
    places.leave(of("bob"), second)  # cancelled after it was given
    assert places.taken == 0 and places.waiting == 0


async def test_nobody_is_let_in_while_there_is_no_room() -> None:
    room = False
    places = Places(2, room=lambda: room)
    waiting = places.wait(of("alice"))
    places.wake()
    assert not waiting.done() and not places.allows(of("alice"))
    room = True
    places.wake()
    assert waiting.done()


@given(st.lists(st.integers(0, 10 * SECOND), min_size=1, max_size=200))
def test_who_was_turned_away_comes_back_one_after_the_other_within_a_minute(steps: list[int]) -> None:
    last, now = 0, 1000 * SECOND
    for step in steps:
        now += step
        turn = comes_back(last, now)
        assert now + 2 * SECOND <= turn <= now + 60 * SECOND
        assert turn >= min(last + 40_000, now + 60 * SECOND)
        last = turn


def test_turns_are_those_of_each_holder() -> None:
    turns = Turns()
    first = [turns.comes_back("a", SECOND) for _ in range(3)]
    assert first == [3 * SECOND, 3 * SECOND + 40_000, 3 * SECOND + 80_000]
    assert turns.comes_back("b", SECOND) == 3 * SECOND


@pytest.mark.parametrize("count", [1, 2, 3, 4, 5, 8])
def test_however_few_places_there_are_somebody_gets_one(count: int) -> None:
    places = Places(count)
    assert fill(places, of("alice", reserve=count // 4)) >= 1
