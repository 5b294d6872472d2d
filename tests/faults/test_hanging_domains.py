"""One account writes to more domains that accept and never greet than a worker has connections: the mail of another
account leaves, and local mail arrives, while they all hang.
"""

import dns.message
from tests.dns.servers import ScriptedServer, answer
from tests.faults.callers import Caller
from tests.faults.conftest import OpenOffice
from tests.faults.ledger import Ledger
from tests.faults.office import ALICE, BOB
from tests.transport.mail_server import STALL, MailServer

from waypost.config.settings import SECOND, Dns, Limits, Outbound

DOMAINS = 60
PLACES = 50


def names(query: dns.message.Message) -> list[dns.message.Message]:
    """Every domain is its own server: those called `hang…` on 127.0.0.2, the others on 127.0.0.3."""
    question = query.question[0]
    if question.rdtype.name != "A":
        return [answer(query)]
    host = 2 if question.name.to_text().startswith("hang") else 3
    return [answer(query, f"{question.name} 60 IN A 127.0.0.{host}")]


async def test_mail_of_others_leaves_while_one_accounts_domains_never_greet(office: OpenOffice, ledger: Ledger) -> None:
    hanging = MailServer("PIPELINING", address="127.0.0.2", GREETING=STALL)
    friendly = MailServer("PIPELINING", address="127.0.0.3")
    async with hanging, ScriptedServer(names) as resolver:
        friendly.port = hanging.port
        async with friendly:
            house = await office(
                dns=Dns((resolver.place,), timeout=5 * SECOND),
                outbound=Outbound(
                    port=hanging.port,
                    allow_private_addresses=True,
                    max_connections=PLACES,
                    command_timeout=300 * SECOND,
                ),
                limits=Limits(recipients=1000),
            )
            alice = await Caller.submission(house.port("submissions"), ALICE)
            assert (await ledger.post(alice, ALICE, *(f"x@hang{n}.test" for n in range(DOMAINS)))).startswith("250")
            await hanging.until(lambda: hanging.open >= PLACES // 4)
            bob = await Caller.submission(house.port("submissions"), BOB)
            letter = b"From: bob@here.test\r\nSubject: tea\r\n\r\nAt five?\r\n"
            assert (await bob.message(BOB, ["carol@friends.test"], letter)).startswith("250")
            await friendly.until(lambda: len(friendly.taken) == 1)
            assert (await ledger.post(alice, ALICE, BOB)).startswith("250")
            assert (await ledger.post(alice, ALICE, "carol@friends.test")).startswith("250")
            await friendly.until(lambda: len(friendly.taken) == 2)
            assert hanging.open <= PLACES // 2 and hanging.most_open <= PLACES // 2
            await house.drained(to=DOMAINS)
            assert {entry.destination[:4] for entry in await house.queued()} == {"hang"}
