"""The fuzzer's short form: a fixed effort for each target, always the same. `make fuzz` is the long one."""

import random

import pytest
from tests.fuzz.__main__ import TARGETS
from tests.fuzz.mutation import mutated, pieces
from tests.fuzz.target import Finding, Target, fuzz

CASES = 1000
SEED = 1


@pytest.mark.parametrize("name", TARGETS)
def test_nothing_is_found(name: str) -> None:
    for number in range(CASES):
        fuzz(TARGETS[name], SEED, number)


def test_a_case_is_the_same_each_time_and_pieces_are_the_same_octets() -> None:
    target = TARGETS["smtp-server"]
    inputs = {mutated(target.corpus, target.words, random.Random(f"{number}")) for number in range(50)}
    assert inputs == {mutated(target.corpus, target.words, random.Random(f"{number}")) for number in range(50)}
    assert len(inputs) > 30
    for data in inputs:
        assert b"".join(pieces(data, random.Random(1))) == data


def test_a_finding_is_small_and_says_how_to_see_it_again() -> None:
    def careless(parts: object) -> object:
        assert isinstance(parts, list)
        data = b"".join(parts)
        if b"\0" in data:
            raise IndexError("as a careless parser would")
        return len(parts) if b"?" in data else None

    for words, kind in ((b"\0", "IndexError"), (b"?", "other result")):
        target = Target("careless", (b"many words that do not matter" * 5 + words,), careless)
        with pytest.raises(Finding, match=f"careless, seed 7, case [0-9]+:(.|\n)*{kind}") as caught:
            for number in range(100):
                fuzz(target, 7, number)
        assert str(caught.value).count("matter") == 0
