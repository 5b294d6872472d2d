"""Reading a mailbox by POP3 from a real server: octets as they are, and nothing removed without QUIT."""

import io
from pathlib import Path

import pytest
from tests.client.servers import ALICE, ALL, PASSWORD, Certificate, Pop3Place, certified, listening, scripted

from waypost.client.errors import ClientError
from waypost.client.maildrop import RemoteMaildrop
from waypost.client.places import POP3, parse_place
from waypost.client.trust import Trust

MESSAGES = [
    b"Subject: one\r\n\r\n.\r\n..\r\nbody\r\n",
    b"Subject: two\r\n\r\nbare\nline\rends\0 and \xff\r\n",
    b"Subject: three\r\n\r\n" + b"x" * 200_000 + b"\r\n",
]


@pytest.fixture
def certificate(tmp_path: Path) -> Certificate:
    return certified(tmp_path, "127.0.0.1")


def opened(place: Pop3Place, port: int, *, password: str = PASSWORD, plain: bool = False) -> RemoteMaildrop:
    scheme = "pop3s" if place.implicit else "pop3"
    url = f"{scheme}://{ALICE.replace('@', '%40')}@127.0.0.1:{port}"
    trust = Trust(ca=place.certificate.file if place.certificate else None)
    return RemoteMaildrop(parse_place(url, POP3), trust, lambda: password, plain_text_allowed=plain)


@pytest.mark.parametrize("implicit", [True, False])
@pytest.mark.parametrize("mechanisms", [ALL, ("PLAIN",), ()])
def test_messages_are_read_octet_by_octet(
    implicit: bool, mechanisms: tuple[str, ...], certificate: Certificate
) -> None:
    place = Pop3Place(MESSAGES, certificate, implicit, mechanisms)
    with listening(place.serve) as port, opened(place, port) as box:
        assert box.sizes == {number + 1: len(message) for number, message in enumerate(MESSAGES)}
        assert box.unique_ids() == {1: "7.11", 2: "7.12", 3: "7.13"}
        assert [header for _, header in box.headers([3, 1])] == [b"Subject: three\r\n\r\n", b"Subject: one\r\n\r\n"]
        for number, message in enumerate(MESSAGES):
            file = io.BytesIO()
            box.save(number + 1, file)
            assert file.getvalue() == message
        box.quit()
    assert place.logins == [mechanisms[0] if mechanisms else "USER"]


def test_more_headers_than_are_asked_for_at_once(certificate: Certificate) -> None:
    place = Pop3Place([b"Subject: %d\r\n\r\nbody\r\n" % number for number in range(130)], certificate, True)
    with listening(place.serve) as port, opened(place, port) as box:
        numbers = sorted(box.sizes)
        assert [(n, b"Subject: %d\r\n\r\n" % (n - 1)) for n in numbers] == list(box.headers(numbers))
        box.quit()


def test_no_more_of_a_message_is_kept_than_is_asked_for(certificate: Certificate) -> None:
    place = Pop3Place(MESSAGES, certificate, True)
    with listening(place.serve) as port, opened(place, port) as box:
        assert [box.beginning(3, most) for most in (0, 100, 150_000)] == [b"", MESSAGES[2][:100], MESSAGES[2][:150_000]]
        assert box.beginning(1, len(MESSAGES[0])) == box.beginning(1, 1000) == MESSAGES[0]
        box.quit()


def test_what_is_deleted_goes_at_quit_only(certificate: Certificate) -> None:
    place = Pop3Place(MESSAGES, certificate, True)
    with listening(place.serve) as port:
        with opened(place, port) as box:
            box.delete(2)
        assert place.removed == []
        with opened(place, port) as box:
            box.delete(2)
            with pytest.raises(ClientError, match="message 2: -ERR"):
                box.delete(2)
            box.quit()
    assert place.removed == [1]


def test_a_wrong_password_is_told_in_the_servers_words(certificate: Certificate) -> None:
    for mechanisms in (ALL, ("PLAIN",), ()):
        place = Pop3Place([], certificate, True, mechanisms)
        with (
            listening(place.serve) as port,
            pytest.raises(ClientError, match=r"login as alice@wonderland\.test: -ERR \[AUTH\] Wrong name or password"),
        ):
            opened(place, port, password="wrong")


def test_without_tls_the_password_is_not_sent() -> None:
    place = Pop3Place([])
    with listening(place.serve) as port, pytest.raises(ClientError, match="must not be sent without"):
        opened(place, port)
    assert place.logins == []


CAPA = b"+OK\r\nSTLS\r\nSASL PLAIN\r\n.\r\n"
OLD = [b"+OK old\r\n", b"-ERR what?\r\n", b"+OK\r\n", b"+OK\r\n"]


def test_an_old_server_in_plain_text_is_read_where_that_is_allowed() -> None:
    turns = [*OLD, b"+OK\r\n1 20\r\n2 x\r\n", b"nonsense\r\n.\r\n", b"+OK\r\nA: b\r\n\r\nbody\r\n.\r\n", b"+OK\r\n"]
    turns[4:6] = [turns[4] + turns[5]]
    with listening(scripted(*turns)) as port, opened(Pop3Place([]), port, plain=True) as box:
        assert box.sizes == {1: 20, 2: 0}
        assert box.unique_ids() == {}
        assert list(box.headers([1])) == [(1, b"A: b\r\n\r\nbody\r\n")], "without TOP, whole messages"
        box.quit()


@pytest.mark.parametrize(
    ("turns", "words"),
    [
        ([b"-ERR [SYS/TEMP] later\r\n"], "-ERR [SYS/TEMP] later"),
        ([b"+OK hi\r\n", CAPA, b"-ERR no\r\n"], "STLS: -ERR no"),
        ([b"+OK hi\r\n", CAPA, b"+OK go\r\n+OK injected\r\n"], "text between STLS and the handshake"),
        ([b"+OK hi\r\n", CAPA, b"+OK go\r\n", b"no TLS"], "TLS did not start"),
        ([b"+OK hi\r\n"], "the connection was lost"),
        ([b"220 hi\r\n"], "not a POP3 answer"),
        ([b"+OK hi\r\n", b"+OK\r\nX\r\n"], "the connection was lost"),
        ([*OLD[:3], b"-ERR [AUTH] no\r\n"], "[AUTH] no"),
    ],
)
def test_what_goes_wrong_is_said_in_plain_words(turns: list[bytes], words: str) -> None:
    with listening(scripted(*turns)) as port, pytest.raises(ClientError) as caught:
        opened(Pop3Place([]), port, plain=turns[0] == OLD[0])
    assert words in str(caught.value)


def test_a_port_that_begins_otherwise_than_the_scheme_says_is_named_with_the_scheme_for_it(
    certificate: Certificate,
) -> None:
    with (
        listening(scripted(b"")) as port,
        pytest.raises(ClientError, match=r"TLS from the first octet \(usually 995\), write pop3s://"),
    ):
        opened(Pop3Place([]), port)
    with (
        listening(scripted(b"+OK hi\r\n")) as port,
        pytest.raises(ClientError, match=r"plain text and STLS \(usually 110\), write pop3://"),
    ):
        opened(Pop3Place([], certificate=certificate, implicit=True), port)


def test_a_listing_without_end_is_left(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("waypost.client.maildrop._MAX_LISTING", 1000)
    turns = [*OLD, b"+OK\r\n" + b"1 1\r\n" * 1000]
    with listening(scripted(*turns)) as port, pytest.raises(ClientError, match="the answer to LIST has no end"):
        opened(Pop3Place([]), port, plain=True)
