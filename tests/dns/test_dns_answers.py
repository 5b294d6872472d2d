"""What an answer says: records, CNAMEs, absence and how long each holds."""

from typing import Any, TypeVar

import dns.flags
import dns.message
import dns.rcode
import pytest
from tests.dns.servers import SOA, answer

from waypost.dns.answers import AAAA, MAX_NEGATIVE_TTL, MX, TXT, A, AnswerStep, BadAnswer, RecordType, read_answer
from waypost.dns.names import name_of, text_of
from waypost.dns.resolver import Mx
from waypost.dns.wire import Message

T = TypeVar("T")


def read(kind: RecordType[T], *records: str, name: str = "a.test", **options: Any) -> AnswerStep[T]:
    query = dns.message.make_query(name, kind.type.name)
    return read_answer(Message(answer(query, *records, **options).to_wire()), name_of(name), kind)


def test_records_of_each_kind_become_values() -> None:
    assert read(MX, "a.test. 60 IN MX 10 Mx.A.test.").records == (Mx(10, "mx.a.test"),)
    assert read(MX, "a.test. 60 IN MX 0 .").records == (Mx(0, ""),)
    assert read(TXT, 'a.test. 60 IN TXT "v=spf1 " "-all"').records == (b"v=spf1 -all",)
    assert [str(found) for found in read(A, "a.test. 60 IN A 192.0.2.1").records] == ["192.0.2.1"]
    assert [str(found) for found in read(AAAA, "a.test. 60 IN AAAA 2001:db8::1").records] == ["2001:db8::1"]


def test_names_are_compared_without_case() -> None:
    step = read(A, "A.TEST. 60 IN CNAME B.Test.", "b.tesT. 60 IN A 192.0.2.1", name="a.Test")
    assert step.records and text_of(step.name) == "b.test"


def test_a_chain_inside_the_answer_is_followed_and_the_shortest_time_holds() -> None:
    step = read(A, "a.test. 60 IN CNAME b.test.", "b.test. 20 IN CNAME c.test.", "c.test. 90 IN A 192.0.2.1")
    assert (step.aliases, step.ttl, step.whole, text_of(step.name)) == (2, 20, True, "c.test")


def test_a_chain_that_leaves_the_answer_must_be_asked_on() -> None:
    step = read(A, "a.test. 60 IN CNAME b.other.")
    assert (step.whole, text_of(step.name)) == (False, "b.other")
    assert not read(A, "a.test. 60 IN CNAME b.other.", authority=(SOA,)).whole, "that SOA is not about b.other"
    assert read(A, "a.test. 60 IN CNAME b.test.", authority=(SOA,)).whole, "this one is: b.test has no address"


def test_absence_holds_by_the_soa() -> None:
    absent = read(A, authority=(SOA,))
    assert (absent.records, absent.exists, absent.ttl) == ((), True, 300)
    nowhere = read(A, rcode=dns.rcode.NXDOMAIN, authority=("test. 100 IN SOA ns.test. root.test. 1 60 60 60 300",))
    assert (nowhere.exists, nowhere.ttl) == (False, 100)
    long = read(A, authority=("test. 999999 IN SOA ns.test. root.test. 1 60 60 60 999999",))
    assert long.ttl == MAX_NEGATIVE_TTL
    assert read(A).ttl == 0, "without an SOA nobody says for how long"


def test_nxdomain_behind_a_cname_is_nxdomain() -> None:
    step = read(A, "a.test. 60 IN CNAME b.test.", rcode=dns.rcode.NXDOMAIN, authority=(SOA,))
    assert (step.exists, text_of(step.name), step.ttl) == (False, "b.test", 60)


def test_records_live_a_day_at_most_and_absurd_times_are_zero() -> None:
    assert read(A, "a.test. 9999999 IN A 192.0.2.1").ttl == 86_400
    assert read(A, "a.test. 0 IN A 192.0.2.1").ttl == 0


def test_the_ad_bit_is_surfaced() -> None:
    assert read(A, "a.test. 60 IN A 192.0.2.1", flags=int(dns.flags.AD)).authenticated
    assert not read(A, "a.test. 60 IN A 192.0.2.1").authenticated


@pytest.mark.parametrize("rcode", [dns.rcode.SERVFAIL, dns.rcode.REFUSED, dns.rcode.NOTAUTH])
def test_a_failure_is_no_answer(rcode: dns.rcode.Rcode) -> None:
    with pytest.raises(BadAnswer, match=dns.rcode.to_text(rcode)):
        read(A, rcode=rcode)


def test_a_circle_is_no_answer() -> None:
    with pytest.raises(BadAnswer, match="form a loop"):
        read(A, "a.test. 60 IN CNAME b.test.", "b.test. 60 IN CNAME A.test.")


def test_an_endless_chain_is_no_answer() -> None:
    chain = [f"n{number}.test. 60 IN CNAME n{number + 1}.test." for number in range(30)]
    with pytest.raises(BadAnswer, match="more than 8"):
        read(A, *chain, name="n0.test")


def test_a_referral_is_no_answer_because_it_would_look_like_absence() -> None:
    query = dns.message.make_query("a.test", "MX")
    message = answer(query, authority=("test. 60 IN NS ns.test.",))
    message.flags &= ~dns.flags.RA
    with pytest.raises(BadAnswer, match="not a recursive"):
        read_answer(Message(message.to_wire()), name_of("a.test"), MX)


def test_records_of_other_names_and_kinds_are_not_taken() -> None:
    step = read(A, "evil.test. 60 IN A 192.0.2.1", "a.test. 60 IN AAAA 2001:db8::1")
    assert step.records == ()
