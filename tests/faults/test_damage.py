"""Damaged disks: whatever is broken is named, waits for a person, and costs nothing else.

Octets of a message, a value of a row, or the page of a table are damaged while nobody runs. Then the worker starts and
goes on with the rest, and `waypost storage check` finds it.
"""

import asyncio
from pathlib import Path

import apsw
import pytest
from tests.faults.callers import Caller, Refused
from tests.faults.conftest import OpenOffice
from tests.faults.ledger import Ledger
from tests.faults.office import ALICE, BOB, Office, route
from tests.transport.mail_server import MailServer

from waypost.message.trace import TraceId
from waypost.storage import Alias, EntryState
from waypost.storage.sqlite.opening.migrate import DATABASE
from waypost.storage.sqlite.segments.segments import segment_path
from waypost.storage.sqlite.upkeep.check import Problem, StorageChecker

CAROL = "carol@there.test"
BUSY = "421 4.3.2 not now"
LARGE = 300_000


def problems(data: Path) -> list[Problem]:
    checker = StorageChecker(data)
    try:
        return [problem for problem in checker.problems(lambda done, total: None) if not problem.harmless]
    finally:
        checker.close()


async def post_from_alice(house: Office, ledger: Ledger, *recipients: str, sizes: tuple[int, ...]) -> None:
    caller = await Caller.submission(house.port("submissions"), ALICE)
    for size in sizes:
        assert (await ledger.post(caller, ALICE, *recipients, size=size)).startswith("250")
    caller.hang_up()


# -- octets of messages ----------------------------------------------------------------------------------------


def damage_octets(data: Path) -> list[TraceId]:
    """Damage the first, third and fifth message: a flipped bit, a cut, a file that is gone; return all traces."""
    database = apsw.Connection(str(data / DATABASE))
    rows = database.execute("SELECT id, segment, offset, length FROM message ORDER BY id").fetchall()
    database.close()
    (_, first, offset, length), _, (_, third, _, _), _, (_, fifth, _, _) = rows
    path = segment_path(data / "segments", first)
    octets = bytearray(path.read_bytes())
    octets[offset + length - 5] ^= 1
    path.write_bytes(octets)
    path = segment_path(data / "segments", third)
    path.write_bytes(path.read_bytes()[:-100_000])
    segment_path(data / "segments", fifth).unlink()
    return [TraceId(row[0]) for row in rows]


async def test_damaged_messages_wait_for_a_person_and_the_others_are_read_and_relayed(
    office: OpenOffice, ledger: Ledger
) -> None:
    async with MailServer("PIPELINING", GREETING=BUSY) as there:
        house = await office(routes=(route("there.test", there.port),), queue={"expire": 86400_000_000})
        await post_from_alice(house, ledger, BOB, CAROL, sizes=(0, 0, LARGE, LARGE, LARGE))
        await house.close()
        traces = damage_octets(house.settings.data)
        there.answers.clear()
        await house.open(dispatch=False)
        for attempt in range(2):
            pop = await Caller.pop3(house.port("pop3s"), BOB)
            assert (await pop.ask("STAT")).startswith("+OK 5 ")
            assert (await pop.ask("RETR 1")).startswith("-ERR [SYS/TEMP]")
            for whole in (2, 4):
                assert (await pop.ask(f"RETR {whole}")).startswith("+OK")
                assert any("X-Token" in line for line in await pop.listing())
            assert (await pop.ask("RETR 5")).startswith("-ERR [SYS/TEMP]")
            answer = await pop.ask("RETR 3")
            if attempt == 0:  # nobody knew yet: the client sees a message that has no end
                assert answer.startswith("+OK")
                assert not (await pop.rest()).endswith(b"\r\n.\r\n")
            else:
                assert answer.startswith("-ERR [SYS/TEMP]")
                assert (await pop.ask("QUIT")).startswith("+OK")
            pop.hang_up()

        await house.close()
        await house.open()
        await house.drained(to=3)
        waiting = {entry.trace: entry.last_error for entry in await house.queued()}
        assert waiting.keys() == {traces[0], traces[2], traces[4]}
        found = await ledger.audit_of(house, [f"t{k}" for k in (2, 4)], there)
        assert found.damaged == 6, "three in the mailbox, and the same three in the queue"
        named = {problem.trace for problem in problems(house.settings.data)}
        assert named == {traces[0], traces[2], traces[4]}


async def test_a_damaged_message_is_returned_when_its_term_ends(office: OpenOffice, ledger: Ledger) -> None:
    async with MailServer("PIPELINING", GREETING=BUSY) as there:
        house = await office(routes=(route("there.test", there.port),), queue={"expire": 3_000_000})
        await post_from_alice(house, ledger, CAROL, sizes=(0, 0, LARGE, LARGE, LARGE))
        await house.close()
        damage_octets(house.settings.data)
        there.answers.clear()
        await house.open()
        await house.drained()
        boxes = await house.storage.mailboxes.messages((await house.account(ALICE)).inbox)
        texts = []
        for row in boxes:
            message = await house.storage.mailboxes.open(row.mailbox, row.uid)
            texts.append(await message.read(0, message.size))
    assert len(there.taken) == 2 and len(texts) == 3
    assert all(b"can't be read from our disk" in text and CAROL.encode() in text for text in texts)


# -- values of rows --------------------------------------------------------------------------------------------


async def test_an_entry_that_cannot_be_read_is_set_aside_and_its_destination_goes_on(
    office: OpenOffice, ledger: Ledger, caplog: pytest.LogCaptureFixture
) -> None:
    async with MailServer("PIPELINING", GREETING=BUSY) as there:
        house = await office(routes=(route("there.test", there.port),))
        await post_from_alice(house, ledger, CAROL, sizes=(0,) * 5)
        await house.close()
        database = apsw.Connection(str(house.settings.data / DATABASE))
        database.execute("UPDATE entry SET recipients = substr(recipients, 1, 9) WHERE id = 1")
        database.execute("UPDATE entry SET recipients = '[[1, 2, 3]]' WHERE id = 2")
        database.execute("UPDATE message SET envelope = x'ff00' WHERE id = (SELECT message FROM entry WHERE id = 4)")
        database.close()
        there.answers.clear()
        await house.open()
        await house.drained(to=3)
        await asyncio.wait_for(until_all_are_held(house), 20)
        found = await ledger.audit_of(house, ["t3", "t5"], there)
        assert found.relayed.total() == 2
    held = {entry.id: entry.damage for entry in await house.queued() if entry.state is EntryState.HELD}
    assert held == {
        1: "its recipients can't be read",
        2: "its recipients can't be read",
        4: "its envelope can't be read",
    }
    told = [record.fields for record in caplog.records if record.message == "queue entry damaged"]  # type: ignore[attr-defined]
    assert sorted(fields["entry"] for fields in told) == [1, 2, 4]
    words = [problem.what for problem in problems(house.settings.data)]
    assert len(words) == 3 and sum("recipients of entry" in word for word in words) == 2
    assert await house.storage.queue.delete([1, 2, 4], now=house.now()) == 3
    assert problems(house.settings.data) == []


async def until_all_are_held(house: Office) -> None:
    while any(entry.state is not EntryState.HELD for entry in await house.queued()):  # noqa: ASYNC110
        await asyncio.sleep(0.02)


async def test_damaged_flags_aliases_and_events_cost_nothing_but_themselves(office: OpenOffice, ledger: Ledger) -> None:
    house = await office(dispatch=False)
    await post_from_alice(house, ledger, BOB, sizes=(0, 0))
    await house.close()
    database = apsw.Connection(str(house.settings.data / DATABASE))
    database.execute("UPDATE mailbox_message SET flags = '{' WHERE uid = 1")
    database.execute("UPDATE journal SET events = 'nothing of ours' WHERE id = 1")
    database.execute("INSERT INTO alias (address, targets) VALUES ('all@here.test', '[1]')")
    database.close()
    await house.open(dispatch=False)
    pop = await Caller.pop3(house.port("pop3s"), BOB)
    assert (await pop.ask("STAT")).startswith("+OK 2 ")
    assert (await pop.ask("DELE 1")).startswith("+OK")
    pop.hang_up()
    caller = await Caller.smtp(house.port("smtp"))
    assert (await ledger.post(caller, "eve@else.test", "all@here.test")).startswith("451 4.3.0")
    assert (await ledger.post(caller, "eve@else.test", BOB)).startswith("250")
    caller.hang_up()
    first, second, *_ = await house.storage.mailboxes.messages((await house.account(BOB)).inbox)
    assert await house.storage.journal.of(first.trace) == []
    assert len(await house.storage.journal.of(second.trace)) == 2
    words = sorted(problem.what for problem in problems(house.settings.data))
    assert [word.split(" can't be read")[0].split(" of ")[0] for word in words] == [
        "some events",
        "the flags",
        "the targets",
    ]
    await ledger.audit(house)


async def test_held_mail_for_a_damaged_alias_waits_and_does_not_keep_others_waiting(
    office: OpenOffice, ledger: Ledger
) -> None:
    house = await office(dispatch=False)
    await house.storage.directory.set_alias(Alias("all@here.test", (ALICE, BOB)))
    caller = await Caller.submission(house.port("submissions"), ALICE)
    for recipient in ("all@here.test", "all@here.test", BOB):
        token, content = ledger.letter()
        await caller.say(f"MAIL FROM:<{ALICE}> HOLDFOR=1")
        await caller.say(f"RCPT TO:<{recipient}>")
        await caller.say("DATA")
        await caller.send(content + b".\r\n")
        ledger.enter(token, [recipient], await caller.reply())
    assert len(await house.queued()) == 3
    caller.hang_up()
    await house.close()
    database = apsw.Connection(str(house.settings.data / DATABASE))
    database.execute("UPDATE alias SET targets = '[[]]'")
    database.close()
    await house.open()
    await house.drained(to=2)
    found = await ledger.audit(house)
    assert (found.mailboxes.total(), found.queue.total()) == (1, 2)
    await house.storage.directory.set_alias(Alias("all@here.test", (BOB,)))
    await house.drained()
    assert len(await house.storage.mailboxes.messages((await house.account(BOB)).inbox)) == 3


# -- pages of the database -------------------------------------------------------------------------------------


def damage_page(data: Path, name: str) -> None:
    """Overwrite the first page of a table or an index."""
    database = apsw.Connection(str(data / DATABASE))
    page = int(database.execute("SELECT rootpage FROM sqlite_schema WHERE name = ?", (name,)).get)
    size = int(database.execute("PRAGMA page_size").get)
    database.close()
    with (data / DATABASE).open("r+b") as file:
        file.seek((page - 1) * size)
        file.write(b"\xff" * size)


EVERYTHING = {"reception", "mailbox", "submission"}


@pytest.mark.parametrize(
    ("name", "works"),
    [
        ("entry", {"reception", "mailbox"}),
        ("entry_due", {"reception", "mailbox"}),
        ("destination", EVERYTHING),  # made anew at once
        ("spending", EVERYTHING),  # made anew at once
        ("mailbox_message", {"submission"}),
        ("journal", EVERYTHING),  # made anew at once
        ("account", set()),
    ],
)
async def test_a_damaged_page_costs_what_needs_it_and_ends_nobody(
    office: OpenOffice, ledger: Ledger, name: str, works: set[str]
) -> None:
    async with MailServer("PIPELINING", GREETING=BUSY) as there:
        house = await office(routes=(route("there.test", there.port),))
        await post_from_alice(house, ledger, BOB, CAROL, sizes=(0, 0))
        await house.close()
        damage_page(house.settings.data, name)
        await house.open()
        assert await what_works(house, ledger) == works
        assert house.dispatching, "the dispatcher waits for the storage, and does not end"
        words = [problem.what for problem in problems(house.settings.data)]
        made_anew = works == EVERYTHING  # then nothing of the damage is left to find
        assert any(word.startswith("the database") for word in words) != made_anew


async def what_works(house: Office, ledger: Ledger) -> set[str]:
    """Try each way in, and the way to one's mail; whatever fails must fail for the moment only."""
    caller = await Caller.smtp(house.port("smtp"))
    answers = {"reception": await ledger.post(caller, "eve@else.test", BOB)}
    caller.hang_up()
    try:
        caller = await Caller.submission(house.port("submissions"), ALICE)
        answers["submission"] = await ledger.post(caller, ALICE, CAROL)
        caller.hang_up()
    except Refused as refused:
        answers["submission"] = str(refused)
    try:
        caller = await Caller.pop3(house.port("pop3s"), BOB)
        answers["mailbox"] = await caller.ask("RETR 1")
        caller.hang_up()
    except Refused as refused:
        answers["mailbox"] = str(refused)
    good = {way for way, answer in answers.items() if answer.startswith(("250", "+OK"))}
    for way in answers.keys() - good:
        assert answers[way].startswith(("451 4.3.0", "454 4.7.0", "-ERR [SYS/TEMP]")), answers[way]
    return good
