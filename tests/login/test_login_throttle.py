"""Who waits for a login, who is refused one unseen, and how much that leaves to a guesser."""

import itertools
import os
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from waypost.login.claim import account_key
from waypost.login.memory import LoginMemory
from waypost.login.throttle import LONGEST_LINE, MAX_DELAY, MOST_FAILURES, Entry, Origin, Standing, Throttle

SECOND = 1_000_000
HOUR, DAY = 3600, 24 * 3600
BOB, ALICE = "bob@builder.test", "alice@builder.test"
ATTACKER, STRANGER = "192.0.2.66", "198.51.100.7"
GUESSER = Origin(ATTACKER, BOB)
HOME = Origin("192.0.2.1", BOB, known=True)


class Clock:
    def __init__(self) -> None:
        self.now = 1_795_500_000 * SECOND

    def __call__(self) -> int:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += int(seconds * SECOND)


class Door:
    """A throttle with its clock."""

    def __init__(self, memory: LoginMemory) -> None:
        self.memory = memory
        self.clock = Clock()
        self.throttle = Throttle(memory, self.clock)

    def waited(self, origin: Origin) -> float | None:
        """Wait until a login may go on; return the seconds, None when it is refused."""
        begun = self.clock.now
        while True:
            entry = self.throttle.enter(origin)
            if entry.refused:
                return None
            self.clock.sleep(entry.wait)
            if entry.turn or not entry.wait:
                return (self.clock.now - begun) / SECOND

    def fail(self, origin: Origin, times: int = 1) -> None:
        for _ in range(times):
            self.throttle.failed(origin)

    def attack(self, account: str, networks: int, *, each: int = 1) -> None:
        for number in range(networks):
            self.fail(Origin(f"203.0.113.{number}", account), each)

    def guesses(self, origins: Iterator[Origin], seconds: int) -> int:
        """Guess one after the other for so long; return how many guesses were looked at."""
        until, seen = self.clock.now + seconds * SECOND, 0
        for origin in origins:
            if self.clock.now >= until:
                break
            if self.waited(origin) is None:
                self.clock.sleep(60)
                continue
            seen += 1
            self.throttle.failed(origin)
        return seen


@pytest.fixture
def door() -> Iterator[Door]:
    memory = LoginMemory.create()
    yield Door(memory)
    memory.close()


def test_answers_wait_longer_after_each_failure_and_nobody_is_refused_for_twenty(door: Door) -> None:
    waits = []
    for _ in range(MOST_FAILURES):
        waits.append(door.waited(GUESSER))
        assert door.throttle.failed(GUESSER) == 0
    assert waits[:8] == [0, 1, 2, 4, 8, 15, 15, 15]
    assert None not in waits and max(waits, key=lambda wait: wait or 0) == MAX_DELAY
    assert door.throttle.failed(GUESSER) > 0, "the next one is told to come later"


def test_the_limit_says_when_it_ends(door: Door) -> None:
    for number in range(MOST_FAILURES + 1):
        left = door.throttle.failed(Origin(ATTACKER, f"user{number}@builder.test"))
        door.clock.sleep(1)
    assert left == 600 - MOST_FAILURES
    door.clock.sleep(left)
    assert door.throttle.enter(Origin(ATTACKER, "other@builder.test")) == Entry()


def test_beyond_the_limit_guesses_take_turns_and_too_many_at_once_are_refused(door: Door) -> None:
    door.fail(GUESSER, 21)
    turns = [door.throttle.enter(GUESSER) for _ in range(70)]
    assert [entry.wait for entry in turns[:61]] == list(range(61))
    assert all(entry.turn for entry in turns[:61])
    assert all(entry.refused for entry in turns[61:])


def test_after_a_thousand_turns_they_are_fewer(door: Door) -> None:
    door.fail(GUESSER, 21)
    for _ in range(1100):  # some come back meanwhile
        assert door.waited(GUESSER) is not None
        door.fail(GUESSER)
    waits = [door.waited(GUESSER) for _ in range(10)]
    assert waits[-1] == 15
    door.clock.sleep(DAY)
    door.fail(GUESSER, 21)
    door.throttle.enter(GUESSER)
    assert door.throttle.enter(GUESSER).wait == 1, "a quiet day later, they are again"


def test_a_new_phone_behind_a_guessers_address_is_let_through_in_a_lane_of_its_own(door: Door) -> None:
    door.fail(GUESSER, 100)
    for _ in range(50):
        door.throttle.enter(GUESSER)
    assert door.throttle.enter(Origin(ATTACKER, ALICE)) == Entry(0, turn=True)
    assert door.throttle.enter(Origin(ATTACKER, "carol@builder.test")) == Entry(1, turn=True)


def test_the_owner_gets_his_turn_though_somebody_at_his_address_guesses_at_his_account(door: Door) -> None:
    door.fail(GUESSER, 100)
    for _ in range(50):  # so many connections may one network have
        door.throttle.enter(GUESSER)
    entry = door.throttle.enter(GUESSER)
    assert entry.turn and entry.wait <= LONGEST_LINE


def test_a_known_network_hears_nothing_of_failures_elsewhere(door: Door) -> None:
    door.attack(BOB, 200, each=3)
    door.fail(Origin(HOME.network, ALICE), 100)
    assert door.throttle.enter(HOME) == Entry()
    assert door.throttle.standing(HOME) is Standing.KNOWN


def test_guesses_from_a_known_network_count_for_that_account_and_network_alone(door: Door) -> None:
    door.fail(HOME, 5)
    assert door.throttle.enter(HOME).wait == MAX_DELAY
    assert door.throttle.enter(Origin(HOME.network, ALICE)) == Entry()
    assert door.throttle.enter(Origin(STRANGER, BOB)) == Entry()
    door.fail(HOME, 100)
    assert [door.waited(HOME) for _ in range(3)] == [0, 1, 1], "in turns, and not refused"


def test_the_owner_gets_in_from_a_new_network_at_once_while_his_account_is_attacked_from_everywhere(
    door: Door,
) -> None:
    door.attack(BOB, 200, each=10)
    assert door.throttle.enter(Origin(STRANGER, BOB)) == Entry()
    door.fail(Origin(STRANGER, BOB))
    assert door.waited(Origin(STRANGER, BOB)) == 1


def test_a_network_has_five_tries_a_day_at_an_account_that_many_others_failed_at(door: Door) -> None:
    door.attack(BOB, 11)
    for _ in range(5):
        assert door.waited(Origin(STRANGER, BOB)) is not None
        door.fail(Origin(STRANGER, BOB))
    assert door.waited(Origin(STRANGER, BOB)) is None
    assert door.waited(Origin(STRANGER, ALICE)) is not None, "at others it waits as anybody does"
    assert door.waited(Origin(STRANGER, BOB, known=True)) is not None


def test_one_network_alone_is_no_attack_from_many(door: Door) -> None:
    door.fail(GUESSER, 100)
    assert door.waited(GUESSER) is not None


def test_an_own_account_does_not_buy_guesses_at_others(door: Door) -> None:
    for _ in range(5):
        door.fail(GUESSER)
        door.throttle.enter(Origin(ATTACKER, "mallory@builder.test", known=True))
    assert door.waited(GUESSER) == MAX_DELAY


def test_names_that_do_not_exist_are_no_way_around(door: Door) -> None:
    names = (Origin(ATTACKER, f"nobody{number}@builder.test") for number in itertools.count())
    waits = []
    for origin in itertools.islice(names, 6):
        waits.append(door.waited(origin))
        door.fail(origin)
    assert waits == [0, 1, 2, 4, 8, 15]


def test_workers_that_share_a_memory_count_together(door: Door) -> None:
    other = Throttle(LoginMemory(os.dup(door.memory.fd), door.memory.key), door.clock)
    door.fail(GUESSER, 2)
    other.failed(GUESSER)
    assert door.throttle.enter(GUESSER).wait == other.enter(GUESSER).wait == 4
    door.fail(GUESSER, 20)
    assert [throttle.enter(GUESSER).wait for throttle in (other, door.throttle, other)] == [0, 1, 2]


def test_who_has_not_failed_goes_first(door: Door) -> None:
    assert door.throttle.standing(GUESSER) is Standing.CLEAN
    door.fail(GUESSER)
    assert door.throttle.standing(GUESSER) is Standing.FAILED
    assert door.throttle.standing(Origin(ATTACKER, ALICE)) is Standing.FAILED, "its network"
    assert door.throttle.standing(Origin(STRANGER, BOB)) is Standing.FAILED, "its account"
    assert door.throttle.standing(Origin(STRANGER, ALICE)) is Standing.CLEAN
    assert door.throttle.standing(HOME) is Standing.KNOWN


# What is left to a guesser: the figures of decision 0026.


def test_one_network_gets_few_thousand_guesses_a_day_at_an_account(door: Door) -> None:
    assert door.guesses(itertools.repeat(GUESSER), DAY) <= 6_800


def test_one_network_gets_few_thousand_guesses_a_day_at_some_accounts(door: Door) -> None:
    users = [Origin(ATTACKER, f"user{number}@builder.test") for number in range(100)]
    assert door.guesses(itertools.cycle(users), DAY) <= 6_800 + 3 * 100


def test_a_botnet_gets_five_guesses_a_day_each_at_an_account(door: Door) -> None:
    bots = [Origin(f"203.0.{number // 250}.{number % 250}", BOB) for number in range(300)]
    seen = 0
    for _ in range(24):  # each bot comes back every hour, and tries four times
        for bot in bots:
            for _ in range(4):
                if (entry := door.throttle.enter(bot)).refused:
                    break
                if not entry.wait:
                    seen += 1
                    door.throttle.failed(bot)
                door.clock.sleep(0.002)
        door.clock.sleep(HOUR - 1)
    assert seen <= 5 * len(bots) + 24 * 10, "and ten of them one more an hour"


def test_a_customer_with_many_networks_of_ipv6_gets_five_guesses_a_day_at_an_account(door: Door) -> None:
    seen = 0
    for number in range(256):
        for _ in range(6):
            origin = Origin(f"2001:db8:0:{number:x}::/64", BOB)
            if not door.throttle.enter(origin).refused:
                seen += 1
                door.throttle.failed(origin)
    assert seen <= 11 * 6
    assert door.waited(Origin("2001:db8:0:100::/64", BOB)) is not None, "his neighbour is another one"


def test_a_clock_that_is_set_back_makes_nobody_wait_for_days(door: Door) -> None:
    door.fail(GUESSER, 30)
    for _ in range(10):
        door.throttle.enter(GUESSER)
    door.clock.sleep(-DAY)
    assert door.waited(GUESSER) == 0
    door.fail(GUESSER, 21)
    assert door.throttle.enter(GUESSER).wait <= LONGEST_LINE


_STEPS = st.tuples(
    st.sampled_from(["enter", "failed", "standing"]), st.integers(0, 5), st.integers(0, 3), st.booleans()
)
_SHARED = LoginMemory.create()


@given(st.lists(st.tuples(_STEPS, st.integers(-100, 4000)), max_size=60), st.binary(max_size=112))
def test_no_wait_is_longer_than_a_minute_whatever_is_in_the_memory(
    steps: list[tuple[tuple[str, int, int, bool], int]], nonsense: bytes
) -> None:
    door = Door(_SHARED)
    _SHARED.counters.put(_SHARED.name("network", "0"), nonsense, lambda _: 0)
    _SHARED.counters.put(_SHARED.name("pair", "0", "0"), nonsense, lambda _: 0)
    for (step, network, account, known), pause in steps:
        answer = getattr(door.throttle, step)(Origin(str(network), str(account), known))
        if step == "enter":
            assert 0 <= answer.wait <= LONGEST_LINE and answer.refused <= HOUR
        door.clock.sleep(pause)


def test_a_user_name_is_a_full_address_in_any_case() -> None:
    assert account_key("Bob@Builder.TEST") == BOB
    assert account_key("info@B\u00dcCHER.test") == account_key("INFO@xn--bcher-kva.test") == "info@xn--bcher-kva.test"
    for user in ("bob", "", "bob@", "@builder.test", "bob@builder.test\n", "bob builder.test", "\ud800@x.test"):
        assert account_key(user) == ""
