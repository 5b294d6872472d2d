"""What is remembered of password checks, and for how long."""

from waypost.login.memory import LoginMemory
from waypost.login.verdicts import Verdicts

MINUTE = 60_000_000


class Clock:
    now = 0

    def __call__(self) -> int:
        return self.now


def made(clock: Clock, key: bytes = b"key") -> Verdicts:
    return Verdicts(LoginMemory.create(lambda _: key), clock)


def test_a_right_password_is_remembered_for_ten_minutes_from_every_network() -> None:
    clock = Clock()
    verdicts = made(clock)
    question = verdicts.question("hash", False, "password")
    assert verdicts.recall("net", "bob", question) is None
    verdicts.remember("net", "bob", question, True)
    clock.now = 10 * MINUTE - 1
    assert verdicts.recall("other net", "bob", question) is True
    assert verdicts.recall("net", "alice", question) is None
    clock.now = 10 * MINUTE
    assert verdicts.recall("net", "bob", question) is None
    clock.now = 0
    assert verdicts.recall("net", "bob", question) is None, "what expired is gone"


def test_a_change_of_the_account_is_a_new_question() -> None:
    verdicts = made(Clock())
    verdicts.remember("net", "bob", verdicts.question("hash", False, "password"), True)
    for question in (
        verdicts.question("new hash", False, "password"),
        verdicts.question("hash", True, "password"),
        verdicts.question("hash", False, "Password"),
        made(Clock(), b"other key").question("hash", False, "password"),
    ):
        assert verdicts.recall("net", "bob", question) is None


def test_a_notice_about_the_account_drops_its_password() -> None:
    verdicts = made(Clock())
    question = verdicts.question("hash", False, "password")
    verdicts.remember("net", "bob", question, True)
    verdicts.forget("alice")
    assert verdicts.recall("net", "bob", question) is True
    verdicts.forget("bob")
    assert verdicts.recall("net", "bob", question) is None


def test_the_last_wrong_passwords_are_remembered_for_their_network_and_account() -> None:
    verdicts = made(Clock())
    questions = [verdicts.question("hash", False, str(number)) for number in range(6)]
    for question in questions:
        verdicts.remember("net", "bob", question, False)
    assert [verdicts.recall("net", "bob", question) for question in questions] == [None] * 2 + [False] * 4
    assert verdicts.recall("other", "bob", questions[-1]) is None
    assert verdicts.recall("net", "alice", questions[-1]) is None


def test_a_clock_that_is_set_back_makes_no_password_last_longer() -> None:
    clock = Clock()
    clock.now = 100 * MINUTE
    verdicts = made(clock)
    question = verdicts.question("hash", False, "password")
    verdicts.remember("net", "bob", question, True)
    clock.now = 50 * MINUTE
    assert verdicts.recall("net", "bob", question) is None
