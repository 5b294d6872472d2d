"""Who receives, by the MX hosts of a domain."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from waypost.transport.receiver import Known, Receiver, receiver_of, receiver_of_route


@pytest.mark.parametrize(
    ("domain", "hosts", "name", "known"),
    [
        ("example.org", [(1, "aspmx.l.google.com"), (5, "alt1.aspmx.l.google.com")], "google", Known.PROVIDER),
        ("example.net", [(1, "SMTP.Google.com.")], "google", Known.PROVIDER),
        (
            "gmail.com",
            [(5, "gmail-smtp-in.l.google.com"), (10, "alt1.gmail-smtp-in.l.google.com")],
            "google",
            "provider",
        ),
        ("example.com", [(0, "example-com.mail.protection.outlook.com")], "microsoft", Known.PROVIDER),
        ("example.com", [(0, "example-com.x-v1.mx.microsoft")], "microsoft", Known.PROVIDER),
        ("yahoo.com", [(1, "mta5.am0.yahoodns.net"), (1, "mta6.am0.yahoodns.net")], "yahoo", Known.PROVIDER),
        ("example.org", [(10, "mx1.hoster.example"), (10, "mx2.hoster.example")], "hoster.example", Known.HOSTS),
        ("example.org", [(10, "mx.eu.hoster.example")], "eu.hoster.example", Known.HOSTS),
        ("example.org", [(20, "backup.other.example"), (10, "mx.hoster.example")], "hoster.example", Known.HOSTS),
        ("example.org", [(10, "mx.b.example"), (10, "mx.a.example")], "a.example", Known.HOSTS),
        ("example.org", [(10, "mx.example.org")], "example.org", Known.DOMAIN),
        ("example.org", [(0, "example.org")], "example.org", Known.DOMAIN),
        ("example.co.uk", [(0, "example.co.uk")], "example.co.uk", Known.DOMAIN),
        ("shop.example", [(0, "example.co.uk")], "example.co.uk", Known.HOSTS),
        ("shop.example", [(0, "example.info.pl")], "example.info.pl", Known.HOSTS),
        ("shop.example", [(0, "example.com")], "example.com", Known.HOSTS),
        ("shop.example", [(0, "ec2-192-0-2-1.compute.amazonaws.com")], "ec2-192-0-2-1.compute.amazonaws.com", "hosts"),
        ("shop.example", [(0, "vps12345.rented.example")], "vps12345.rented.example", Known.HOSTS),
        ("shop.example", [(0, "192.0.2.1")], "192.0.2.1", Known.HOSTS),
        ("shop.example", [(0, "2001:db8::1")], "2001:db8::1", Known.HOSTS),
        ("shop.example", [(0, "localhost")], "localhost", Known.HOSTS),
        ("[192.0.2.1]", [], "[192.0.2.1]", Known.ADDRESS),
        ("example.org", [], "example.org", Known.DOMAIN),
    ],
)
def test_a_receiver_is_named_by_its_hosts(domain: str, hosts: list[tuple[int, str]], name: str, known: str) -> None:
    assert receiver_of(domain, hosts) == Receiver(name, Known(known))


@pytest.mark.parametrize("host", ["notgoogle.com", "mx.google.com.evil.example", "yahoodns.net.evil.example"])
def test_nobody_becomes_a_provider_by_a_name_that_resembles_one(host: str) -> None:
    assert receiver_of("shop.example", [(0, host)]).known is Known.HOSTS


def test_a_route_is_its_own_receiver() -> None:
    assert receiver_of_route("Relay.Example.NET") == Receiver("relay.example.net", Known.ROUTE)


_LABELS = st.text("abcxyz0-", min_size=1, max_size=6)
_HOSTS = st.lists(st.tuples(st.integers(0, 2), st.lists(_LABELS, min_size=1, max_size=5).map(".".join)), max_size=6)


@given(_HOSTS, st.randoms())
def test_the_order_of_the_records_means_nothing(hosts: list[tuple[int, str]], random: object) -> None:
    shuffled = list(hosts)
    random.shuffle(shuffled)  # type: ignore[attr-defined]
    assert receiver_of("shop.example", hosts) == receiver_of("shop.example", shuffled)
    assert receiver_of("shop.example", hosts).name
