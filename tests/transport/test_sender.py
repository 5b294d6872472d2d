"""Recipients, transactions and results: whatever a server answers, each recipient has one result, and it ends."""

import asyncio
from collections import Counter
from collections.abc import Sequence
from ipaddress import ip_address
from typing import Any, cast

from hypothesis import given
from hypothesis import strategies as st
from tests.transport.relay_world import World

from waypost.message.envelope import Recipient
from waypost.protocol.reply import Reply, reply
from waypost.protocol.smtp.capabilities import Capabilities
from waypost.protocol.smtp.client_events import RecipientOutcome, TransactionEnded
from waypost.queue.carrier import AttemptResult, Fate
from waypost.transport.broken_tls import BrokenTls
from waypost.transport.connection import OutboundConnection
from waypost.transport.next_hops import Server
from waypost.transport.regulator import Signal
from waypost.transport.sender import Sender, Sent

PLACE = Server("mx.test", ip_address("192.0.2.1"), 25)
REPLIES = [
    reply(250, "2.1.5", "taken"),
    reply(251, None, "forwarded"),
    reply(550, "5.1.1", "no"),
    reply(452, "4.5.3", "too many"),
    reply(452, None, "too many, or full"),
    reply(552, None, "too many, or too large"),
    reply(552, "5.5.3", "too many"),
    reply(452, "4.2.2", "full"),
    reply(421, "4.3.2", "bye"),
]


class Answering:
    """A connection whose answers are drawn: one list of replies for each transaction, the last one repeats."""

    server = PLACE
    declined_tls = False
    endpoint = PLACE.endpoint
    source = "192.0.2.9"
    tls = None
    over = False

    def __init__(self, answers: Sequence[Sequence[Reply]], rcpt_max: int | None, carried: int) -> None:
        self.capabilities = Capabilities(rcpt_max=rcpt_max)
        self.carried = carried
        self.sizes: list[int] = []
        self._answers = answers

    async def transact(self, envelope: object, recipients: tuple[Recipient, ...], *content: object) -> TransactionEnded:
        answers = self._answers[min(len(self.sizes), len(self._answers) - 1)]
        self.sizes.append(len(recipients))
        self.carried += 1
        outcomes = [RecipientOutcome(one, answers[number % len(answers)]) for number, one in enumerate(recipients)]
        return TransactionEnded(tuple(outcomes), dsn=True)


def send(server: Answering, count: int) -> AttemptResult:
    world = World()
    # Some addresses occur twice, as a careless submitter gives them.
    entry = world.entry(*(f"user{number // 2}@server.test" for number in range(count)))
    sender = Sender(spool=cast(Any, world.spool), now=lambda: 0, broken=BrokenTls())
    sent = asyncio.run(sender.send(cast(OutboundConnection, server), entry))
    assert isinstance(sent, Sent)
    asked = Counter(str(one.address) for one in entry.recipients)
    assert Counter(str(one.recipient.address) for one in sent.result.results) == asked
    assert (sent.signal is Signal.TAKEN) == any(one.fate is Fate.RELAYED for one in sent.result.results)
    return sent.result


@given(
    st.lists(st.lists(st.sampled_from(REPLIES), min_size=1, max_size=6), min_size=1, max_size=6),
    st.integers(1, 30),
    st.none() | st.integers(1, 10),
)
def test_each_recipient_has_one_result_and_it_ends(answers: list[list[Reply]], count: int, limit: int | None) -> None:
    server = Answering(answers, limit, 0)
    result = send(server, count)
    assert len(server.sizes) <= 2 * count
    if limit is not None:
        assert max(server.sizes) <= limit, "RFC 9422: no transaction is larger than the limit"
    for one in result.results:
        if one.fate is Fate.FAILED:
            assert one.reply and one.reply.permanent and one.status[0] == "5"
        if one.fate is Fate.DEFERRED:
            assert one.status[0] == "4"


def test_a_552_that_is_not_about_their_number_is_permanent() -> None:
    assert [one.fate for one in send(Answering([[reply(552, "5.2.2", "full")]], None, 0), 1).results] == [Fate.FAILED]
    assert [one.fate for one in send(Answering([[reply(552, None, "?")]], None, 0), 1).results] == [Fate.FAILED]
    assert [one.fate for one in send(Answering([[reply(552, "5.5.3", "?")]], None, 0), 1).results] == [Fate.DEFERRED]


def test_a_very_long_reply_is_cut() -> None:
    [result] = send(Answering([[reply(550, "5.1.1", *["no " * 1000] * 5)]], None, 0), 1).results
    assert result.reply is not None and len(result.reply.text) == 2000 and result.reply.text.endswith("…")


def test_addresses_have_the_form_with_a_port() -> None:
    assert PLACE.endpoint == "192.0.2.1:25"
    assert Server(None, ip_address("2001:db8::1"), 2525).endpoint == "[2001:db8::1]:2525"
