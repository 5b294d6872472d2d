"""A transaction: made at MAIL, ended exactly once, with its tasks; taps; and all that is decided is in one commit."""

import asyncio
import contextlib
import hashlib
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import uvloop
from tests.intake.conversation import CLIENT, MESSAGE, Conversation, House, open_house, trace_of
from tests.intake.instant import InstantLoop
from tests.intake.policies import Prepared, talk_by

from waypost.config.settings import ListenerProtocol
from waypost.delivery.plan import Filing
from waypost.intake import Arrived, Client, ReplyDelay, Transaction, TransactionEnd, TransactionTasks, Verdict
from waypost.journal import Checked, Received, Station
from waypost.message.address import Address
from waypost.message.envelope import Envelope
from waypost.protocol.reply import Reply
from waypost.protocol.session import Ending
from waypost.protocol.smtp import replies
from waypost.service.sockets.eager import begin
from waypost.storage import Expense

BOB, ALICE, SENDER = "bob@here.test", "alice@here.test", "x@there.test"
LMTP = ListenerProtocol.LMTP


class Watch:
    """Sees how transactions end, and that the task of each is over by then."""

    def __init__(self) -> None:
        self.ends: list[TransactionEnd] = []
        self.running = 0
        self.begun = 0

    def __call__(self, transaction: Transaction) -> None:
        transaction.when_ended(self.ends.append)
        transaction.run(self._run())

    async def _run(self) -> None:
        self.running += 1
        self.begun += 1
        try:
            await asyncio.get_running_loop().create_future()
        finally:
            await asyncio.sleep(0)  # clearing up takes a turn of the loop
            self.running -= 1


# The end.


@pytest.mark.parametrize(
    ("ending", "outcome"),
    [
        ("stored", TransactionEnd.STORED),
        ("refused by the policy", TransactionEnd.REFUSED),
        ("no room on the disk", TransactionEnd.REFUSED),
        ("too large", TransactionEnd.REFUSED),
        ("a bare LF", TransactionEnd.REFUSED),
        ("header too large", TransactionEnd.REFUSED),
        ("RSET", TransactionEnd.RESET),
        ("EHLO", TransactionEnd.RESET),
        ("RSET in BDAT", TransactionEnd.RESET),
        ("QUIT in BDAT", TransactionEnd.LOST),
        ("gone after MAIL", TransactionEnd.LOST),
        ("gone in DATA", TransactionEnd.LOST),
        ("stopped in DATA", TransactionEnd.LOST),
    ],
)
async def test_a_transaction_ends_exactly_once_and_its_tasks_with_it(
    house: House, ending: str, outcome: TransactionEnd
) -> None:
    limits = replace(house.settings.limits, message_size=50_000, header_size=1000)
    house.settings = replace(house.settings, limits=limits)
    spool = house.watch_spool()
    watch = Watch()

    def judge(transaction: Transaction, arrived: Arrived) -> Reply | None:
        return replies.MAILBOX_FULL if ending == "refused by the policy" else None

    policy = Prepared(house, watch, judge)
    talk = await talk_by(house, policy)
    await talk.say(f"MAIL FROM:<{SENDER}>", f"RCPT TO:<{BOB}>")
    await asyncio.sleep(0)
    assert watch.running == 1 and watch.ends == []
    match ending:
        case "stored" | "refused by the policy":
            await talk.send(b"DATA\r\n" + MESSAGE.encode() + b".\r\n")
        case "no room on the disk":
            spool.accept_error = OSError("no space")
            await talk.send(b"DATA\r\n" + MESSAGE.encode() + b".\r\n")
        case "too large":
            await talk.send(b"DATA\r\n" + MESSAGE.encode() + b"x" * 60_000)
        case "a bare LF":
            await talk.send(b"DATA\r\n" + MESSAGE.encode() + b"x\ny\r\n")
        case "header too large":
            await talk.send(b"DATA\r\nA: " + b"x" * 2000 + b"\r\n\r\n.\r\n")
        case "RSET":
            await talk.say("RSET")
        case "EHLO":
            await talk.say("EHLO again.test")
        case "RSET in BDAT":
            await talk.send(b"BDAT 4\r\nA: bRSET\r\n")
        case "QUIT in BDAT":
            await talk.send(b"BDAT 4\r\nA: bQUIT\r\n")
        case "gone after MAIL":
            talk.hang_up()
        case "gone in DATA":
            await talk.send(b"DATA\r\nA: b")
            talk.hang_up()
        case "stopped in DATA":
            await talk.send(b"DATA\r\nA: b")
            talk.session.shut_down(Ending.STOPPING)
            talk.session.closed()
    assert watch.ends == [outcome]
    if ending.startswith(("gone", "stopped")):  # nobody is there to wait for it but the worker
        await policy.tasks.close()
    assert watch.running == 0 and not policy.tasks.running and not spool.in_use
    talk.hang_up()
    assert watch.ends == [outcome] and watch.begun == 1


async def test_each_message_of_a_session_has_a_transaction_of_its_own(house: House) -> None:
    seen: list[Transaction] = []
    talk = await talk_by(house, Prepared(house, seen.append))
    for _ in range(3):
        await talk.message(SENDER, BOB)
    assert len(set(map(id, seen))) == 3 and {one.outcome for one in seen} == {TransactionEnd.STORED}


async def test_an_answer_does_not_wait_for_a_task_that_is_slow_to_stop(house: House) -> None:
    stop, written = asyncio.Event(), []

    async def slow() -> None:
        try:
            await asyncio.get_running_loop().create_future()
        finally:
            await stop.wait()

    talk = await talk_by(house, Prepared(house, lambda transaction: _ignore(transaction.run(slow()))))

    async def drain() -> None:
        written.append(talk.session.take_output())
        stop.set()

    await talk.say(f"MAIL FROM:<{SENDER}>", f"RCPT TO:<{BOB}>", "DATA")
    talk.session.drain = drain
    await talk.send(MESSAGE.encode() + b".\r\n")
    assert written[0].startswith(b"250 2.0.0 Ok: queued"), "it was written before the task had stopped"


def _ignore(_: object) -> None:
    return None


async def test_one_whom_the_end_can_not_be_told_keeps_it_from_nobody(
    house: House, caplog: pytest.LogCaptureFixture
) -> None:
    ends: list[TransactionEnd] = []

    def prepare(transaction: Transaction) -> None:
        transaction.when_ended(lambda outcome: 1 / 0)
        transaction.when_ended(ends.append)

    talk = await talk_by(house, Prepared(house, prepare))
    assert (await talk.message(SENDER, BOB)).startswith("250") and ends == [TransactionEnd.STORED]
    assert "the end of a transaction could not be told" in caplog.messages


# Taps.


@pytest.mark.parametrize("size", [1, 2, 3, 7, 64, 100_000])
@pytest.mark.parametrize("chunked", [False, True])
async def test_a_tap_has_the_body_in_order_with_its_dots_and_line_ends_mended(
    house: House, size: int, chunked: bool
) -> None:
    pieces: list[bytes] = []
    body = b"one\r\n.two\r\n..three\r\n\r\n\r\n" + b"four " * 4000 + b"\r\n"
    talk = await talk_by(house, Prepared(house, lambda transaction: transaction.tap(pieces.append)))
    await talk.say(f"MAIL FROM:<{SENDER}>", f"RCPT TO:<{BOB}>")
    content = b"A: b\r\nC: d\r\n\r\n" + body
    if chunked:
        wire = b"BDAT %d LAST\r\n" % len(content) + content
    else:
        await talk.say("DATA")
        wire = content.replace(b"\r\n.", b"\r\n..") + b".\r\n"
    for start in range(0, len(wire), size):
        said = await talk.send(wire[start : start + size])
    assert said.startswith("250 2.0.0 Ok") and b"".join(pieces) == body and b"" not in pieces


async def test_a_tap_has_the_very_octets_that_go_to_storage(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    tapped: list[bytes] = []
    written: list[bytes] = []
    spool = house.watch_spool()
    talk = await talk_by(house, Prepared(house, lambda transaction: transaction.tap(tapped.append)))
    await talk.say(f"MAIL FROM:<{SENDER}>", f"RCPT TO:<{BOB}>", "DATA")
    body = spool.made[0]
    write = body.write

    async def watched(data: bytes) -> None:
        written.append(data)
        await write(data)

    monkeypatch.setattr(body, "write", watched)
    for _ in range(4):
        await talk.send(MESSAGE.encode() + b"x" * 8000 + b"\r\n")
    await talk.send(b".\r\n")
    assert b"".join(tapped) == b"".join(written)
    assert len(tapped) == 5 and all(one is other for one, other in zip(tapped[:4], written, strict=False))


async def test_without_a_body_a_tap_hears_nothing(house: House) -> None:
    tapped: list[bytes] = []
    talk = await talk_by(house, Prepared(house, lambda transaction: transaction.tap(tapped.append)))
    assert (await talk.message(SENDER, BOB, content="A: b\r\n\r\n")).startswith("250")
    assert (await talk.message(SENDER, BOB, content="A: b\r\n")).startswith("250")
    assert tapped == []


async def test_a_tap_comes_before_the_content(house: House) -> None:
    seen: list[Transaction] = []
    talk = await talk_by(house, Prepared(house, seen.append))
    await talk.say(f"MAIL FROM:<{SENDER}>", f"RCPT TO:<{BOB}>", "DATA")
    with pytest.raises(RuntimeError, match="before the content"):
        seen[0].tap(len)


# Faults of ours.


@pytest.mark.parametrize("where", ["tap", "task"])
async def test_a_fault_of_ours_is_logged_and_answered_451_and_the_session_goes_on(
    house: House, where: str, caplog: pytest.LogCaptureFixture
) -> None:
    broken = [True]

    async def fail() -> None:
        raise ZeroDivisionError("ours")

    def prepare(transaction: Transaction) -> None:
        if not broken:
            return
        broken.clear()
        if where == "tap":
            transaction.tap(lambda data: 1 / 0)
        else:
            transaction.run(fail(), ReplyDelay(60))

    talk = await talk_by(house, Prepared(house, prepare))
    assert (await talk.message(SENDER, BOB)).startswith("451 4.3.0")
    assert [record.getMessage() for record in caplog.records if record.exc_info] == ["a bug in an SMTP session"]
    assert (await talk.message(SENDER, BOB)).startswith("250") and len(await house.inbox(BOB)) == 1


@pytest.mark.parametrize("early", [True, False])
async def test_how_a_task_failed_is_logged_once_when_nobody_waits_for_it(
    house: House, early: bool, caplog: pytest.LogCaptureFixture
) -> None:
    async def fail() -> None:
        if not early:
            with contextlib.suppress(asyncio.CancelledError):
                await asyncio.get_running_loop().create_future()
        raise ZeroDivisionError("ours")

    talk = await talk_by(house, Prepared(house, lambda transaction: _ignore(transaction.run(fail()))))
    await talk.say(f"MAIL FROM:<{SENDER}>")
    for _ in range(3):
        await asyncio.sleep(0)
    await talk.say("RSET")
    await asyncio.sleep(0)
    assert caplog.messages.count("a task of a transaction failed") == 1


async def test_a_transaction_without_a_place_for_tasks_runs_none() -> None:
    transaction = Transaction(Client(CLIENT), Envelope(None), Prepared.__new__(Prepared))
    with pytest.raises(RuntimeError, match="runs no tasks"):
        transaction.run(asyncio.sleep(0))
    ended = Transaction(Client(CLIENT), Envelope(None), Prepared.__new__(Prepared), TransactionTasks())
    ended.end(TransactionEnd.RESET)
    with pytest.raises(RuntimeError, match="is over"):
        ended.run(asyncio.sleep(0))


# Waiting.


async def test_a_message_waits_for_what_has_patience_and_for_nothing_else(house: House) -> None:
    order: list[str] = []

    async def look(name: str, turns: int) -> None:
        for _ in range(turns):
            await asyncio.sleep(0)
        order.append(name)

    def prepare(transaction: Transaction) -> None:
        transaction.run(look("awaited", 100), ReplyDelay(60))
        transaction.run(look("never", 1_000_000))

    def judge(transaction: Transaction, arrived: Arrived) -> Reply | None:
        order.append("examined")
        return None

    talk = await talk_by(house, Prepared(house, prepare, judge))
    assert (await talk.message(SENDER, BOB)).startswith("250") and order == ["awaited", "examined"]


def test_all_that_shares_a_patience_delays_replies_for_that_time_in_all() -> None:
    async def story() -> None:
        loop = asyncio.get_running_loop()
        shared, tasks = ReplyDelay(0.2), TransactionTasks()
        for waited in (0.2, 0.0):
            transaction = Transaction(Client(CLIENT), Envelope(None), Prepared.__new__(Prepared), tasks)
            for _ in range(3):
                transaction.run(asyncio.sleep(3600), shared)
            began = loop.time()
            await transaction.settle()
            assert loop.time() - began == pytest.approx(waited)
            transaction.end(TransactionEnd.RESET)
        await tasks.close()

    with asyncio.Runner(loop_factory=InstantLoop) as runner:
        runner.run(story())


@pytest.mark.parametrize("make_loop", [asyncio.new_event_loop, uvloop.new_event_loop])
@pytest.mark.parametrize("where", ["mail", "task"])
def test_a_policy_may_wait_under_a_deadline_on_every_event_loop(
    make_loop: Callable[[], asyncio.AbstractEventLoop], where: str, tmp_path: Any
) -> None:
    """As a connection does it: what the session does first runs in no task."""

    async def look_up(transaction: Transaction) -> None:
        try:
            async with asyncio.timeout(0):
                await asyncio.get_running_loop().create_future()
        except TimeoutError:
            transaction.record(Verdict("dnsbl", "temperror"))

    def prepare(transaction: Transaction) -> Any:
        return (
            look_up(transaction) if where == "mail" else _ignore(transaction.run(look_up(transaction), ReplyDelay(60)))
        )

    async def advance(talk: Conversation, data: bytes, said: "asyncio.Future[bytes]") -> None:
        talk.session.receive(data)
        await talk.session.advance()
        said.set_result(talk.session.take_output())

    async def story() -> None:
        loop = asyncio.get_running_loop()
        async for house in open_house(tmp_path):
            talk = await talk_by(house, Prepared(house, prepare))
            for data in (b"MAIL FROM:<>\r\n", b"RCPT TO:<bob@here.test>\r\nDATA\r\n", MESSAGE.encode() + b".\r\n"):
                said: asyncio.Future[bytes] = loop.create_future()
                loop.call_soon(begin, loop, advance(talk, data, said))
                reply = (await said).decode().strip()
            assert reply.startswith("250 2.0.0 Ok: queued")
            assert [event.station for event in await house.events(reply)][1] is Station.CHECKED

    with asyncio.Runner(loop_factory=make_loop) as runner:
        runner.run(story())


# Decisions.


async def test_all_decisions_are_in_the_one_commit_of_the_message(house: House) -> None:
    alice = await house.account("carol@here.test")
    archive = await house.storage.mailboxes.create(alice.id, "Archive")
    digest = hashlib.sha256()

    def prepare(transaction: Transaction) -> None:
        transaction.tap(digest.update)
        transaction.record(Verdict("iprev", "pass", "mx.there.test"))

    def judge(transaction: Transaction, arrived: Arrived) -> None:
        transaction.prepend("X-Body-Digest", digest.hexdigest())
        transaction.file(alice, Filing(archive.id, frozenset({"\\Flagged"})))
        transaction.spend(Expense("carol@here.test", 1, 10, 10, 10, 10))

    talk = await talk_by(house, Prepared(house, prepare, judge))
    before = house.commits()
    reply = await talk.message(SENDER, "carol@here.test")
    assert reply.startswith("250") and house.commits() == before + 1
    (stored,) = await house.storage.mailboxes.messages(archive.id)
    assert stored.flags == {"\\Flagged"} and await house.inbox("carol@here.test") == []
    body = MESSAGE.encode().partition(b"\r\n\r\n")[2]
    wanted = f"X-Body-Digest: {hashlib.sha256(body).hexdigest()}"
    head = " ".join((await house.stored(trace_of(reply))).decode().split())
    assert head.startswith(wanted + " Received: ")
    received, checked, _ = await house.events(reply)
    assert received.station is Station.RECEIVED
    assert checked.details == Checked(verdicts=(Verdict("iprev", "pass", "mx.there.test"),))
    hour, _ = await house.storage.directory.spent("carol@here.test", house.clock.now)
    assert hour.messages == 1


async def test_what_was_decided_on_a_message_that_is_not_stored_is_nowhere(house: House) -> None:
    spool = house.watch_spool()
    spool.accept_error = OSError("gone")

    def judge(transaction: Transaction, arrived: Arrived) -> None:
        transaction.spend(Expense(BOB, 1, 10, 10, 10, 10))

    talk = await talk_by(house, Prepared(house, judge=judge))
    before = house.commits()
    assert (await talk.message(SENDER, BOB)).startswith("451") and house.commits() == before
    assert (await house.storage.directory.spent(BOB, house.clock.now))[0].messages == 0


async def test_the_fields_of_a_policy_stand_in_front_the_last_one_first_and_are_folded(house: House) -> None:
    def judge(transaction: Transaction, arrived: Arrived) -> None:
        transaction.prepend("X-First", "a stranger\r\nBcc: wrote this")
        transaction.prepend("X-Second", "word " * 40)

    talk = await talk_by(house, Prepared(house, judge=judge))
    stored = await house.stored(trace_of(await talk.message(SENDER, BOB)))
    head = stored[: stored.index(b"Received: ")].decode()
    assert all(len(line) <= 78 for line in head.split("\r\n"))
    assert head.startswith("X-Second: word word") and head.endswith("X-First: a stranger??Bcc: wrote this\r\n")


async def test_a_decision_may_differ_for_each_member_of_a_group(house: House) -> None:
    await house.alias("team@here.test", ALICE, BOB)

    def judge(transaction: Transaction, arrived: Arrived) -> None:
        for one in arrived.admitted:
            assert one.reached is not None
            for account in one.reached.accounts:
                if account.address == BOB:
                    transaction.file(account, Filing(flags=frozenset({"$Junk"})))

    talk = await talk_by(house, Prepared(house, judge=judge))
    assert (await talk.message(SENDER, "team@here.test")).startswith("250")
    flags = {}
    for name in (ALICE, BOB):
        account = await house.storage.directory.account(name)
        assert account is not None
        (message,) = await house.storage.mailboxes.messages(account.inbox)
        flags[name] = message.flags
    assert flags == {ALICE: frozenset(), BOB: frozenset({"$Junk"})}


def refuse(*addresses: str) -> Callable[[Transaction, Arrived], None]:
    """Return a judge that refuses the message for these recipients."""

    def judge(transaction: Transaction, arrived: Arrived) -> None:
        for one in arrived.admitted:
            if str(one.recipient.address) in addresses:
                one.refusal = replies.NO_SUCH_USER

    return judge


async def test_by_lmtp_a_policy_may_refuse_each_recipient_for_itself(house: House) -> None:
    talk = await talk_by(house, Prepared(house, judge=refuse(ALICE)), LMTP)
    written = await talk.message(SENDER, BOB, ALICE, BOB)
    first, second, third = written.split("\r\n")
    assert (first[:3], second[:9], third[:3]) == ("250", "550 5.1.1", "250")
    assert len(await house.inbox(BOB)) == 1 and await house.inbox(ALICE) == []
    received, *_ = await house.events(first)
    assert isinstance(received.details, Received) and received.details.recipients == (BOB, BOB)


async def test_by_lmtp_a_message_that_is_for_nobody_is_stored_for_nobody(house: House) -> None:
    spool = house.watch_spool()
    talk = await talk_by(house, Prepared(house, judge=refuse(ALICE, BOB)), LMTP)
    assert [line[:9] for line in (await talk.message(SENDER, BOB, ALICE)).split("\r\n")] == ["550 5.1.1"] * 2
    assert spool.accepted == []


async def test_by_smtp_one_answer_is_for_all_so_only_all_can_be_refused(house: House) -> None:
    talk = await talk_by(house, Prepared(house, judge=refuse(ALICE)))
    assert (await talk.message(SENDER, BOB, ALICE)).startswith("250") and len(await house.inbox(ALICE)) == 1
    assert (await talk.message(SENDER, ALICE)).startswith("550 5.1.1") and len(await house.inbox(ALICE)) == 1


async def test_a_recipient_that_a_policy_changes_keeps_what_it_leads_to(house: House) -> None:
    """Recipients and where they lead are one object each: to change or leave out one mixes up nobody."""
    await house.alias("far@here.test", "far@away.test")

    def judge(transaction: Transaction, arrived: Arrived) -> None:
        first = arrived.admitted[0]
        first.recipient = type(first.recipient)(Address.parse("changed@here.test"))
        arrived.admitted[1].refusal = replies.NO_SUCH_USER

    talk = await talk_by(house, Prepared(house, judge=judge), LMTP)
    await talk.message(SENDER, "far@here.test", ALICE, BOB)
    (entry,) = await house.queued()
    assert [str(one.address) for one in entry.recipients] == ["far@away.test"]
    assert len(await house.inbox(BOB)) == 1 and await house.inbox(ALICE) == []


# What it costs.


async def test_the_usual_policy_makes_no_task_for_a_client_of_a_private_network(house: House) -> None:
    made: list[object] = []
    loop = asyncio.get_running_loop()
    loop.set_task_factory(lambda loop, work, **more: made.append(work) or asyncio.Task(work, loop=loop, **more))
    try:
        talk = await house.reception()
        assert (await talk.message(SENDER, BOB)).startswith("250")
    finally:
        loop.set_task_factory(None)
    assert made == []
