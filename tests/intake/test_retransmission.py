"""A retransmission after a crash is recognised, and a client that goes on is never (decision 0005)."""

import pytest
from tests.intake.conversation import MESSAGE, House

BOB = "bob@here.test"


async def count(house: House) -> int:
    return len(await house.inbox(BOB))


async def test_a_client_that_never_saw_our_answer_sends_again_and_it_is_kept_once(house: House) -> None:
    first = await (await house.reception()).message("x@there.test", BOB)
    again = await (await house.reception()).message("x@there.test", BOB)
    assert first == again and await count(house) == 1


async def test_a_client_that_goes_on_may_send_the_same_again(house: House) -> None:
    spool = house.watch_spool()
    talk = await house.reception()
    first = await talk.message("x@there.test", BOB)
    assert spool.confirmed == []
    await talk.say("NOOP")
    assert len(spool.confirmed) == 1
    assert await talk.message("x@there.test", BOB) != first and await count(house) == 2


async def test_commands_that_were_there_before_our_answer_prove_nothing(house: House) -> None:
    spool = house.watch_spool()
    talk = await house.reception()
    await talk.say("MAIL FROM:<x@there.test>", f"RCPT TO:<{BOB}>", "DATA")
    await talk.send(MESSAGE.encode() + b".\r\nNOOP\r\nRSET\r\n")
    assert spool.confirmed == []
    await talk.send(b"N")
    assert len(spool.confirmed) == 1


async def test_input_before_the_answer_is_taken_proves_nothing(house: House) -> None:
    spool = house.watch_spool()
    talk = await house.reception()
    await talk.say("MAIL FROM:<x@there.test>", f"RCPT TO:<{BOB}>", "DATA")
    talk.session.receive(MESSAGE.encode() + b".\r\n")
    await talk.session.advance()
    talk.session.receive(b"NOOP\r\n")
    await talk.session.advance()
    assert spool.confirmed == []
    assert talk.session.take_output()
    talk.session.receive(b"NOOP\r\n")
    assert len(spool.confirmed) == 1


@pytest.mark.parametrize("together", [True, False])
async def test_a_client_that_says_quit_is_done_with_it(house: House, together: bool) -> None:
    spool = house.watch_spool()
    talk = await house.reception()
    await talk.say("MAIL FROM:<x@there.test>", f"RCPT TO:<{BOB}>", "DATA")
    if together:
        await talk.send(MESSAGE.encode() + b".\r\nQUIT\r\n")
    else:
        await talk.send(MESSAGE.encode() + b".\r\n")
        await talk.send(b"QUIT\r\n")
    assert len(spool.confirmed) == 1


async def test_several_messages_in_one_packet_are_all_confirmed(house: House) -> None:
    spool = house.watch_spool()
    talk = await house.reception()
    await talk.send(
        b"".join(
            b"MAIL FROM:<x@there.test>\r\nRCPT TO:<bob@here.test>\r\nBDAT 9 LAST\r\nA: b\r\n\r\n%d" % number
            for number in range(3)
        )
    )
    assert await count(house) == 3
    await talk.say("NOOP")
    assert len(set(spool.confirmed)) == 3


async def test_the_same_message_twice_in_one_packet_is_meant_twice(house: House) -> None:
    talk = await house.reception()
    message = b"MAIL FROM:<x@there.test>\r\nRCPT TO:<bob@here.test>\r\nBDAT 8 LAST\r\nA: b\r\n\r\n"
    written = await talk.send(message * 3)
    assert written.count("queued as") == 3 and await count(house) == 3


async def test_a_connection_that_just_ends_proves_nothing(house: House) -> None:
    spool = house.watch_spool()
    talk = await house.reception()
    await talk.message("x@there.test", BOB)
    talk.session.receive_eof()
    await talk.session.advance()
    talk.session.closed()
    assert spool.confirmed == []


@pytest.mark.parametrize(
    ("sender", "recipients", "content"),
    [
        ("y@there.test", [BOB], MESSAGE),
        ("x@there.test", [BOB, "alice@here.test"], MESSAGE),
        ("x@there.test", [BOB], MESSAGE + "p.s.\r\n"),
    ],
)
async def test_another_envelope_or_other_octets_are_another_message(
    house: House, sender: str, recipients: list[str], content: str
) -> None:
    first = await (await house.reception()).message("x@there.test", BOB)
    other = await (await house.reception()).message(sender, *recipients, content=content)
    assert first != other and await count(house) == 2


async def test_what_another_account_sends_is_another_message(house: House) -> None:
    await house.alias("team@here.test", "alice@here.test", BOB)
    content = MESSAGE.replace("alice@", "team@")
    replies = [
        await (await house.submission(user)).message("team@here.test", "x@there.test", content=content)
        for user in ("alice@here.test", BOB)
    ]
    assert replies[0] != replies[1] and len(await house.queued()) == 2


async def test_lmtp_recognises_as_well(house: House) -> None:
    first = await (await house.lmtp()).message("x@there.test", BOB, "alice@here.test")
    again = await (await house.lmtp()).message("x@there.test", BOB, "alice@here.test")
    assert first == again and await count(house) == 1
