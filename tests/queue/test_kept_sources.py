"""A message keeps the source that it left from, whatever becomes of it; it moves only where an event says why."""

import itertools
from typing import Any

import pytest
from msgspec.structs import replace
from tests.queue.world import SCHEDULE, START, ScriptedCarrier, World

from waypost.journal import AttemptFailed, Event, Relayed
from waypost.queue.carrier import UNSET, DestinationFailure
from waypost.queue.outcomes import bare_outcome, outcome_of, put_off
from waypost.storage import QueueEntry

HAD, OTHER = "192.0.2.1", "192.0.2.2"
MOVED = f"{HAD} is no address of this machine"


async def entry_from(world: World, source: str | None) -> QueueEntry:
    await world.submit("bob@builder.test", "carol@builder.test")
    [entry] = await world.waiting()
    return replace(entry, source=source)


def deferring(world: World, **more: Any) -> ScriptedCarrier:
    carrier = ScriptedCarrier(world.clock, more=more)
    carrier.defer()
    return carrier


def reasons(events: tuple[Event, ...]) -> set[str | None]:
    return {event.details.moved for event in events if isinstance(event.details, AttemptFailed | Relayed)}


@pytest.mark.parametrize("had", [None, HAD])
@pytest.mark.parametrize(("keeps", "moved"), [(UNSET, None), (HAD, None), (OTHER, MOVED), (None, MOVED)])
async def test_an_attempt_that_failed_changes_the_source_only_with_its_reason(
    world: World, had: str | None, keeps: Any, moved: str | None
) -> None:
    entry = await entry_from(world, had)
    result = deferring(world, keeps=keeps, moved=moved).result(entry)
    for tried in (result, put_off(result, "something went wrong on our side")):
        outcome = await outcome_of(tried, schedule=SCHEDULE, reporter=world.reporter(), luck=0.0, now=START)
        assert outcome.deferral is not None and outcome.deferral.source == (had if keeps is UNSET else keeps)
        assert reasons(outcome.events) == {moved}


@pytest.mark.parametrize(("had", "after"), [(None, OTHER), (HAD, HAD)])
async def test_what_a_fault_of_ours_keeps_from_the_journal_moves_nothing(
    world: World, had: str | None, after: str
) -> None:
    """The first source of a message is no move; nothing else may be written without its event."""
    entry = await entry_from(world, had)
    moved = None if had is None else MOVED
    outcome = bare_outcome(deferring(world, keeps=OTHER, moved=moved).result(entry), SCHEDULE)
    assert outcome.deferral is not None and outcome.deferral.source == after and outcome.events == ()


@pytest.mark.parametrize("permanent", [False, True])
@pytest.mark.parametrize(("source", "other"), list(itertools.permutations((None, HAD, OTHER), 2)))
async def test_the_failure_of_a_destination_leaves_each_entry_its_source(
    world: World, permanent: bool, source: str | None, other: str | None
) -> None:
    """Of the entries that it counts for, only one was tried; where no server was known, none was."""
    tried = await entry_from(world, source)
    failure = DestinationFailure(deferring(world).result(tried), "4.4.3", problem="no name server answers")
    failure = replace(failure, permanent=permanent)
    for entry in (tried, replace(tried, id=tried.id + 1, source=other)):
        outcome = bare_outcome(failure.of(entry), SCHEDULE)
        assert outcome.deferral is not None and outcome.deferral.source == entry.source
