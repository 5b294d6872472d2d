"""URLs of mail servers, as people write them."""

import pytest

from waypost.client.errors import ClientError
from waypost.client.places import POP3, SUBMISSION, Security, ServerPlace, parse_place


@pytest.mark.parametrize(
    ("url", "place"),
    [
        (
            "submissions://alice%40wonderland.test@127.0.0.11:4650",
            ServerPlace("submissions", "127.0.0.11", 4650, Security.IMPLICIT, "alice@wonderland.test"),
        ),
        (
            "submissions://alice@wonderland.test@MX.Wonderland.test",
            ServerPlace("submissions", "mx.wonderland.test", 465, Security.IMPLICIT, "alice@wonderland.test"),
        ),
        ("submission://a%2Fb%3Ac@host/", ServerPlace("submission", "host", 587, Security.STARTTLS, "a/b:c")),
        ("smtp://[2001:db8::1]", ServerPlace("smtp", "2001:db8::1", 25, Security.NONE, None)),
        (
            "submissions://b\N{LATIN SMALL LETTER U WITH DIAERESIS}cher.test",
            ServerPlace("submissions", "xn--bcher-kva.test", 465, Security.IMPLICIT, None),
        ),
    ],
)
def test_a_url_names_server_port_security_and_user(url: str, place: ServerPlace) -> None:
    assert parse_place(url, SUBMISSION) == place


def test_pop3_has_its_own_schemes() -> None:
    assert parse_place("pop3s://bob@host", POP3).port == 995
    assert parse_place("pop3://bob@host", POP3) == ServerPlace("pop3", "host", 110, Security.STARTTLS, "bob")


def test_a_place_is_shown_with_its_port() -> None:
    assert str(parse_place("smtp://[2001:db8::1]:2525", SUBMISSION)) == "[2001:db8::1]:2525"


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("", "must begin with one of submissions, submission, smtp; write for example submissions://alice"),
        ("mail.example.org", "must begin with one of"),
        ("pop3s://bob@host", "must begin with one of"),
        ("submissions://", "must name a server and nothing more"),
        ("submissions://host/inbox", "must name a server and nothing more"),
        ("submissions://host?x=1", "must name a server and nothing more"),
        ("submissions://host:port", "write for example"),
        ("submissions://host:99999", "write for example"),
        ("submissions://[::1", "write for example"),
        ("smtp://alice@host", "smtp:// has no login"),
        ("submissions://alice:secret@host", "does not belong in a URL"),
        ("imap://alice:secret@host", "must begin with one of"),
    ],
)
def test_what_is_wrong_is_said_without_showing_a_password(url: str, words: str) -> None:
    with pytest.raises(ClientError) as caught:
        parse_place(url, SUBMISSION)
    assert words in str(caught.value)
    assert "secret" not in str(caught.value)
