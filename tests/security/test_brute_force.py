"""Guessing passwords: every guess costs the guesser the same, tells nothing, and soon has to wait; the owner does not.

The work is counted in hashes, since the time that it takes says more about the machine.
"""

import asyncio
import base64
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from tests.security.live import CREDENTIALS, PASSWORD, PATIENCE, SECOND, Live, host, until

from waypost.config.settings import ListenerProtocol
from waypost.login import hashing, patience
from waypost.protocol.sasl.client import ScramClient

USERS = [
    "alice@here.test",
    "closed@here.test",
    "nobody@here.test",
    "alice@elsewhere.test",
    "alice",
    "a\u202eb@here.test",
]


@pytest.fixture
async def here(tmp_path: Path) -> AsyncIterator[Live]:
    async with host(tmp_path, "here.test") as live:
        await live.account("alice@here.test")
        await live.account("closed@here.test")
        await live.assembly.storage.storage.directory.set_disabled("closed@here.test", True)
        yield live


@pytest.fixture
def hashes(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The hashes that were computed; none is, really."""
    computed: list[str] = []

    def verify(argon2: str, prepared: str) -> bool:
        computed.append(argon2)
        return argon2 == CREDENTIALS.argon2 and prepared == PASSWORD

    monkeypatch.setattr(hashing, "verify_password", verify)
    return computed


def b64(text: str) -> str:
    return base64.b64encode(text.encode()).decode()


async def guess_by_smtp(here: Live, user: str, mechanism: str, guess: str = "guess") -> list[str]:
    """Guess once; return all that the server says."""
    wire = await here.client(ListenerProtocol.SUBMISSIONS, tls=True)
    await wire.reply()
    await wire.say("EHLO x")
    if mechanism == "PLAIN":
        said = [await wire.say("AUTH PLAIN " + b64(f"\0{user}\0{guess}"))]
    elif mechanism == "LOGIN":
        said = [await wire.say(line) for line in ("AUTH LOGIN", b64(user), b64(guess))]
    else:
        scram = ScramClient(user, guess, plus=False, nonce="client")
        challenge = await wire.say("AUTH SCRAM-SHA-256 " + base64.b64encode(scram.start()).decode())
        final = scram.step(base64.b64decode(challenge[4:]))
        said = [challenge[:4], await wire.say(base64.b64encode(final).decode())]
    said.append(await wire.say("MAIL FROM:<alice@here.test>"))
    await wire.close()
    return said


async def guess_by_pop3(here: Live, user: str) -> list[str]:
    wire = await here.client(ListenerProtocol.POP3)
    await wire.line()
    await wire.send(b"STLS\r\n")
    await wire.line()
    await wire.start_tls()
    said = []
    for line in (f"USER {user}", "PASS guess", "STAT"):
        await wire.send(line.encode() + b"\r\n")
        said.append(await wire.line())
    await wire.close()
    return said


@pytest.mark.parametrize("mechanism", ["PLAIN", "LOGIN", "SCRAM-SHA-256", "POP3"])
async def test_an_answer_tells_nothing_of_the_user_and_costs_the_same(
    tmp_path: Path, mechanism: str, hashes: list[str]
) -> None:
    answers, costs = set(), set()
    for number, user in enumerate(USERS):  # each in a house of its own: nobody has to wait
        async with host(tmp_path / str(number), "here.test") as here:
            await here.account("alice@here.test")
            await here.account("closed@here.test")
            await here.assembly.storage.storage.directory.set_disabled("closed@here.test", True)
            hashes.clear()
            said = await (guess_by_pop3(here, user) if mechanism == "POP3" else guess_by_smtp(here, user, mechanism))
            answers.add(tuple(said))
            costs.add(len(hashes))
    assert len(answers) == 1
    assert costs == ({0} if mechanism.startswith("SCRAM") else {1}), "SCRAM makes the client pay"


@pytest.fixture
def waits(here: Live, monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """How long logins were held back; the clock is moved, and nobody waits."""
    waited: list[float] = []

    async def sleep(seconds: float) -> None:
        waited.append(round(seconds))
        here.ahead += int(seconds * SECOND)

    monkeypatch.setattr(patience, "sleep", sleep)
    return waited


async def test_a_guesser_hears_535_after_a_wait_that_grows_and_454_beyond_twenty(
    here: Live, hashes: list[str], waits: list[float]
) -> None:
    said = [(await guess_by_smtp(here, "alice@here.test", "PLAIN", f"guess {number}"))[0] for number in range(20)]
    assert all(reply.startswith("535 5.7.8") for reply in said)
    assert waits[:4] == sorted(waits[:4]) and 15 <= waits[-1] <= 16 and len(hashes) == 20
    assert (await guess_by_smtp(here, "alice@here.test", "PLAIN", "more"))[0].startswith("454 4.7.0")
    assert (await guess_by_smtp(here, "alice@here.test", "LOGIN", "and more"))[0][:3] == "334"
    assert (await guess_by_pop3(here, "alice@here.test"))[1].startswith("-ERR [SYS/TEMP]"), "by any protocol"
    assert (await guess_by_smtp(here, "nobody@here.test", "PLAIN", "more"))[0].startswith("454"), "and any name"


async def test_smtplib_hears_that_its_password_is_wrong(here: Live, hashes: list[str], waits: list[float]) -> None:
    """It tries PLAIN, then LOGIN, and tells the last answer (RFC 4954 4: 454 would say that it is temporary)."""
    wire = await here.client(ListenerProtocol.SUBMISSIONS, tls=True)
    await wire.reply()
    await wire.say("EHLO x")
    assert (await wire.say("AUTH PLAIN " + b64("\0alice@here.test\0wrong"))).startswith("535")
    assert (await wire.say("AUTH LOGIN", b64("alice@here.test"), b64("wrong"))).startswith("535")
    assert (await wire.say("AUTH PLAIN " + b64(f"\0alice@here.test\0{PASSWORD}"))).startswith("235")
    assert len(hashes) == 2
    await wire.close()


async def test_another_user_at_the_guessers_address_gets_in_with_a_new_phone(
    here: Live, hashes: list[str], waits: list[float]
) -> None:
    await here.account("bob@here.test")
    for number in range(40):
        await guess_by_smtp(here, "alice@here.test", "PLAIN", f"guess {number}")
        if number % 10 == 9:
            waits.clear()
            wire = await here.submitter("bob@here.test")
            assert sum(waits) <= 60
            await wire.close()


async def test_names_that_do_not_exist_are_no_way_around_either(
    here: Live, hashes: list[str], waits: list[float]
) -> None:
    for number in range(6):
        await guess_by_smtp(here, f"nobody{number}@here.test", "PLAIN")
    assert len(waits) == 5 and 15 <= waits[-1] <= 16


async def test_while_thirty_connections_guess_another_user_logs_in_and_sends(here: Live, hashes: list[str]) -> None:
    await here.account("bob@here.test")
    guesses = []
    for number in range(30):
        wire = await here.client(ListenerProtocol.SUBMISSIONS, tls=True)
        await wire.reply()
        await wire.say("EHLO x")
        guesses.append(asyncio.create_task(wire.say("AUTH PLAIN " + b64(f"\0alice@here.test\0guess {number}"))))
    bob = await here.client(ListenerProtocol.SUBMISSIONS, tls=True, source="127.0.0.2")
    await bob.reply()
    await bob.say("EHLO x")
    assert (await bob.say("AUTH PLAIN " + b64(f"\0bob@here.test\0{PASSWORD}"))).startswith("235")
    await bob.say("MAIL FROM:<bob@here.test>", "RCPT TO:<alice@here.test>")
    assert (await bob.content(b"From: bob@here.test\r\n\r\nhi\r\n.\r\n")).startswith("250")
    assert len(await here.inbox("alice@here.test")) == 1
    assert sum(guess.done() for guess in guesses) < 30, "the guesses wait"
    for guess in guesses:
        guess.cancel()
    await asyncio.gather(*guesses, return_exceptions=True)


async def test_a_guesser_who_goes_away_while_he_waits_keeps_no_place(
    here: Live, hashes: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    asleep = asyncio.Semaphore(0)

    async def sleep(seconds: float) -> None:
        asleep.release()
        await asyncio.Event().wait()

    monkeypatch.setattr(patience, "sleep", sleep)
    await guess_by_smtp(here, "alice@here.test", "PLAIN")
    pop3 = await here.client(ListenerProtocol.POP3)
    await pop3.line()
    await pop3.send(b"STLS\r\n")
    await pop3.line()
    await pop3.start_tls()
    await pop3.send(b"USER alice@here.test\r\nPASS more\r\n")
    smtp = await here.client(ListenerProtocol.SUBMISSIONS, tls=True)
    await smtp.reply()
    await smtp.say("EHLO x")
    await smtp.send(b"AUTH PLAIN " + b64("\0alice@here.test\0and more").encode() + b"\r\n")
    for _ in range(2):
        await asyncio.wait_for(asleep.acquire(), PATIENCE)
    for wire in (pop3, smtp):
        wire.writer.transport.abort()
    await until(lambda: len(here.assembly.listening.connections), lambda left: left == 0)
    assert len(hashes) == 1, "and no check is made for him"


async def test_a_session_ends_after_so_many_wrong_logins(here: Live, hashes: list[str]) -> None:
    wire = await here.client(ListenerProtocol.SUBMISSIONS, tls=True)
    await wire.reply()
    await wire.say("EHLO x")
    await wire.send(b"AUTH PLAIN AGEAYg==\r\n" * 100)
    said = (await wire.rest()).split(b"\r\n")
    assert said[-2].startswith(b"421") and len(said) <= here.settings.limits.errors + 4
    await wire.close()


async def test_the_same_salt_for_the_same_unknown_name_each_time(here: Live) -> None:
    """A salt that changes would tell that the name is made up."""
    salts = []
    for user in ("nobody@here.test", "nobody@here.test", "other@here.test", "alice@here.test"):
        wire = await here.client(ListenerProtocol.SUBMISSIONS, tls=True)
        await wire.reply()
        await wire.say("EHLO x")
        challenge = await wire.say("AUTH SCRAM-SHA-256 " + b64(f"n,,n={user},r=client"))
        attributes = base64.b64decode(challenge[4:]).decode().split(",")
        salts.append((attributes[1], len(attributes[1]), attributes[2]))
        await wire.close()
    assert salts[0] == salts[1] and salts[0][0] != salts[2][0]
    assert len({(length, rounds) for _, length, rounds in salts}) == 1
