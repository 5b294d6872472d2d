"""The verdict itself: what is lost, doubled or from nowhere is told, and only a kill explains a doubled relay."""

import pytest
from tests.torture.hosts import ALPHA, ANN, BETA, BOB, NOBODY
from tests.torture.letters import Letter
from tests.torture.promises import Maildrop, Promises
from tests.torture.sink import Taken
from tests.torture.verdict import Kill, Verdict, Victim, judge

from waypost.message.address import Address
from waypost.message.dsn import compose
from waypost.message.envelope import Envelope, Recipient
from waypost.message.report import Action, Concerned, Report
from waypost.message.trace import TraceId, format_trace_id

SEED = 3
TRACE, OTHER, THIRD = (format_trace_id(TraceId((1_800_000_000 + later) * 1_000_000 << 10)) for later in (0, 1, 2))
START = 1_800_000_000.0


def received(trace: str, hostname: str) -> bytes:
    line = f"Received: from client\r\n\tby {hostname} (Waypost) with ESMTP\r\n\tid {trace}; now\r\n"
    return line.encode()


class Story:
    """One message, what became of it, and the verdict on that."""

    def __init__(self, recipient: str, *, host: str = ALPHA) -> None:
        self.letter = Letter(1, SEED, ANN, (recipient,), 200)
        self.promises = Promises(SEED)
        self.promises.letters[1] = self.letter
        self.promises.acknowledge(self.letter, host, TRACE)
        self.drops = {who: Maildrop(who, self.promises) for who in (ANN, BOB)}
        self.sunk: list[Taken] = []
        self.kills: list[Kill] = []

    def deliver(self, who: str, *traces: tuple[str, str]) -> None:
        drop = self.drops[who]
        uid = len(drop.copies) + 1
        drop.look({number: f"7.{number}" for number in range(1, uid + 1)})
        drop.keep(uid, b"".join(received(*trace) for trace in traces) + self.letter.octets)

    def sink(self, time: float, trace: str = TRACE) -> None:
        copy = self.promises.read(received(trace, "mx.alpha.test") + self.letter.octets, "the sink")
        assert copy is not None
        self.sunk.append(Taken(time, copy, self.letter.recipients))

    def return_to(self, who: str, about: str) -> None:
        concerned = Concerned(Recipient(Address.parse(about)), "5.1.1")
        report = Report(
            action=Action.FAILED,
            trace=TraceId(1),
            hostname="mx.alpha.test",
            to=Address.parse(who),
            date=0,
            about=TraceId(2),
            envelope=Envelope(Address.parse(who)),
            arrived=0,
            concerned=(concerned,),
            header=self.letter.octets.partition(b"\r\n\r\n")[0] + b"\r\n",
        )
        drop = self.drops[who]
        uid = len(drop.copies) + 1
        drop.look({number: f"7.{number}" for number in range(1, uid + 1)})
        drop.keep(uid, compose(report).octets)

    def verdict(self) -> Verdict:
        return judge(self.promises, self.drops.values(), self.sunk, self.kills)


LOCAL = (TRACE, "mx.alpha.test")
FIRST, SECOND = (((trace, "mx.beta.test"), LOCAL) for trace in (TRACE, OTHER))


def test_one_copy_at_each_end_is_right() -> None:
    local, relayed, sunk = Story(ANN), Story(BOB), Story("x@sink.test")
    local.deliver(ANN, LOCAL)
    relayed.deliver(BOB, *FIRST)
    sunk.sink(START)
    assert [story.verdict().problems for story in (local, relayed, sunk)] == [[], [], []]


@pytest.mark.parametrize("recipient", [ANN, BOB, "x@sink.test", NOBODY[BETA]])
def test_what_came_nowhere_is_lost(recipient: str) -> None:
    (problem,) = Story(recipient).verdict().problems
    assert "is lost" in problem


def test_what_was_not_acknowledged_at_all_is_told() -> None:
    story = Story(ANN)
    story.promises.letters[2] = Letter(2, SEED, ANN, (ANN,), 10)
    story.deliver(ANN, LOCAL)
    assert story.verdict().problems == ["message 2 was never acknowledged"]


def test_a_second_copy_needs_an_answer_that_was_lost() -> None:
    """A kill alone explains nothing: the client must have sent the message again."""
    story = Story(ANN)
    story.kills.append(Kill(START + 0.5, ALPHA, Victim.HOST))
    story.deliver(ANN, LOCAL)
    story.deliver(ANN, (OTHER, "mx.alpha.test"))
    (problem,) = story.verdict().problems
    assert "came 2 times, and its answer was lost 0 times" in problem
    story.promises.unanswered[1] = 1
    verdict = story.verdict()
    assert verdict.problems == [] and verdict.stored_twice == {1}


def test_one_lost_answer_explains_one_more_copy() -> None:
    story = Story(ANN)
    for trace in (TRACE, OTHER, THIRD):
        story.deliver(ANN, (trace, "mx.alpha.test"))
    story.promises.unanswered[1] = 1
    (problem,) = story.verdict().problems
    assert "came 3 times, and its answer was lost 1 times" in problem


@pytest.mark.parametrize("unanswered", [0, 1, 5])
def test_the_copy_that_was_acknowledged_is_never_the_one_that_is_lost(unanswered: int) -> None:
    story = Story(ANN)
    story.promises.unanswered[1] = unanswered
    story.deliver(ANN, (OTHER, "mx.alpha.test"))
    (problem,) = story.verdict().problems
    assert f"it was acknowledged as {TRACE}, and that is lost" in problem


def test_a_mailbox_of_the_same_host_never_has_one_trace_id_twice() -> None:
    story = Story(ANN)
    story.kills.append(Kill(START + 0.5, ALPHA, Victim.HOST))
    story.promises.unanswered[1] = 1
    story.deliver(ANN, LOCAL)
    story.deliver(ANN, LOCAL)
    (problem,) = story.verdict().problems
    assert "nothing explains it" in problem


@pytest.mark.parametrize(
    ("kill", "explained"),
    [
        (Kill(START + 0.5, ALPHA, Victim.HOST), True),
        (Kill(START + 0.5, ALPHA, Victim.WORKER), True),
        (Kill(START - 0.1, ALPHA, Victim.HOST), True),  # the receiver was still reading
        (Kill(START + 0.5, ALPHA, Victim.SUPERVISOR), False),
        (Kill(START + 1.5, ALPHA, Victim.HOST), False),
        (Kill(START - 9.0, ALPHA, Victim.HOST), False),
    ],
)
def test_a_second_relay_is_explained_by_a_kill_of_its_sender_between(kill: Kill, explained: bool) -> None:
    sunk, relayed = Story("x@sink.test"), Story(BOB)
    sunk.sink(START)
    sunk.sink(START + 1)
    relayed.deliver(BOB, *FIRST)
    relayed.deliver(BOB, *SECOND)
    for story in (sunk, relayed):
        story.kills.append(kill)
        verdict = story.verdict()
        assert bool(verdict.problems) is not explained
        assert verdict.duplicates == ({kill: {1}} if explained else {})


@pytest.mark.parametrize("victim", [Victim.HOST, Victim.WORKER])
def test_a_kill_of_the_host_that_was_about_to_answer_explains_a_second_relay(victim: Victim) -> None:
    sunk, relayed = Story("x@sink.test"), Story(BOB)
    sunk.sink(START)
    sunk.sink(START + 1)
    relayed.deliver(BOB, *FIRST)
    relayed.deliver(BOB, *SECOND)
    kill = Kill(START + 0.5, BETA, victim)
    for story in (sunk, relayed):
        story.kills.append(kill)
    assert relayed.verdict().problems == [] and relayed.verdict().duplicates == {kill: {1}}
    assert sunk.verdict().problems, "beta has no part in that"


def test_a_report_is_the_end_of_what_can_not_be_delivered() -> None:
    story = Story(NOBODY[BETA])
    story.return_to(ANN, NOBODY[BETA])
    assert story.verdict().problems == []
    story.return_to(ANN, NOBODY[BETA])
    story.kills.append(Kill(0.5, ALPHA, Victim.HOST))
    (problem,) = story.verdict().problems
    assert "came 2 times" in problem
    story.promises.unanswered[1] = 1  # two messages, and a report on each
    assert story.verdict().problems == []


def test_what_came_where_nobody_sent_it_is_told() -> None:
    story = Story(ANN)
    story.deliver(ANN, LOCAL)
    story.deliver(BOB, *FIRST)
    (problem,) = story.verdict().problems
    assert "nobody sent it there" in problem


class TestMaildrop:
    @pytest.fixture
    def drop(self) -> Maildrop:
        promises = Promises(SEED)
        promises.letters[1] = Letter(1, SEED, ANN, (ANN,), 10)
        drop = Maildrop(ANN, promises)
        drop.look({1: "7.4", 2: "7.5", 3: "7.6"})
        for uid in (4, 5, 6):
            drop.keep(uid, promises.letters[1].octets)
        return drop

    def test_new_messages_get_larger_uids(self, drop: Maildrop) -> None:
        drop.look({1: "7.4", 2: "7.5", 3: "7.6", 4: "7.7"})
        assert drop.promises.problems == []
        drop.look({1: "7.3", 2: "7.4", 3: "7.5", 4: "7.6", 5: "7.7"})
        assert "UIDs went back" in drop.promises.problems[0]

    def test_a_changed_uidvalidity_is_told(self, drop: Maildrop) -> None:
        drop.look({1: "8.4", 2: "8.5", 3: "8.6"})
        assert "UIDVALIDITY was 7, and is 8" in drop.promises.problems[0]

    def test_a_message_that_nobody_deleted_and_is_gone_is_told(self, drop: Maildrop) -> None:
        drop.look({1: "7.4", 2: "7.6"})
        assert "are gone: UIDs [5]" in drop.promises.problems[0]

    def test_a_deleted_message_that_comes_back_is_told(self, drop: Maildrop) -> None:
        drop.deleted = {5}
        drop.look({1: "7.4", 2: "7.6"})
        assert drop.promises.problems == []
        drop.look({1: "7.4", 2: "7.5", 3: "7.6"})
        assert "came back: UIDs [5]" in drop.promises.problems[0]

    def test_a_quit_without_an_answer_deletes_all_or_nothing(self, drop: Maildrop) -> None:
        drop.doubtful = {4, 5}
        drop.look({1: "7.4", 2: "7.5", 3: "7.6"})
        drop.doubtful = {4, 5}
        drop.look({1: "7.6"})
        assert drop.deleted == {4, 5}
        assert drop.promises.problems == []
        drop.doubtful = {6}
        drop.look({})
        assert drop.promises.problems == []

    def test_half_a_quit_is_told(self, drop: Maildrop) -> None:
        drop.doubtful = {4, 5}
        drop.look({1: "7.5", 2: "7.6"})
        assert any("by halves" in problem for problem in drop.promises.problems)

    def test_other_octets_under_a_uid_are_told(self, drop: Maildrop) -> None:
        drop.keep(4, b"Subject: else\r\n\r\n")
        assert "a message that nobody sent" in drop.promises.problems[0]
        assert "UID 4 has other octets than before" in drop.promises.problems[1]
