"""When an entry is tried again, reported delayed, and given up; whatever the clock does meanwhile."""

import dataclasses

from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace
from tests.queue.world import ALICE, DAY, HOUR, MINUTE, SCHEDULE, SECOND, START

from waypost.config.settings import QueueSettings as QueueSettings
from waypost.message.address import Address
from waypost.message.envelope import DeliverBy, Envelope, Recipient
from waypost.message.trace import Micros, TraceId
from waypost.queue.schedule import Again, Expired, Schedule, after_failure, age, too_late
from waypost.storage import EntryState, QueueEntry

FRESH = QueueEntry(
    id=1,
    trace=TraceId(1),
    destination="builder.test",
    recipients=(Recipient(Address.parse("bob@builder.test")),),
    state=EntryState.READY,
    priority=0,
    queued_at=START,
    next_attempt=START,
    last_attempt=None,
    attempts=0,
    waited=0,
    delay_notified=False,
    last_error=None,
    envelope=Envelope(ALICE),
    size=1000,
    account=None,
)
SCHEDULES = st.builds(
    Schedule,
    retry=st.lists(st.integers(SECOND, 3 * HOUR), min_size=1, max_size=6).map(tuple),
    jitter=st.floats(0, 1),
    delayed_notice=st.integers(0, 8 * HOUR),
    expire=st.integers(SECOND, 2 * DAY),
)
LUCK = st.floats(0, 1, exclude_max=True)


def tried_again(entry: QueueEntry, now: Micros, again: Again) -> QueueEntry:
    """Return the entry as storage has it after the attempt."""
    return replace(
        entry,
        next_attempt=again.next_attempt,
        waited=again.waited,
        attempts=again.attempts,
        last_attempt=now,
        delay_notified=again.delay_notified,
    )


def story(entry: QueueEntry, schedule: Schedule = SCHEDULE) -> list[tuple[float, str]]:
    """Fail every attempt at its time; return the hour and kind of each, up to the end."""
    told: list[tuple[float, str]] = []
    while len(told) < 1000:
        now = entry.next_attempt
        after = after_failure(entry, now, schedule, 0.0)
        hours = round((now - START) / HOUR, 3)
        if isinstance(after, Expired):
            return [*told, (hours, "expired")]
        told.append((hours, "notice" if after.notice else "retry"))
        entry = tried_again(entry, now, after)
    raise AssertionError("it never expires")


def test_the_default_schedule_retries_sends_one_notice_at_four_hours_and_expires_at_five_days() -> None:
    told = story(FRESH, Schedule.from_settings(QueueSettings(jitter=0.0)))
    assert [hours for hours, _ in told[:8]] == [0, 0.017, 0.1, 0.35, 0.85, 1.85, 3.85, 4.0]
    assert [kind for _, kind in told].count("notice") == 1
    assert (4.0, "notice") in told
    assert told[-1] == (120.0, "expired")


def test_without_a_delayed_notice_nobody_is_told() -> None:
    assert "notice" not in [kind for _, kind in story(FRESH, dataclasses.replace(SCHEDULE, delayed_notice=0))]


def test_a_held_message_starts_to_age_when_its_time_comes() -> None:
    until = START + 3 * DAY
    held = replace(FRESH, envelope=Envelope(ALICE, hold_until=until), next_attempt=until)
    assert age(held, until + SECOND, SCHEDULE) == SECOND


def test_a_jump_of_a_week_ahead_makes_one_attempt_early_and_expires_nothing() -> None:
    entry = replace(FRESH, waited=30 * MINUTE, attempts=3, last_attempt=START, next_attempt=START + 30 * MINUTE)
    after = after_failure(entry, START + 7 * DAY, SCHEDULE, 0.0)
    assert isinstance(after, Again)
    assert after.waited == 30 * MINUTE + 2 * HOUR


def test_a_jump_back_makes_nothing_younger() -> None:
    entry = replace(FRESH, waited=HOUR, attempts=3, last_attempt=START)
    assert age(entry, START - 30 * DAY, SCHEDULE) == HOUR


def test_past_its_senders_deadline_a_message_is_returned_and_no_sooner() -> None:
    by = DeliverBy(START + 10 * MINUTE, "R")
    entry = replace(FRESH, envelope=Envelope(ALICE, deliver_by=by))
    assert not too_late(entry, START + 10 * MINUTE - 1)
    assert too_late(entry, START + 10 * MINUTE)
    assert story(entry)[-1] == (round(1 / 6, 3), "expired")


def test_a_deadline_that_only_asks_for_notice_tells_the_sender_once_and_goes_on() -> None:
    entry = replace(FRESH, envelope=Envelope(ALICE, deliver_by=DeliverBy(START + 10 * MINUTE, "N")))
    told = story(entry)
    assert [told_at for told_at in told if told_at[1] == "notice"] == [(round(1 / 6, 3), "notice")]
    assert told[-1] == (120.0, "expired")


def test_a_deadline_behind_the_usual_notice_is_told_too() -> None:
    entry = replace(FRESH, envelope=Envelope(ALICE, deliver_by=DeliverBy(START + 6 * HOUR, "N")))
    assert [hours for hours, kind in story(entry) if kind == "notice"] == [4.0, 6.0]


@given(SCHEDULES, LUCK, st.integers(0, 3 * DAY), st.integers(0, 50), st.integers(-DAY, 30 * DAY), st.booleans())
def test_the_next_attempt_is_ahead_and_never_past_the_longest_wait(
    schedule: Schedule, luck: float, waited: int, attempts: int, passed: int, notified: bool
) -> None:
    entry = replace(FRESH, waited=waited, attempts=attempts, last_attempt=START, delay_notified=notified)
    now = START + passed
    after = after_failure(entry, now, schedule, luck)
    assert waited <= after.waited <= waited + schedule.longest_wait
    if isinstance(after, Again):
        assert now < after.next_attempt <= now + schedule.longest_wait
        assert after.attempts == attempts + 1
        assert after.waited < schedule.expire
    else:
        assert after.waited >= schedule.expire


@given(SCHEDULES, st.lists(st.tuples(LUCK, st.integers(-40 * DAY, 40 * DAY)), min_size=1, max_size=60))
def test_no_jumps_of_the_clock_expire_mail_that_was_not_tried_long_enough(
    schedule: Schedule, jumps: list[tuple[float, int]]
) -> None:
    entry, now, notices = FRESH, START, 0
    for number, (luck, jump) in enumerate(jumps, 1):
        now = max(1, entry.next_attempt + jump)
        after = after_failure(entry, now, schedule, luck)
        if isinstance(after, Expired):
            assert number * schedule.longest_wait >= schedule.expire
            break
        notices += after.notice
        entry = tried_again(entry, now, after)
    assert notices <= 1


@given(SCHEDULES, LUCK)
def test_tried_on_time_an_entry_expires_when_the_term_ends_and_is_reported_delayed_at_its_time(
    schedule: Schedule, luck: float
) -> None:
    schedule = dataclasses.replace(schedule, expire=min(schedule.expire, 100 * min(schedule.retry)))
    entry, notices = FRESH, []
    while True:
        now = entry.next_attempt
        after = after_failure(entry, now, schedule, luck)
        if isinstance(after, Expired):
            break
        if after.notice:
            notices.append(now - START)
        entry = tried_again(entry, now, after)
    assert now - START == schedule.expire
    if schedule.delayed_notice and schedule.delayed_notice < schedule.expire:
        assert notices == [schedule.delayed_notice]
    else:
        assert not notices
