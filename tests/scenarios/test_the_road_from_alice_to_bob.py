"""The whole road: submission, queue, MX, relay, mailbox, POP3; and what happens when a station fails."""

import asyncio
import smtplib
from email import message_from_bytes
from email.message import Message

from tests.scenarios.clients import eventually, poll, run, trusting
from tests.scenarios.conftest import ALICE, ALICE_PASSWORD, BOB, BOB_PASSWORD, Town

from waypost.lab.host import Host


def submit(host: Host, recipient: str, subject: str, *, options: tuple[str, ...] = ()) -> str:
    """Submit by smtplib; returns the trace id that the reply names."""
    with smtplib.SMTP_SSL(
        host.address, 465, local_hostname="client.test", timeout=20, context=trusting(host)
    ) as session:
        session.login(ALICE, ALICE_PASSWORD)
        session.mail(ALICE)
        session.rcpt(recipient, options)
        code, words = session.data(
            f"From: {ALICE}\r\nTo: {recipient}\r\nSubject: {subject}\r\n\r\nDear Bob.\r\n".encode()
        )
        assert code == 250, words
        return words.decode().split()[-1]


def parts_of(report: bytes) -> list[Message]:
    message = message_from_bytes(report)
    assert message.get_content_type() == "multipart/report"
    payload = message.get_payload()
    assert isinstance(payload, list)
    return payload


async def test_a_message_walks_the_whole_road_and_one_id_tells_its_way(town: Town) -> None:
    trace = await asyncio.to_thread(submit, town.wonderland, BOB, "tea")
    [message] = await eventually(lambda: poll(town.builder, BOB, BOB_PASSWORD))
    assert message.startswith(b"Return-Path: <alice@wonderland.test>\r\nDelivered-To: bob@builder.test\r\n")
    assert trace.encode() in message
    stations = [event["station"] for event in (await town.wonderland.json("trace", trace))["events"]]
    assert stations[0] == "submitted" and "queued" in stations and stations[-1] == "relayed"
    assert "TLSv1.3" in await town.wonderland.run("trace", trace)


async def test_mail_waits_while_bobs_server_is_down_and_arrives_when_it_is_back(town: Town) -> None:
    await town.builder.stop()
    trace = await asyncio.to_thread(submit, town.wonderland, BOB, "patience")

    async def attempted() -> bool:
        events = (await town.wonderland.json("trace", trace))["events"]
        return any(event["station"] == "attempt" for event in events)

    await eventually(attempted)
    assert (await town.wonderland.json("queue", "stats"))["entries"] == 1
    await town.builder.start()
    [message] = await eventually(lambda: poll(town.builder, BOB, BOB_PASSWORD))
    assert b"patience" in message


async def test_an_unknown_recipient_brings_a_report_that_a_person_understands(town: Town) -> None:
    await asyncio.to_thread(submit, town.wonderland, "nobody@builder.test", "lost")
    [report] = await eventually(lambda: poll(town.wonderland, ALICE, ALICE_PASSWORD))
    assert report.startswith(b"Return-Path: <>\r\n")
    human, machine, returned = parts_of(report)
    assert "nobody@builder.test" in str(human.get_payload())
    assert "550 5.1.1" in str(human.get_payload()), "what the other server said"
    assert machine.get_content_type() == "message/delivery-status"
    assert "Subject: lost" in returned.as_string()


async def test_a_domain_that_never_answers_is_reported_delayed_and_then_returned(town: Town) -> None:
    await town.builder.stop()
    trace = await asyncio.to_thread(submit, town.wonderland, BOB, "no answer")

    def both() -> list[bytes]:
        found = poll(town.wonderland, ALICE, ALICE_PASSWORD)
        return found if len(found) == 2 else []

    reports = await eventually(both, seconds=60)
    actions = [part.as_string() for report in reports for part in parts_of(report)[1:2]]
    assert "Action: delayed" in actions[0] and "Action: failed" in actions[1]
    assert (await town.wonderland.json("queue", "stats"))["entries"] == 0
    stations = [event["station"] for event in (await town.wonderland.json("trace", trace))["events"]]
    assert "delayed" in stations and stations[-1] == "returned"


async def test_success_is_reported_when_it_was_asked_for(town: Town) -> None:
    await asyncio.to_thread(submit, town.wonderland, BOB, "proof", options=("NOTIFY=SUCCESS",))
    [report] = await eventually(lambda: poll(town.wonderland, ALICE, ALICE_PASSWORD))
    assert "Action: relayed" in parts_of(report)[1].as_string(), "Bob's server reports to nobody it does not know"


async def test_port_25_relays_for_nobody(town: Town) -> None:
    words = await run(
        *["swaks", "--server", town.wonderland.address, "--port", "25", "--from", "x@elsewhere.test"],
        *["--to", BOB, "--quit-after", "RCPT"],
        check=False,
    )
    assert "550 5.7.1" in words


async def test_after_kill_9_of_everything_each_message_is_there_and_few_are_twice(town: Town) -> None:
    subjects = [f"burst-{number}" for number in range(60)]
    pending, acknowledged = list(subjects), asyncio.Event()
    loop = asyncio.get_running_loop()

    def burst(count: int) -> None:
        with smtplib.SMTP_SSL(
            town.wonderland.address, 465, local_hostname="client.test", timeout=20, context=trusting(town.wonderland)
        ) as s:
            s.login(ALICE, ALICE_PASSWORD)
            for subject in pending[:count]:
                text = f"From: {ALICE}\r\nMessage-ID: <{subject}@x.test>\r\nSubject: {subject}\r\n\r\nhi\r\n"
                s.sendmail(ALICE, [BOB], text.encode())
                pending.remove(subject)
                if len(pending) == len(subjects) // 2:
                    loop.call_soon_threadsafe(acknowledged.set)

    def until_broken() -> None:
        try:
            burst(len(subjects))
        except (smtplib.SMTPException, OSError):
            return  # the kill; what was not acknowledged is still pending

    sending = asyncio.create_task(asyncio.to_thread(until_broken))
    await acknowledged.wait()
    await asyncio.gather(town.wonderland.kill(), town.builder.kill())
    await sending
    await asyncio.gather(town.wonderland.start(), town.builder.start())
    await asyncio.to_thread(burst, len(subjects))

    def arrived() -> list[str]:
        messages = [message_from_bytes(found) for found in poll(town.builder, BOB, BOB_PASSWORD)]
        return sorted(str(message["Subject"]) for message in messages)

    await eventually(lambda: len(set(arrived())) == len(subjects), seconds=60)
    await eventually(lambda: town.wonderland.json("queue", "stats"))
    # Whatever was on its way when the kill came may come again: one message from Alice, and one on each connection
    # between the hosts. A duplicate is better than a loss.
    assert set(arrived()) == set(subjects)
    assert len(arrived()) - len(subjects) <= 1 + 20
