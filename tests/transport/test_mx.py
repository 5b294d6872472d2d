"""RFC 5321 section 5: from MX records to the servers that are tried, and to the reasons why there are none."""

from collections.abc import Callable
from ipaddress import ip_address
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from waypost.dns import DnsError, DnsTemporary, IpAddress, Mx, NoSuchDomain
from waypost.transport.mx import (
    MOST_HOSTS,
    MOST_SERVERS,
    Exchanger,
    MxPolicy,
    interleaved,
    literal_exchanger,
    literal_host,
    literal_server,
    servers,
    usable,
)
from waypost.transport.next_hops import NoNextHop, Server

DOMAIN = "example.test"


def keep(_: list[Any]) -> None:
    """The shuffle that leaves the order alone."""


def turn(items: list[Any]) -> None:
    """The shuffle that turns the order round."""
    items.reverse()


def terms(*own: str, allow_private: bool = False) -> MxPolicy:
    return MxPolicy("us.test", frozenset(map(ip_address, own)), 25, allow_private)


def host(name: str, preference: int, *addresses: str) -> Exchanger:
    return Exchanger(name, preference, tuple(map(ip_address, addresses)))


def names(*exchangers: Exchanger, at: MxPolicy | None = None) -> list[str]:
    return [str(server) for server in servers(DOMAIN, exchangers, at or terms(), keep)]


def failure(call: Callable[[], object]) -> tuple[str, bool, str]:
    with pytest.raises(NoNextHop) as caught:
        call()
    return caught.value.status, caught.value.permanent, str(caught.value)


# -- the records ----------------------------------------------------------------------------------------------


def test_lower_preferences_come_first_and_equals_in_any_order() -> None:
    records = [Mx(20, "c.test"), Mx(10, "a.test"), Mx(10, "b.test")]
    assert [mx.host for mx in usable(DOMAIN, records, keep)] == ["a.test", "b.test", "c.test"]
    assert [mx.host for mx in usable(DOMAIN, records, turn)] == ["b.test", "a.test", "c.test"]


def test_without_mx_the_domain_itself_takes_its_mail() -> None:
    assert usable(DOMAIN, [], keep) == [Mx(0, DOMAIN)]


def test_a_null_mx_is_permanent() -> None:
    assert failure(lambda: usable(DOMAIN, [Mx(0, "")], keep))[:2] == ("5.1.10", True)


def test_a_null_mx_among_others_is_ignored() -> None:
    assert usable(DOMAIN, [Mx(0, ""), Mx(10, "a.test")], keep) == [Mx(10, "a.test")]


def test_records_that_name_no_host_are_ignored() -> None:
    bad = [Mx(2, "a..test"), Mx(3, ".test")]
    assert usable(DOMAIN, [*bad, Mx(9, "a.test")], keep) == [Mx(9, "a.test")]
    status, permanent, words = failure(lambda: usable(DOMAIN, bad, keep))
    assert (status, permanent) == ("5.4.4", True) and "a..test" in words


@pytest.mark.parametrize("text", ["192.0.2.1", "[192.0.2.1]", "2001:db8::1", "[2001:db8::1]", "[IPv6:2001:db8::1]"])
def test_an_address_in_the_place_of_a_host_is_kept_in_its_order(text: str) -> None:
    records = [Mx(20, text), Mx(10, "a.test")]
    assert [mx.host for mx in usable(DOMAIN, records, keep)] == ["a.test", text]
    assert str(literal_host(text)) in text


@pytest.mark.parametrize(
    "text", ["1.2.3", "192.0.2.256", "0x7f.1", "127.1", "192.0.2.01", "192.0.2.1.test", "[a]", "::g", "2001:4860::1%x"]
)
def test_what_only_looks_like_an_address_is_a_name(text: str) -> None:
    assert literal_host(text) is None
    assert usable(DOMAIN, [Mx(10, text)], keep) == [Mx(10, text)]


def test_a_host_that_is_named_twice_is_asked_once() -> None:
    records = [Mx(30, "a.test"), Mx(10, "a.test"), Mx(20, "b.test")]
    assert usable(DOMAIN, records, keep) == [Mx(10, "a.test"), Mx(20, "b.test")]


def test_a_domain_with_very_many_mx_is_cut_at_the_worst() -> None:
    records = [Mx(preference, f"mx{preference}.test") for preference in range(500, 0, -1)]
    assert [mx.preference for mx in usable(DOMAIN, records, keep)] == list(range(1, MOST_HOSTS + 1))


# -- the addresses of their hosts -----------------------------------------------------------------------------


def test_ipv6_and_ipv4_take_turns_and_hosts_stay_in_order() -> None:
    first = host("a.test", 10, "1.1.1.1", "1.1.1.2", "1.1.1.3", "2600::1", "2600::2")
    second = host("b.test", 20, "1.0.0.1")
    assert names(first, second) == [
        "a.test [2600::1]:25",
        "a.test 1.1.1.1:25",
        "a.test [2600::2]:25",
        "a.test 1.1.1.2:25",
        "a.test 1.1.1.3:25",
        "b.test 1.0.0.1:25",
    ]


def test_the_same_address_is_tried_once() -> None:
    mapped = host("b.test", 20, "::ffff:1.1.1.1", "1.1.1.2")
    assert names(host("a.test", 10, "1.1.1.1"), mapped) == ["a.test 1.1.1.1:25", "b.test 1.1.1.2:25"]


def test_hosts_and_servers_are_not_without_number() -> None:
    def crowd(hosts: int) -> list[str]:
        return names(*(host(f"{n}.test", n, *(f"1.{n}.0.{k}" for k in range(50))) for n in range(hosts)))

    assert len(crowd(1)) == len(crowd(20)) == MOST_SERVERS
    for hosts in range(2, 6):  # the backups have their turn, too, among the ten that are tried
        tried = {name.partition(" ")[0] for name in crowd(hosts)[:10]}
        assert tried == {f"{n}.test" for n in range(hosts)}
    few = [host(f"{n}.test", n, *(f"1.{n}.0.{k}" for k in range(8))) for n in range(3)]
    assert len({frozenset(names(*few)) for _ in range(20)}) == 1, "all of them come, the further ones at the end"


def test_a_host_without_addresses_is_skipped_while_another_works() -> None:
    good = host("c.test", 30, "1.1.1.1")
    for error in (DnsTemporary("SERVFAIL"), NoSuchDomain("no")):
        assert names(Exchanger("a.test", 10, error), host("b.test", 20), good) == ["c.test 1.1.1.1:25"]


def test_dns_trouble_is_temporary_when_nothing_else_is_left() -> None:
    silent = Exchanger("b.test", 20, DnsTemporary("A of b.test: no answer"))
    for others in ([], [host("a.test", 10)], [host("a.test", 10, "10.0.0.1")]):
        status, permanent, words = failure(lambda others=others: names(*others, silent))  # type: ignore[misc]
        assert (status, permanent) == ("4.4.3", False) and "no answer" in words


def test_a_domain_with_neither_mx_nor_address_takes_no_mail() -> None:
    for addresses in ((), NoSuchDomain("no")):
        assert failure(lambda addresses=addresses: names(Exchanger(DOMAIN, 0, addresses)))[:2] == (  # type: ignore[misc]
            "5.1.2",
            True,
        )


def test_mail_servers_without_any_address_are_permanent() -> None:
    status, permanent, words = failure(lambda: names(host("a.test", 1), Exchanger("b.test", 2, NoSuchDomain("no"))))
    assert (status, permanent) == ("5.4.4", True) and "a.test, b.test" in words


def test_what_was_not_looked_at_may_be_a_way_another_time() -> None:
    for exchangers in ([host("a.test", 10)], [Exchanger("a.test", 10, NoSuchDomain("no"))], [host("a.test", 1, "::1")]):
        status, permanent, words = failure(
            lambda exchangers=exchangers: servers(DOMAIN, exchangers, terms(), keep, complete=False)  # type: ignore[misc]
        )
        assert (status, permanent) == ("4.4.4", False) and "more mail servers than are looked at" in words
    ours = host("us.test", 10, "1.2.3.4")
    assert failure(lambda: servers(DOMAIN, [ours], terms(), keep, complete=False))[:2] == ("4.4.6", False)


def test_private_addresses_are_the_verdict_only_when_all_addresses_are_known() -> None:
    half = Exchanger("a.test", 10, (ip_address("fd00::1"),), complete=False)
    assert failure(lambda: names(half))[:2] == ("4.4.3", False)


# -- addresses in the place of names --------------------------------------------------------------------------


def address_mx(text: str, preference: int = 10) -> Exchanger:
    return literal_exchanger(Mx(preference, text), ip_address(text))


def test_a_public_address_in_the_place_of_a_name_is_used_and_that_is_said() -> None:
    [server] = servers(DOMAIN, [address_mx("1.1.1.1")], terms(), keep)
    assert (server.name, str(server)) == (None, "1.1.1.1:25")
    assert server.note == "the MX 1.1.1.1 is an IP address and no name (RFC 1035 section 3.3.9)"


def test_it_takes_its_turn_by_its_preference() -> None:
    exchangers = [host("a.test", 10, "1.1.1.1"), address_mx("1.1.1.2", 20), host("b.test", 30, "1.1.1.3")]
    assert names(*exchangers) == ["a.test 1.1.1.1:25", "1.1.1.2:25", "b.test 1.1.1.3:25"]


@pytest.mark.parametrize("text", ["10.0.0.1", "127.0.0.1", "169.254.169.254", "0.0.0.0", "::1", "fd00::1"])
def test_a_private_address_in_the_place_of_a_name_leads_nowhere(text: str) -> None:
    status, permanent, words = failure(lambda: names(address_mx(text)))
    assert (status, permanent) == ("5.4.4", True) and "private or reserved" in words


def test_our_own_address_in_the_place_of_a_name_is_a_loop() -> None:
    assert failure(lambda: names(address_mx("1.2.3.4"), at=terms("1.2.3.4")))[:2] == ("5.4.6", True)


# -- ourselves ------------------------------------------------------------------------------------------------


def test_we_and_what_is_not_better_than_we_are_dropped() -> None:
    chain = [host("a.test", 10, "1.1.1.1"), host("us.test", 20), host("b.test", 20, "1.1.1.2"), host("c.test", 30)]
    assert names(*chain) == ["a.test 1.1.1.1:25"]


def test_we_are_known_by_name_in_any_case_and_by_address() -> None:
    for ours in (host("US.test", 20, "9.9.9.9"), host("alias.test", 20, "8.8.8.8", "1.2.3.4")):
        worse = host("c.test", 30, "1.1.1.3")
        better = host("a.test", 10, "1.1.1.1")
        assert names(better, ours, worse, at=terms("1.2.3.4")) == ["a.test 1.1.1.1:25"]


def test_when_we_are_the_best_it_is_a_loop() -> None:
    ours = host("us.test", 10, "1.2.3.4")
    expected = ("5.4.6", True, "mail loop: the MX of example.test points to this host")
    assert failure(lambda: names(ours)) == expected
    assert failure(lambda: names(host("a.test", 10, "1.1.1.1"), ours)) == expected
    assert failure(lambda: names(host(DOMAIN, 0, "::ffff:1.2.3.4"), at=terms("1.2.3.4"))) == expected


def test_when_the_better_ones_are_out_of_order_mail_waits_for_them() -> None:
    primary = Exchanger("a.test", 10, DnsTemporary("SERVFAIL"))
    assert failure(lambda: names(primary, host("us.test", 20)))[0] == "4.4.3"


# -- private networks -----------------------------------------------------------------------------------------


def test_private_addresses_are_passed_over() -> None:
    assert names(host("a.test", 10, "127.0.0.1", "1.1.1.1", "::1")) == ["a.test 1.1.1.1:25"]


@pytest.mark.parametrize("address", ["169.254.169.254", "127.0.0.1", "::ffff:10.0.0.1", "64:ff9b::7f00:1", "0.0.0.0"])
def test_when_only_private_addresses_remain_the_reason_is_said(address: str) -> None:
    status, permanent, words = failure(lambda: names(host("a.test", 10, address)))
    assert (status, permanent) == ("5.4.4", True)
    assert "only addresses of private or reserved networks" in words


def test_private_addresses_may_be_allowed_but_not_what_is_no_host() -> None:
    laboratory = terms(allow_private=True)
    assert names(host("a.test", 10, "127.0.0.12", "::1"), at=laboratory) == ["a.test [::1]:25", "a.test 127.0.0.12:25"]
    assert failure(lambda: names(host("a.test", 10, "0.0.0.0", "224.0.0.1"), at=laboratory))[0] == "5.4.4"


def test_address_literals_are_held_to_the_same_terms() -> None:
    public, private = ip_address("1.1.1.1"), ip_address("10.0.0.1")
    assert literal_server(public, terms()) == Server(None, public, 25)
    assert failure(lambda: literal_server(private, terms()))[:2] == ("5.4.4", True)
    assert literal_server(private, terms(allow_private=True)).address == private
    assert failure(lambda: literal_server(public, terms("1.1.1.1")))[:2] == ("5.4.6", True)


# -- anything -------------------------------------------------------------------------------------------------

ADDRESSES = st.lists(st.ip_addresses(), max_size=6).map(tuple)
FATES: st.SearchStrategy[tuple[IpAddress, ...] | DnsError] = st.one_of(
    ADDRESSES, st.builds(DnsTemporary, st.just("trouble")), st.builds(NoSuchDomain, st.just("none"))
)
HOSTS = st.sampled_from(["a.test", "b.test", "us.test", "c.test", DOMAIN])


@given(st.lists(st.builds(Exchanger, HOSTS, st.integers(0, 5), FATES), min_size=1), st.booleans())
def test_whatever_dns_says_there_are_servers_or_a_reason(exchangers: list[Exchanger], allow: bool) -> None:
    ordered = sorted(exchangers, key=lambda exchanger: exchanger.preference)
    ours = [exchanger.preference for exchanger in ordered if exchanger.host == "us.test"]
    try:
        found = servers(DOMAIN, ordered, terms(allow_private=allow), keep)
    except NoNextHop as reason:
        assert reason.status[0] == ("5" if reason.permanent else "4")
        return
    assert 0 < len(found) <= MOST_SERVERS
    assert len({server.address for server in found}) == len(found)
    rank = {server.name: min(e.preference for e in ordered if e.host == server.name) for server in found}
    assert all(preference < min(ours, default=6) for preference in rank.values())


@given(st.lists(st.ip_addresses()))
def test_interleaving_loses_and_invents_nothing(addresses: list[IpAddress]) -> None:
    order = interleaved(addresses, turn)
    assert sorted(map(str, order)) == sorted(set(map(str, addresses)))
