"""Waypost and Postfix are neighbours on port 25, with NSD between them; mail goes both ways, and back."""

import asyncio
import smtplib
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.peers.postfix import Postfix
from tests.scenarios.clients import eventually, poll, trusting
from tests.scenarios.conftest import ALICE, ALICE_PASSWORD, World, open_to_servers

from waypost.lab.host import Host


@pytest.fixture
def postfix(world: World, tmp_path: Path) -> Iterator[Postfix]:
    world.zone("wonderland.test", 11)
    world.zone("postfix.test", 13)
    world.start_names()
    postfix = Postfix(
        open_to_servers(tmp_path) / "postfix",
        hostname="mx.postfix.test",
        domain="postfix.test",
        address=world.address(13),
        mailboxes=("bob",),
        nameserver=world.nameserver,
    )
    postfix.start()
    yield postfix
    postfix.stop()


@pytest.fixture
async def host(world: World, postfix: Postfix) -> Host:
    return await world.host("wonderland.test", 11, {ALICE: ALICE_PASSWORD})


def submit(host: Host, recipient: str, body: str) -> None:
    with smtplib.SMTP_SSL(
        host.address, 465, local_hostname="client.test", timeout=20, context=trusting(host)
    ) as session:
        session.login(ALICE, ALICE_PASSWORD)
        session.sendmail(ALICE, [recipient], f"From: {ALICE}\r\nTo: {recipient}\r\n\r\n{body}\r\n".encode())


async def test_waypost_relays_to_postfix_by_mx(host: Host, postfix: Postfix) -> None:
    await asyncio.to_thread(submit, host, "bob@postfix.test", "hello\r\n.\r\nneighbour")
    [message] = await eventually(lambda: postfix.messages("bob"))
    assert b"\n\nhello\n.\nneighbour\n" in message
    assert b"from mx.wonderland.test" in message


async def test_postfix_relays_to_waypost_by_mx(host: Host, postfix: Postfix) -> None:
    with smtplib.SMTP(postfix.address, 25, local_hostname="client.test", timeout=20) as session:
        session.sendmail("bob@postfix.test", [ALICE], b"Subject: hi\r\n\r\nhello\r\n.\r\nyourself\r\n")
    [message] = await eventually(lambda: poll(host, ALICE, ALICE_PASSWORD))
    assert message.endswith(b"\r\n\r\nhello\r\n.\r\nyourself\r\n")
    assert b"with ESMTPS" in message, "Postfix uses our STARTTLS"


async def test_what_postfix_refuses_comes_back_to_alice(host: Host, postfix: Postfix) -> None:
    await asyncio.to_thread(submit, host, "nobody@postfix.test", "anyone there?")
    [report] = await eventually(lambda: poll(host, ALICE, ALICE_PASSWORD))
    assert b"multipart/report" in report
    assert b"User unknown in virtual mailbox table" in report, "the neighbour's own words"


async def test_what_waypost_refuses_comes_back_from_postfix(host: Host, postfix: Postfix) -> None:
    with smtplib.SMTP(postfix.address, 25, local_hostname="client.test", timeout=20) as session:
        session.sendmail("bob@postfix.test", ["nobody@wonderland.test"], b"Subject: hi\r\n\r\nhello\r\n")
    [report] = await eventually(lambda: postfix.messages("bob"))
    assert b"550 5.1.1" in report
