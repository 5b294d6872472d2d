"""The name of a client's address (RFC 8601 section 3): looked up while the content arrives, confirmed, and recorded."""

import asyncio
from pathlib import Path

import pytest
from tests.intake.conversation import MESSAGE, Conversation, House, open_house, trace_of
from tests.intake.instant import InstantLoop
from tests.reception.resolvers import SilentResolver, TableResolver

from waypost.config.settings import ListenerProtocol
from waypost.dns import DnsTemporary
from waypost.intake import TransactionTasks
from waypost.journal import Checked, Event
from waypost.message.verdict import Verdict
from waypost.protocol.session import Peer
from waypost.reception import ReceptionPolicy, ReverseNames
from waypost.reception.reverse_names import MOST_NAMES, PATIENCE
from waypost.storage import NewMessage
from waypost.transport.public import is_public

CLIENT, CLIENT_6 = "93.184.215.14", "2606:2800:21f:cb07:6820:80da:af6b:8b2c"
NAME = "mx.there.example"
SENDER, BOB = "x@there.example", "bob@here.test"


class Gate:
    """Port 25 of a house, with its resolver."""

    def __init__(self, house: House, resolver: TableResolver) -> None:
        self.house, self.resolver, self.tasks = house, resolver, TransactionTasks()
        self.policy = ReceptionPolicy(
            book=house.book(),
            tasks=self.tasks,
            reverse_names=ReverseNames(resolver, is_public=is_public, clock=asyncio.get_running_loop().time),
        )

    async def talk(self, address: str = CLIENT) -> Conversation:
        """Return a conversation with a client of this address, which has said EHLO."""
        session = self.house.session(ListenerProtocol.SMTP, policy=self.policy)
        talk = Conversation(session, Peer(address, 40000, "198.51.100.1", 25))
        await talk.open()
        await talk.say("EHLO mx.there.test")
        return talk

    async def deliver(self, address: str = CLIENT) -> tuple[str, list[Event]]:
        """Send a message; return its Received field and its journal."""
        reply = await (await self.talk(address)).message(SENDER, BOB)
        assert reply.startswith("250 2.0.0")
        stored = (await self.house.stored(trace_of(reply))).decode()
        return stored[: stored.index("From:")], await self.house.events(reply)


def checked(events: list[Event]) -> list[Verdict]:
    return [verdict for event in events if isinstance(event.details, Checked) for verdict in event.details.verdicts]


@pytest.mark.parametrize("address", [CLIENT, CLIENT_6, f"::ffff:{CLIENT}"])
async def test_a_name_that_leads_back_is_recorded_in_received_and_in_the_journal(house: House, address: str) -> None:
    plain = address.removeprefix("::ffff:")
    gate = Gate(house, TableResolver({plain: [NAME]}, {NAME: ["192.0.2.1", plain]}))
    received, events = await gate.deliver(address)
    literal = f"[IPv6:{address}]" if ":" in address else f"[{address}]"
    assert received.startswith(f"Received: from mx.there.test ({NAME} {literal})\r\n\tby mx.here.test ")
    assert checked(events) == [Verdict("iprev", "pass", NAME)]


@pytest.mark.parametrize(
    ("resolver", "result"),
    [
        (TableResolver(), "permerror"),
        (TableResolver({CLIENT: []}), "permerror"),
        (TableResolver({CLIENT: DnsTemporary("SERVFAIL")}), "temperror"),
        (TableResolver({CLIENT: [NAME]}), "fail"),
        (TableResolver({CLIENT: [NAME]}, {NAME: []}), "fail"),
        (TableResolver({CLIENT: [NAME]}, {NAME: ["192.0.2.99"]}), "fail"),
        (TableResolver({CLIENT: [NAME]}, {NAME: DnsTemporary("SERVFAIL")}), "temperror"),
        (TableResolver({CLIENT: ["a.example", NAME]}, {"a.example": DnsTemporary("x"), NAME: [CLIENT]}), "pass"),
        (TableResolver({CLIENT: ["a.example", NAME]}, {NAME: [CLIENT]}), "pass"),
    ],
)
async def test_the_results_are_those_of_the_standard_and_only_a_confirmed_name_is_told(
    house: House, resolver: TableResolver, result: str
) -> None:
    received, events = await Gate(house, resolver).deliver()
    (verdict,) = checked(events)
    assert verdict.result == result
    assert (NAME in received) == (result == "pass")
    assert (verdict.reason is not None) == (result != "pass")


@pytest.mark.parametrize(
    "address",
    ["127.0.0.1", "::1", "10.1.2.3", "192.168.7.1", "172.16.0.1", "fd00::1", "fe80::1%eth0", "::ffff:10.0.0.1"],
)
async def test_loopback_and_private_clients_are_not_asked_for_and_no_task_is_made(house: House, address: str) -> None:
    resolver = TableResolver()
    gate = Gate(house, resolver)
    loop = asyncio.get_running_loop()
    made: list[object] = []
    loop.set_task_factory(lambda loop, work, **more: made.append(work) or asyncio.Task(work, loop=loop, **more))
    try:
        received, events = await gate.deliver(address)
    finally:
        loop.set_task_factory(None)
    assert resolver.asked == [] and made == [] and checked(events) == []
    assert received.startswith("Received: from mx.there.test ([")


async def test_a_connection_is_asked_for_once_and_each_of_its_messages_says_so(house: House) -> None:
    resolver = TableResolver({CLIENT: [NAME]}, {NAME: [CLIENT]})
    talk = await Gate(house, resolver).talk()
    for _ in range(3):
        reply = await talk.message(SENDER, BOB)
        assert checked(await house.events(reply)) == [Verdict("iprev", "pass", NAME)]
    assert resolver.asked == [CLIENT, NAME]


async def test_trouble_that_passes_is_asked_about_again(house: House) -> None:
    troubled = {CLIENT: DnsTemporary("SERVFAIL")}
    resolver = TableResolver(troubled, {NAME: [CLIENT]})
    talk = await Gate(house, resolver).talk()
    first = await talk.message(SENDER, BOB)
    troubled[CLIENT] = [NAME]  # type: ignore[assignment]
    second = await talk.message(SENDER, BOB)
    assert [checked(await house.events(reply))[0].result for reply in (first, second)] == ["temperror", "pass"]


async def test_an_owner_of_many_names_can_not_make_us_ask_for_all_of_them(house: House) -> None:
    names = [f"n{number}.example" for number in range(100)]
    resolver = TableResolver({CLIENT: names}, {names[-1]: [CLIENT]})
    _, events = await Gate(house, resolver).deliver()
    assert len(resolver.asked) == 1 + MOST_NAMES and checked(events)[0].result == "fail"


@pytest.mark.parametrize("name", ["evil\r\nX: y", "(a) by us", "\\000.example", "ä.example", "a b"])
async def test_a_name_never_breaks_out_of_the_field(house: House, name: str) -> None:
    received, _ = await Gate(house, TableResolver({CLIENT: [name]}, {name: [CLIENT]})).deliver()
    first = received.split("\r\n")[0]
    assert first.isascii() and first.count("(") == first.count(")") == 1 and first.endswith(f" [{CLIENT}])")
    assert received.count("\r\n") == 4


async def test_a_message_that_is_given_up_gives_its_question_up(house: House) -> None:
    resolver = SilentResolver()
    gate = Gate(house, resolver)
    talk = await gate.talk()
    await talk.say(f"MAIL FROM:<{SENDER}>")
    await asyncio.sleep(0)
    await talk.say("RSET")
    assert (len(resolver.asked), resolver.given_up, len(gate.tasks.running)) == (1, 1, 0)


def test_a_resolver_that_never_answers_delays_a_session_by_a_fifth_of_a_second_in_all(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The clock jumps, so the delay is exact; storage, whose thread takes its own time, answers at once here."""
    assert PATIENCE == 0.2

    accepted: list[NewMessage] = []

    async def accept(message: NewMessage, reports: object = ()) -> None:
        accepted.append(message)

    async def story() -> None:
        loop = asyncio.get_running_loop()
        async for house in open_house(tmp_path):
            spool = house.watch_spool()
            monkeypatch.setattr(spool, "accept", accept)
            resolver = SilentResolver()
            gate = Gate(house, resolver)
            talk = await gate.talk()
            delays: dict[str, float] = {}
            for number in range(3):
                for line in (f"MAIL FROM:<{SENDER}>", f"RCPT TO:<{BOB}>", "DATA", MESSAGE + "."):
                    began = loop.time()
                    assert (await talk.say(line))[:1] in "23"
                    delays[f"{number} {line[:4]}"] = loop.time() - began
            assert {name: delay for name, delay in delays.items() if delay} == {"0 From": pytest.approx(PATIENCE)}
            assert len(accepted) == 3 and resolver.given_up == len(resolver.asked) > 0
            for message in accepted:
                assert b"from mx.there.test ([93.184.215.14])" in message.head
                (verdict,) = checked(list(message.events))
                assert verdict.result == "temperror"
            talk.hang_up()
            await gate.tasks.close()

    with asyncio.Runner(loop_factory=InstantLoop) as runner:
        runner.run(story())


async def test_a_flood_of_questions_that_hang_keeps_no_neighbour_from_his(house: House) -> None:
    silent = SilentResolver()
    gate = Gate(house, silent)
    gate.tasks.places.count = 10
    flood = [await gate.talk() for _ in range(50)]
    for talk in flood:
        await talk.say(f"MAIL FROM:<{SENDER}>", f"RCPT TO:<{BOB}>")
    await asyncio.sleep(0)
    assert len(silent.asked) == 5, "half of the worker's places"
    gate.policy._reverse_names = ReverseNames(
        TableResolver({"8.8.8.8": [NAME]}, {NAME: ["8.8.8.8"]}), is_public=is_public
    )
    received, events = await gate.deliver("8.8.8.8")
    assert NAME in received and checked(events)[0].result == "pass"
    for talk in flood:
        talk.hang_up()
    await gate.tasks.close()
    assert silent.given_up == 5
