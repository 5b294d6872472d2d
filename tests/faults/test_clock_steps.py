"""Clocks that somebody sets, ahead and back, under a worker: no mail expires early or waits for years, identities stay
unique, nobody is locked out, and nothing is forgotten before its time.
"""

import pytest
from tests.faults.callers import Caller, Refused
from tests.faults.conftest import OpenOffice
from tests.faults.ledger import Ledger
from tests.faults.office import ALICE, BOB, Clock, credentials, route
from tests.transport.mail_server import MailServer

from waypost.config.settings import DAY, HOUR, SECOND
from waypost.login.memory import LoginMemory
from waypost.login.throttle import LONGEST_LINE, Origin, Throttle
from waypost.message.trace import TraceId, TraceIdMaker, earliest_id
from waypost.service.housekeeping import CautiousClock, Housekeeper
from waypost.service.processes.run_folder import RunFolder

CAROL = "carol@there.test"
BUSY = "421 4.3.2 not now"
YEAR = 365 * DAY
STEPS = pytest.mark.parametrize("step", [30 * DAY, -30 * DAY], ids=["ahead", "back"])


@pytest.fixture(autouse=True)
def short_leases(monkeypatch: pytest.MonkeyPatch) -> None:
    """Leases of seconds, and a look at the clock as often."""
    monkeypatch.setattr("waypost.queue.dispatcher._LEASE", 2)
    monkeypatch.setattr("waypost.queue.dispatcher._RENEW_EVERY", 0.3)
    monkeypatch.setattr("waypost.queue.dispatcher._SWEEP_EVERY", 0.2)


@STEPS
async def test_mail_that_waits_neither_expires_nor_sleeps_because_the_clock_was_set(
    office: OpenOffice, ledger: Ledger, step: int
) -> None:
    clock = Clock()
    async with MailServer("PIPELINING", GREETING=BUSY) as there:
        house = await office(
            now=clock, routes=(route("there.test", there.port),), queue={"retry": (SECOND,), "expire": 5 * DAY}
        )
        caller = await Caller.submission(house.port("submissions"), ALICE)
        for _ in range(3):
            assert (await ledger.post(caller, ALICE, CAROL)).startswith("250")
        await there.until(lambda: there.visits)
        clock.step = step
        seen = len(there.visits)
        await there.until(lambda: len(there.visits) > seen + 1)
        found = await ledger.audit(house, there)
        assert found.queue.total() == 3, "nothing was returned"
        there.answers.clear()
        await house.drained()
        await ledger.audit(house, there)
    assert len(there.taken) == 3


@STEPS
async def test_the_lease_of_a_dead_worker_ends_in_spite_of_the_clock(
    office: OpenOffice, ledger: Ledger, step: int
) -> None:
    clock = Clock()
    async with MailServer("PIPELINING") as there:
        house = await office(now=clock, routes=(route("there.test", there.port),), dispatch=False)
        caller = await Caller.submission(house.port("submissions"), ALICE)
        assert (await ledger.post(caller, ALICE, CAROL)).startswith("250")
        queue = house.storage.queue
        (lease,) = await queue.claim_destinations(7, now=clock(), lease=2 * SECOND, limit=1)
        assert lease.destination == "there.test"
        house.dispatch()
        clock.step = step
        await house.drained()
        await ledger.audit(house, there)


@STEPS
async def test_trace_ids_stay_unique_across_a_restart(office: OpenOffice, ledger: Ledger, step: int) -> None:
    clock = Clock()
    house = await office(now=clock, dispatch=False)

    async def post(count: int) -> list[TraceId]:
        caller = await Caller.smtp(house.port("smtp"))
        for _ in range(count):
            assert (await ledger.post(caller, "eve@else.test", BOB)).startswith("250")
        caller.hang_up()
        rows = await house.storage.mailboxes.messages((await house.account(BOB)).inbox)
        return [row.trace for row in rows]

    before = await post(20)
    clock.step = step // 720  # an hour
    await post(5)
    await house.close()
    clock.step = 0
    await house.open(dispatch=False)
    traces = await post(5)
    assert len(set(traces)) == 30 and traces == sorted(traces) and traces[:20] == before
    await ledger.audit(house)


def test_an_id_from_a_clock_that_was_years_ahead_is_not_followed() -> None:
    now = 1_800_000_000 * SECOND
    near, far = (TraceIdMaker(3, lambda: now, after=earliest_id(now + ahead)) for ahead in (HOUR, YEAR))
    assert near() > earliest_id(now + HOUR)
    assert earliest_id(now) < far() < earliest_id(now + SECOND)


async def test_what_was_sent_in_a_future_that_did_not_come_is_not_held_against_anybody(
    office: OpenOffice, ledger: Ledger
) -> None:
    clock = Clock()
    house = await office(now=clock, dispatch=False, submission={"messages_per_hour": 2})
    caller = await Caller.submission(house.port("submissions"), ALICE)
    for step in (YEAR, 0, -YEAR, 0):
        clock.step = step
        for _ in range(2):
            assert (await ledger.post(caller, ALICE, BOB)).startswith("250")
        assert (await ledger.post(caller, ALICE, BOB)).startswith("452 4.7.1"), "the limit holds at any time"
    await ledger.audit(house)


@STEPS
async def test_a_login_works_whatever_happened_to_the_clock_after_failures(office: OpenOffice, step: int) -> None:
    clock = Clock()
    house = await office(now=clock, dispatch=False)
    port = house.port("pop3s")
    for _ in range(3):
        with pytest.raises(Refused):
            await Caller.pop3(port, BOB, password="wrong")
    clock.step = step
    caller = await Caller.pop3(port, BOB)
    assert (await caller.ask("STAT")).startswith("+OK")


@pytest.mark.parametrize("steps", [(YEAR, -YEAR), (-YEAR, YEAR), (YEAR, YEAR), (-YEAR, -YEAR)])
def test_no_step_of_the_clock_makes_a_wait_longer_than_a_minute(steps: tuple[int, int]) -> None:
    now = [1_800_000_000 * SECOND]
    throttle = Throttle(LoginMemory.create(), lambda: now[0])
    for step in (0, *steps):
        now[0] += step
        for number in range(10):
            for network in ("192.0.2.9", "192.0.2.9", "192.0.2.9", f"198.51.100.{number}"):
                throttle.failed(Origin(network, "bob@here.test"))
                throttle.enter(Origin(network, "bob@here.test"))
    now[0] += steps[0]
    for network in ("192.0.2.9", "198.51.100.1", "203.0.113.9"):
        for known in (True, False):
            assert 0 <= throttle.enter(Origin(network, "bob@here.test", known)).wait <= LONGEST_LINE


async def test_a_mailbox_that_is_made_again_has_a_larger_uidvalidity_whatever_the_clock_says(
    office: OpenOffice,
) -> None:
    clock = Clock()
    house = await office(now=clock, dispatch=False)
    directory, mailboxes = house.storage.directory, house.storage.mailboxes
    seen = []
    for step in (0, YEAR, -YEAR, 0):
        clock.step = step
        account = await directory.add_account("eve@here.test", credentials(), quota=0, now=clock())
        seen.append((await mailboxes.get(account.id)).uidvalidity)
        await directory.remove_account("eve@here.test")
    assert seen == sorted(set(seen))


# -- what is forgotten -----------------------------------------------------------------------------------------


class Monotonic:
    """A clock that nobody sets."""

    def __init__(self) -> None:
        self.seconds = 0.0

    def __call__(self) -> float:
        return self.seconds


def test_a_clock_that_is_set_ahead_is_believed_after_a_day_and_one_that_is_set_back_at_once() -> None:
    start = 1_800_000_000 * SECOND
    step, monotonic = [0], Monotonic()
    clock = CautiousClock(lambda: start + int(monotonic.seconds * SECOND) + step[0], monotonic)

    def at(hours: float) -> float:
        monotonic.seconds = hours * 3600
        return (clock() - start) / HOUR

    assert at(1) == 1
    step[0] = YEAR
    assert at(2) == 2
    assert at(25) == 25
    step[0] = 0  # somebody noticed
    assert at(26) == 26
    step[0] = YEAR
    assert at(27) == 27
    assert at(52) == 52 + YEAR / HOUR, "a day long nobody set it back"
    step[0] = -DAY
    assert at(53) == 53 - 24


@STEPS
async def test_the_journal_survives_a_clock_that_is_wrong_for_a_while(
    office: OpenOffice, ledger: Ledger, step: int
) -> None:
    clock = Clock()
    house = await office(now=clock, dispatch=False)
    caller = await Caller.smtp(house.port("smtp"))
    assert (await ledger.post(caller, "eve@else.test", BOB)).startswith("250")
    [row] = await house.storage.mailboxes.messages((await house.account(BOB)).inbox)
    folder = RunFolder(house.settings.data)
    housekeeper = Housekeeper(house.assembly.storage, folder, journal_age=DAY, now=clock)
    try:
        clock.step = step
        await housekeeper.once()
        assert len(await house.storage.journal.of(row.trace)) == 2
        clock.step = 0
        await housekeeper.once()
        assert len(await house.storage.journal.of(row.trace)) == 2
    finally:
        folder.close()


async def test_events_told_by_a_wrong_clock_do_not_keep_the_others_for_ever(office: OpenOffice, ledger: Ledger) -> None:
    clock = Clock()
    house = await office(now=clock, dispatch=False)
    caller = await Caller.smtp(house.port("smtp"))
    for step in (0, 40 * DAY, 0, 0, 0, 0):
        clock.step = step
        assert (await ledger.post(caller, "eve@else.test", BOB)).startswith("250")
    traces = [row.trace for row in await house.storage.mailboxes.messages((await house.account(BOB)).inbox)]
    clock.step = 60 * DAY
    await house.assembly.storage.maintain(now=clock(), journal_age=30 * DAY)
    left = [trace for trace in traces if await house.storage.journal.of(trace)]
    assert left in ([traces[1]], [traces[1], *traces[2:]]), "none of those goes that is young by its own time"
    clock.step = 80 * DAY
    await house.assembly.storage.maintain(now=clock(), journal_age=30 * DAY)
    assert not [trace for trace in traces if await house.storage.journal.of(trace)]
