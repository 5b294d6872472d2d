"""From which source a message leaves: the choice, what moves it, and what nothing moves."""

from ipaddress import ip_address

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from waypost.config.settings import MINUTE, EgressSource
from waypost.message.address import Address
from waypost.message.envelope import Envelope, Recipient
from waypost.message.trace import TraceId
from waypost.storage import EntryState, QueueEntry
from waypost.transport.egress import SYSTEM, EgressSources

NOW = 1_795_500_000_000_000
FOUR = tuple(f"192.0.2.{number}" for number in range(1, 5))
SIX = ("2001:db8::1", "2001:db8::2")
BOTH = {4, 6}


def entry(
    recipient: str = "bob@server.test",
    sender: str | None = "alice@client.test",
    *,
    number: int = 1,
    source: str | None = None,
) -> QueueEntry:
    return QueueEntry(
        id=number,
        trace=TraceId(number),
        destination="server.test",
        recipients=(Recipient(Address.parse(recipient)),),
        state=EntryState.READY,
        priority=0,
        queued_at=NOW,
        next_attempt=NOW,
        last_attempt=None,
        attempts=0,
        waited=0,
        delay_notified=False,
        last_error=None,
        envelope=Envelope(None if sender is None else Address.parse(sender)),
        size=1,
        account=None,
        source=source,
    )


class Machine:
    """Sources, and a clock."""

    def __init__(self, *addresses: str) -> None:
        self.now = NOW
        self.configured = tuple(EgressSource(ip_address(address)) for address in addresses)
        self.sources = EgressSources(self.configured, now=lambda: self.now)

    def lacks(self, address: str) -> None:
        [source] = [each for each in self.configured if str(each.address) == address]
        self.sources.unusable(source)

    def of(self, what: QueueEntry, families: frozenset[int] | set[int] = frozenset({4})) -> str:
        return str(self.sources.of(what, families).name)


MANY = [entry(f"user{number}@server.test", number=number) for number in range(400)]


def test_without_sources_the_system_chooses() -> None:
    machine = Machine()
    assert machine.sources.of(entry(), {4}) is SYSTEM and SYSTEM.to(ip_address("192.0.2.9")) is None
    assert machine.sources.keeps(entry(), "192.0.2.9") is None
    assert machine.sources.moved(entry(), "192.0.2.9", {4}) is None


@given(st.permutations(FOUR))
def test_the_choice_hangs_on_nothing_but_the_message_and_the_set_of_sources(order: list[str]) -> None:
    one, other = Machine(*FOUR), Machine(*order)
    assert [one.of(each) for each in MANY[:20]] == [other.of(each) for each in MANY[:20]]


def test_messages_of_one_sender_to_one_recipient_begin_at_one_source() -> None:
    """A greylisting receiver knows their client, sender and recipient already."""
    machine = Machine(*FOUR)
    assert len({machine.of(entry(number=number)) for number in range(50)}) == 1
    assert machine.of(entry("Bob@SERVER.test")) == machine.of(entry("bob@server.test"))


def test_recipients_are_spread_over_all_sources() -> None:
    machine = Machine(*FOUR)
    counts = {address: [machine.of(each) for each in MANY].count(address) for address in FOUR}
    assert all(70 <= count <= 130 for count in counts.values()), counts


def test_a_new_source_moves_only_the_messages_that_it_takes_over() -> None:
    before, after = Machine(*FOUR[:3]), Machine(*FOUR)
    moved = [each for each in MANY if before.of(each) != after.of(each)]
    assert {after.of(each) for each in moved} == {FOUR[3]}
    assert 70 <= len(moved) <= 130, "a fourth of them"


def test_a_source_that_goes_moves_only_its_own_messages() -> None:
    before, after = Machine(*FOUR), Machine(*FOUR[:3])
    assert {before.of(each) for each in MANY if before.of(each) != after.of(each)} == {FOUR[3]}


@given(st.sampled_from(FOUR), st.sets(st.sampled_from(FOUR)))
def test_nothing_moves_a_message_that_was_tried_while_its_source_is_there(source: str, others: set[str]) -> None:
    machine = Machine(*{source, *others})
    kept = entry(source=source)
    assert machine.of(kept) == source
    assert machine.sources.moved(kept, source, {4}) is None and machine.sources.keeps(kept, source) == source


def test_a_message_whose_source_is_gone_from_the_list_moves_once_and_says_why() -> None:
    machine = Machine(*FOUR[1:])
    kept = entry(source=FOUR[0])
    moved = machine.of(kept)
    assert moved in FOUR[1:]
    assert machine.sources.moved(kept, moved, {4}) == "192.0.2.1 is no source any more (outbound.source)"
    assert machine.sources.keeps(kept, moved) == moved
    again = replace(kept, source=moved)
    assert machine.of(again) == moved and machine.sources.moved(again, moved, {4}) is None


@pytest.mark.parametrize("rest", [(), (FOUR[1],)])
def test_it_says_so_too_where_one_source_or_none_is_left(rest: tuple[str, ...]) -> None:
    machine = Machine(*rest)
    assert "no source any more" in str(machine.sources.moved(entry(source=FOUR[0]), "192.0.2.2", {4}))


def test_a_source_that_this_machine_lacks_gives_its_messages_to_others_for_a_minute() -> None:
    machine = Machine(*FOUR)
    fresh = entry()
    first = machine.of(fresh)
    machine.lacks(first)
    second = machine.of(fresh)
    assert second != first
    assert machine.sources.moved(fresh, second, {4}) == f"{first} is no address of this machine"
    kept = replace(fresh, source=second)
    machine.now += MINUTE
    assert machine.of(fresh) == first
    assert machine.of(kept) == second, "what has moved stays where it is"


def test_where_this_machine_lacks_all_sources_the_message_stays_at_its_own() -> None:
    machine = Machine(*FOUR)
    first = machine.of(entry())
    for address in FOUR:
        machine.lacks(address)
    assert machine.of(entry()) == first


def test_a_destination_with_both_families_is_reached_from_a_source_of_each() -> None:
    machine = Machine(*FOUR, *SIX)
    egress = machine.sources.of(entry(), BOTH)
    assert egress.name in SIX, "IPv6 first, as among the servers of a host"
    assert str(egress.to(ip_address("2001:db8::99")).address) == egress.name  # type: ignore[union-attr]
    other = egress.to(ip_address("192.0.2.99"))
    assert other is not None and str(other.address) in FOUR
    assert machine.sources.moved(entry(), str(other.address), BOTH) is None, "that is no move"
    assert len({machine.sources.of(each, BOTH) for each in MANY}) == len(SIX), "one pair for each"


def test_a_destination_without_ipv6_spreads_over_the_ipv4_sources() -> None:
    machine = Machine(*FOUR, *SIX)
    assert {machine.of(each) for each in MANY} == set(FOUR)


def test_a_message_that_fell_back_to_ipv4_stays_there() -> None:
    machine = Machine(*FOUR, *SIX)
    assert machine.of(entry(source=FOUR[2]), BOTH) == FOUR[2]


def test_a_family_without_a_source_has_none() -> None:
    machine = Machine(*FOUR)
    assert machine.sources.of(entry(), {6}).to(ip_address("2001:db8::99")) is None


def test_where_the_other_family_had_to_do_the_journal_hears_of_it() -> None:
    machine = Machine(FOUR[0], SIX[0])
    words = machine.sources.moved(entry(source=SIX[0]), FOUR[0], BOTH)
    assert words == f"no server took a connection from {SIX[0]}"


def test_an_attempt_that_reached_nobody_changes_nothing() -> None:
    machine = Machine(*FOUR)
    kept = entry(source=FOUR[1])
    assert machine.sources.keeps(kept, None) == FOUR[1] and machine.sources.moved(kept, None, {4}) is None
    assert machine.sources.keeps(entry(), None) is None


@pytest.mark.parametrize("sender", [None, "jörg@client.test", '"odd one"@client.test'])
def test_every_sender_has_a_source(sender: str | None) -> None:
    assert Machine(*FOUR).of(entry(sender=sender)) in FOUR


def test_an_entry_that_can_not_be_read_has_one_as_well() -> None:
    assert Machine(*FOUR).of(replace(entry(), recipients=())) in FOUR
