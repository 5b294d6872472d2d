"""Each 250 is a message of its own (RFC 5321 4.2.5, 6.1): nothing is taken for a copy of what came before."""

import asyncio
import itertools
from pathlib import Path

import pytest
from msgspec import structs
from tests.intake.conversation import CLIENT, MESSAGE, SECOND, Conversation, House, open_house, trace_of

from waypost.config.settings import ListenerProtocol

BOB = "bob@here.test"
ALICE = "alice@here.test"
ELSEWHERE = "carol@elsewhere.test"


def lost(talk: Conversation) -> None:
    """The client's program ends: its connection is closed without QUIT."""
    talk.session.receive_eof()
    talk.session.closed()


@pytest.mark.parametrize("leaves", ["QUIT", "lost", "still there"])
@pytest.mark.parametrize("by", ["reception", "submission", "lmtp"])
async def test_the_same_octets_in_another_session_are_another_message(house: House, by: str, leaves: str) -> None:
    answers = []
    for _ in range(3):
        talk = await (house.submission(ALICE) if by == "submission" else getattr(house, by)())
        answers.append(await talk.message(ALICE if by == "submission" else "x@there.test", BOB))
        if leaves == "QUIT":
            await talk.say("QUIT")
        if leaves != "still there":
            lost(talk)
    assert len({trace_of(answer) for answer in answers}) == 3
    assert len(await house.inbox(BOB)) == 3


async def test_the_same_octets_for_elsewhere_are_relayed_as_often_as_they_were_taken(house: House) -> None:
    for _ in range(3):
        talk = await house.submission(ALICE)
        assert (await talk.message(ALICE, ELSEWHERE)).startswith("250")
        lost(talk)
    assert len(await house.queued()) == 3


async def test_the_same_octets_from_another_host_are_another_message(house: House) -> None:
    for address in ("192.0.2.7", "198.51.100.7"):
        talk = Conversation(house.session(ListenerProtocol.SMTP), structs.replace(CLIENT, address=address))
        await talk.open()
        await talk.say("EHLO there.test")
        await talk.message("x@there.test", BOB)
        lost(talk)
    assert len(await house.inbox(BOB)) == 2


async def test_clients_that_send_the_same_octets_side_by_side_are_all_believed(house: House) -> None:
    """Six clients, which share commits, and some of which end without QUIT."""

    async def client(number: int) -> int:
        taken = 0
        for turn in range(10):
            talk = await house.reception()
            taken += (await talk.message("x@there.test", BOB)).startswith("250")
            if (number + turn) % 2:
                await talk.say("QUIT")
            lost(talk)
        return taken

    assert sum(await asyncio.gather(*map(client, range(6)))) == 60
    assert len(await house.inbox(BOB)) == 60


async def test_the_same_octets_after_a_restart_are_another_message(tmp_path: Path) -> None:
    async for house in open_house(tmp_path):
        talk = await house.reception()
        await talk.message("x@there.test", BOB)
        lost(talk)
    async for house in open_house(tmp_path, accounts=()):
        house.clock.now += SECOND
        await (await house.reception()).message("x@there.test", BOB)
        assert len(await house.inbox(BOB)) == 2


async def test_the_same_message_again_and_again_in_one_packet_is_meant_so(house: House) -> None:
    talk = await house.reception()
    message = b"MAIL FROM:<x@there.test>\r\nRCPT TO:<bob@here.test>\r\nBDAT 8 LAST\r\nA: b\r\n\r\n"
    written = await talk.send(message * 3)
    assert written.count("queued as") == 3 and len(await house.inbox(BOB)) == 3


async def test_each_message_has_its_report_of_success(house: House) -> None:
    traces = [
        trace_of(await (await house.submission(ALICE)).message(ALICE, f"<{BOB}> NOTIFY=SUCCESS")) for _ in range(2)
    ]
    reports = [entry for entry in await house.queued() if entry.envelope.reverse_path is None]
    assert len(reports) == len(set(traces)) == 2


async def test_every_octet_is_stored_under_the_trace_id_that_was_told(house: House) -> None:
    answers = [await (await house.reception()).message("x@there.test", BOB) for _ in range(2)]
    for one, other in itertools.pairwise(answers):
        assert trace_of(one) != trace_of(other)
    for answer in answers:
        assert (await house.stored(trace_of(answer))).endswith(MESSAGE.encode())
