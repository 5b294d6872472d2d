"""When a commit begins: at once for who is alone, a moment later when others are about to come, never much later."""

import asyncio
import heapq
from collections.abc import Callable
from typing import Any

import pytest

from waypost.storage.sqlite.commit.gathering import Gathering, Waiting
from waypost.storage.sqlite.commit.operation import Operation


class Handle:
    """What a loop returns for a callback."""

    def __init__(self, when: float, callback: Callable[[], None]) -> None:
        self.when = when
        self.callback = callback
        self.cancelled = False

    def cancel(self) -> None:
        self.cancelled = True

    def __lt__(self, other: "Handle") -> bool:
        return self.when < other.when


class Loop:
    """A loop whose time passes when it is told so."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.handles: list[Handle] = []

    def time(self) -> float:
        return self.now

    def call_soon(self, callback: Callable[[], None]) -> Handle:
        return self.call_at(self.now, callback)

    def call_at(self, when: float, callback: Callable[[], None]) -> Handle:
        handle = Handle(when, callback)
        heapq.heappush(self.handles, handle)
        return handle

    def pass_time(self, seconds: float = 0.0) -> None:
        until = self.now + seconds
        while self.handles and self.handles[0].when <= until:
            handle = heapq.heappop(self.handles)
            self.now = max(self.now, handle.when)
            if not handle.cancelled:
                handle.callback()
        self.now = until


class Scene:
    """A gathering, the groups that began, and ways to say what happens."""

    def __init__(self) -> None:
        self.loop = Loop()
        self.groups: list[list[str]] = []
        self.gathering = Gathering(self.loop, self._begin)  # type: ignore[arg-type]
        self._names: dict[int, str] = {}

    def _begin(self, group: list[Waiting]) -> None:
        self.groups.append([self._names[id(waiting.operation)] for waiting in group])

    def add(self, name: str, *, patient: bool = False) -> None:
        operation = Operation(lambda batch: None, patient=patient)
        self._names[id(operation)] = name
        future: asyncio.Future[Any] = None  # type: ignore[assignment]
        waiting = Waiting(operation, future)
        self.kept = [*getattr(self, "kept", []), waiting]
        self.gathering.add(waiting)


@pytest.fixture
def scene() -> Scene:
    return Scene()


def test_who_is_alone_does_not_wait(scene: Scene) -> None:
    scene.add("one")
    assert scene.groups == []
    scene.loop.pass_time()
    assert scene.groups == [["one"]]


def test_what_comes_in_one_turn_of_the_loop_is_one_group(scene: Scene) -> None:
    for name in ("one", "two", "three"):
        scene.add(name)
    scene.loop.pass_time()
    assert scene.groups == [["one", "two", "three"]]


def test_who_is_expected_is_waited_for_and_not_longer(scene: Scene) -> None:
    for source in ("a", "b", "c", "d"):
        scene.gathering.expect(source)
    scene.gathering.expect_no_more("a")
    scene.add("of a")
    scene.loop.pass_time(0.0005)
    scene.gathering.expect_no_more("b")
    scene.add("of b")
    scene.gathering.expect_no_more("c")
    scene.loop.pass_time(0.0005)
    assert scene.groups == []
    scene.gathering.expect_no_more("d")  # it went away: nobody else is expected
    scene.loop.pass_time()
    assert scene.groups == [["of a", "of b"]]


def test_each_who_is_expected_is_worth_half_a_millisecond(scene: Scene) -> None:
    for source in ("a", "b"):
        scene.gathering.expect(source)
    scene.add("one")
    scene.loop.pass_time(0.0009)
    assert scene.groups == []
    scene.loop.pass_time(0.0002)
    assert scene.groups == [["one"]]


def test_however_many_are_expected_ten_milliseconds_are_the_most(scene: Scene) -> None:
    for source in range(1000):
        scene.gathering.expect(source)
    scene.add("one")
    scene.loop.pass_time(0.0101)
    assert scene.groups == [["one"]]


def test_who_was_expected_for_long_is_not_waited_for(scene: Scene) -> None:
    scene.gathering.expect("slow")
    scene.loop.pass_time(0.051)
    scene.add("one")
    scene.loop.pass_time()
    assert scene.groups == [["one"]]
    scene.gathering.ended()
    scene.gathering.expect("slow")
    scene.add("two")
    scene.loop.pass_time()
    assert scene.groups == [["one"]]


def test_what_comes_during_a_commit_is_the_next_one(scene: Scene) -> None:
    scene.add("one")
    scene.loop.pass_time()
    scene.add("two")
    scene.add("three", patient=True)
    scene.loop.pass_time(1.0)
    assert scene.groups == [["one"]]
    scene.gathering.ended()
    scene.loop.pass_time()
    assert scene.groups == [["one"], ["two", "three"]]


def test_who_was_just_answered_and_is_expected_again_is_waited_for(scene: Scene) -> None:
    for source in ("a", "b"):
        scene.gathering.expect(source)
    scene.gathering.expect_no_more("a")
    scene.add("of a")
    scene.loop.pass_time(0.001)
    scene.gathering.expect("c")
    scene.gathering.expect_no_more("b")
    scene.add("of b")
    scene.gathering.expect_no_more("c")
    scene.gathering.ended()  # and in the same turn
    scene.gathering.expect("a")
    scene.loop.pass_time()
    assert scene.groups == [["of a"]]
    scene.gathering.expect_no_more("a")
    scene.add("of a again")
    scene.loop.pass_time()
    assert scene.groups == [["of a"], ["of b", "of a again"]]


def test_an_outcome_waits_for_mail_only_while_mail_comes(scene: Scene) -> None:
    scene.add("outcome", patient=True)
    scene.loop.pass_time()
    assert scene.groups == [["outcome"]]
    scene.gathering.ended()
    scene.add("mail")
    scene.loop.pass_time()
    scene.gathering.ended()
    scene.add("another outcome", patient=True)
    scene.loop.pass_time(0.002)
    assert len(scene.groups) == 2
    scene.add("more mail")
    scene.loop.pass_time()
    assert scene.groups[2:] == [["another outcome", "more mail"]]
    scene.gathering.ended()
    scene.add("a last outcome", patient=True)
    scene.loop.pass_time(0.0031)
    assert scene.groups[3:] == [["a last outcome"]]


def test_a_group_has_a_largest_size_and_the_rest_follows_at_once(scene: Scene) -> None:
    for number in range(200):
        scene.add(str(number))
    scene.loop.pass_time()
    assert [len(group) for group in scene.groups] == [128]
    scene.gathering.ended()
    scene.loop.pass_time()
    assert [len(group) for group in scene.groups] == [128, 72]


def test_at_the_end_all_that_waits_is_given_out(scene: Scene) -> None:
    scene.gathering.expect("a")
    scene.add("one")
    assert len(scene.gathering.take()) == 1
    scene.loop.pass_time(1.0)
    assert scene.groups == []
