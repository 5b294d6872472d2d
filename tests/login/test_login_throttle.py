"""Who waits after failed logins, and for how long."""

from hypothesis import given
from hypothesis import strategies as st

from waypost.login.bounded import BoundedTable
from waypost.login.claim import account_key
from waypost.login.throttle import MAX_WAIT, Throttle

SECOND = 1_000_000
ATTACKER, OWNER, STRANGER = "192.0.2.66", "192.0.2.1", "198.51.100.7"
BOB = "bob@builder.test"


class Clock:
    def __init__(self) -> None:
        self.now = 1_795_500_000 * SECOND

    def __call__(self) -> int:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += int(seconds * SECOND)


def test_a_network_that_fails_waits_longer_each_time_up_to_a_minute() -> None:
    clock = Clock()
    throttle = Throttle(clock)
    waits = []
    for _ in range(9):
        assert throttle.wait(ATTACKER, BOB) == 0
        throttle.failed(ATTACKER, BOB)
        waits.append(throttle.wait(ATTACKER, "anybody@builder.test"))
        clock.sleep(waits[-1])
    assert waits == [1, 2, 4, 8, 16, 32, 60, 60, 60]


def test_an_hour_of_peace_is_forgiving() -> None:
    clock = Clock()
    throttle = Throttle(clock)
    for _ in range(9):
        throttle.failed(ATTACKER, BOB)
    clock.sleep(3600)
    assert throttle.wait(ATTACKER, BOB) == 0
    throttle.failed(ATTACKER, BOB)
    assert throttle.wait(ATTACKER, BOB) == 1


def test_the_owner_is_let_in_while_the_account_is_attacked_from_everywhere() -> None:
    clock = Clock()
    throttle = Throttle(clock)
    throttle.succeeded(OWNER, BOB)
    for number in range(1000):
        throttle.failed(f"203.0.113.{number}", BOB)
    assert throttle.wait(OWNER, BOB) == 0


def test_the_owner_gets_in_from_a_new_network_after_one_wait_whatever_others_do() -> None:
    clock = Clock()
    throttle = Throttle(clock)
    for number in range(1000):
        throttle.failed(f"203.0.113.{number}", BOB)
    wait = throttle.wait(STRANGER, BOB)
    assert wait == MAX_WAIT
    for number in range(wait):
        clock.sleep(1)
        throttle.failed(f"203.0.113.{number}", BOB)
    assert throttle.wait(STRANGER, BOB) == 0


def test_one_guess_takes_the_appointment_away() -> None:
    clock = Clock()
    throttle = Throttle(clock)
    for number in range(1000):
        throttle.failed(f"203.0.113.{number}", BOB)
    clock.sleep(throttle.wait(STRANGER, BOB))
    throttle.failed(STRANGER, BOB)
    assert throttle.wait(STRANGER, BOB) == MAX_WAIT
    clock.sleep(1)  # the network's own wait is over
    assert throttle.wait(STRANGER, BOB) == MAX_WAIT - 1
    assert throttle.wait(STRANGER, "alice@builder.test") == 0


def test_a_guess_from_the_owners_own_network_slows_only_that_network_down() -> None:
    clock = Clock()
    throttle = Throttle(clock)
    throttle.succeeded(OWNER, BOB)
    throttle.failed(OWNER, BOB)
    throttle.failed(OWNER, BOB)
    assert throttle.wait(OWNER, BOB) == 2
    assert throttle.wait(OWNER, "alice@builder.test") == 0
    assert throttle.wait(STRANGER, BOB) == 0
    clock.sleep(2)
    throttle.succeeded(OWNER, BOB)
    throttle.failed(OWNER, BOB)
    assert throttle.wait(OWNER, BOB) == 1


def test_an_own_account_does_not_buy_guesses_at_others() -> None:
    clock = Clock()
    throttle = Throttle(clock)
    for _ in range(5):
        throttle.failed(ATTACKER, BOB)
        throttle.succeeded(ATTACKER, "mallory@builder.test")
    assert throttle.wait(ATTACKER, BOB) == 16


def test_a_clock_that_is_set_back_makes_nobody_wait_for_days() -> None:
    clock = Clock()
    throttle = Throttle(clock)
    for _ in range(10):
        throttle.failed(ATTACKER, BOB)
    assert throttle.wait(STRANGER, BOB) > 0
    clock.sleep(-86400)
    assert throttle.wait(ATTACKER, BOB) <= MAX_WAIT
    assert throttle.wait(STRANGER, BOB) <= MAX_WAIT


def test_a_table_forgets_what_was_not_used_for_longest() -> None:
    table: BoundedTable[str, int] = BoundedTable(2)
    table.put("a", 1)
    table.put("b", 2)
    assert table.get("a") == 1
    table.put("c", 3)
    assert (table.get("a"), table.get("b"), table.get("c"), len(table)) == (1, None, 3, 2)


_STEPS = st.tuples(st.sampled_from(["wait", "failed", "succeeded"]), st.integers(0, 9), st.integers(0, 9))


@given(st.lists(st.tuples(_STEPS, st.integers(-100, 4000)), max_size=60))
def test_no_wait_is_longer_than_a_minute_and_the_tables_stay_small(
    steps: list[tuple[tuple[str, int, int], int]],
) -> None:
    clock = Clock()
    throttle = Throttle(clock, most=4)
    for (step, network, account), pause in steps:
        answer = getattr(throttle, step)(str(network), str(account))
        if step == "wait":
            assert 0 <= answer <= MAX_WAIT
        clock.sleep(pause)
    assert len(throttle) <= 16


def test_a_user_name_is_a_full_address_in_any_case() -> None:
    assert account_key("Bob@Builder.TEST") == BOB
    assert account_key("info@B\u00dcCHER.test") == account_key("INFO@xn--bcher-kva.test") == "info@xn--bcher-kva.test"
    for user in ("bob", "", "bob@", "@builder.test", "bob@builder.test\n", "bob builder.test", "\ud800@x.test"):
        assert account_key(user) == ""
