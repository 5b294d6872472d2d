"""Submitting to a real server: TLS before anything, the best login, and the server's own words when it says no."""

import socket
from datetime import UTC, datetime
from pathlib import Path

import pytest
from tests.client.servers import (
    ALICE,
    PASSWORD,
    Certificate,
    SmtpPlace,
    certified,
    listening,
    scripted,
    self_signed,
)

from waypost.client.compose import Composed, Draft, compose
from waypost.client.errors import ClientError
from waypost.client.people import parse_people, parse_person
from waypost.client.places import SUBMISSION, parse_place
from waypost.client.submit import Submitted, submit
from waypost.client.trust import Trust
from waypost.protocol.reply import reply

WORDS = "Dear Bob,\n.\n..\ndo come.\n"


def letter(*to: str, sender: str = ALICE) -> Composed:
    draft = Draft(parse_person(sender), parse_people(to or ["bob@builder.test"]), subject="Tea", text=WORDS)
    return compose(draft, now=datetime(2026, 11, 24, tzinfo=UTC), unique=lambda: "unique")


def send(
    place: SmtpPlace,
    scheme: str = "submissions",
    *to: str,
    user: str | None = ALICE,
    password: str = PASSWORD,
    trust: Trust | None = None,
    host: str = "127.0.0.1",
    composed: Composed | None = None,
) -> Submitted:
    place.implicit = scheme == "submissions"
    with listening(place.serve) as port:
        who = f"{user.replace('@', '%40')}@" if user else ""
        return submit(
            parse_place(f"{scheme}://{who}{host}:{port}", SUBMISSION),
            trust or Trust(ca=place.certificate.file if place.certificate else None),
            composed or letter(*to),
            password=lambda: password,
            now=lambda: 0,
        )


@pytest.fixture
def certificate(tmp_path: Path) -> Certificate:
    return certified(tmp_path, "127.0.0.1", "localhost")


@pytest.mark.parametrize("scheme", ["submissions", "submission"])
def test_a_message_is_submitted_over_tls_with_a_login(scheme: str, certificate: Certificate) -> None:
    place = SmtpPlace(certificate)
    submitted = send(place, scheme)
    assert submitted.reply == place.final and submitted.refused == ()
    [(envelope, content)] = place.messages
    assert str(envelope.reverse_path) == ALICE
    assert [str(recipient.address) for recipient in envelope.recipients] == ["bob@builder.test"]
    assert content == letter().content
    assert place.logins == ["SCRAM-SHA-256-PLUS"]


@pytest.mark.parametrize(("mechanisms", "used"), [(("SCRAM-SHA-256", "PLAIN"), "SCRAM-SHA-256"), (("PLAIN",), "PLAIN")])
def test_the_best_login_that_both_know_is_used(
    mechanisms: tuple[str, ...], used: str, certificate: Certificate
) -> None:
    if used == "SCRAM-SHA-256":
        certificate = Certificate(certificate.context, certificate.file, None)  # the server can't bind
    place = SmtpPlace(certificate, mechanisms=mechanisms)
    assert send(place).reply
    assert place.logins == [used]


def test_a_laboratory_needs_neither_tls_nor_login() -> None:
    place = SmtpPlace()
    assert send(place, "smtp", user=None).reply
    assert place.logins == []


def test_the_words_of_a_refusal_are_the_servers_and_name_who_they_are_about(certificate: Certificate) -> None:
    gone = reply(550, "5.1.1", "Nobody of that name")
    place = SmtpPlace(certificate, refuse={"nobody@builder.test": gone})
    submitted = send(place, "submissions", "nobody@builder.test", "bob@builder.test")
    assert submitted.reply == place.final
    [refused] = submitted.refused
    assert (str(refused.recipient.address), refused.reply, refused.local) == ("nobody@builder.test", gone, False)


def test_a_message_that_is_taken_for_nobody_has_no_reply(certificate: Certificate) -> None:
    place = SmtpPlace(certificate, final=reply(554, "5.7.1", "Not this"))
    submitted = send(place)
    assert submitted.reply is None
    assert str(submitted.refused[0].reply) == "554 5.7.1 Not this"


def test_a_wrong_password_is_told_in_the_servers_words(certificate: Certificate) -> None:
    for mechanisms in (("PLAIN",), ("SCRAM-SHA-256-PLUS",)):
        with pytest.raises(ClientError, match=r"login as alice@wonderland\.test: 535 5\.7\.8 Wrong name or password"):
            send(SmtpPlace(certificate, mechanisms=mechanisms), password="wrong")


def test_a_server_without_a_known_login_is_left(certificate: Certificate) -> None:
    with pytest.raises(ClientError, match="offers no login mechanism known here: GSSAPI"):
        send(SmtpPlace(certificate, mechanisms=("GSSAPI",)))


def test_without_starttls_nothing_is_sent() -> None:
    place = SmtpPlace()
    with pytest.raises(ClientError, match="offers no TLS; nothing was sent"):
        send(place, "submission")
    assert place.logins == [] and place.messages == []


def test_the_lab_works_with_an_address_in_the_url_and_the_servers_own_certificate(tmp_path: Path) -> None:
    place = SmtpPlace(self_signed(tmp_path, "mx.wonderland.test"))
    for scheme in ("submissions", "submission"):
        assert send(place, scheme).reply


def test_an_unknown_certificate_is_not_trusted(tmp_path: Path) -> None:
    place = SmtpPlace(self_signed(tmp_path, "mx.wonderland.test"))
    with pytest.raises(ClientError, match=r"is not trusted: self-signed certificate; if it is your own, .* --ca"):
        send(place, trust=Trust())
    assert place.logins == []
    other = tmp_path / "other"
    other.mkdir()
    with pytest.raises(ClientError, match="is not trusted"):
        send(place, trust=Trust(ca=self_signed(other, "mx.wonderland.test").file))


@pytest.mark.parametrize("scheme", ["submissions", "submission"])
def test_a_trusted_certificate_of_another_host_is_refused_before_the_login(scheme: str, tmp_path: Path) -> None:
    place = SmtpPlace(certified(tmp_path, "mx.elsewhere.test"))
    with pytest.raises(ClientError, match=r"is not that of 127\.0\.0\.1, but of mx\.elsewhere\.test"):
        send(place, scheme)
    assert place.logins == []


def test_insecure_takes_any_certificate(tmp_path: Path) -> None:
    assert send(SmtpPlace(self_signed(tmp_path, "mx.elsewhere.test")), trust=Trust(insecure=True)).reply


def test_an_address_outside_ascii_goes_to_a_server_that_takes_it(certificate: Certificate) -> None:
    place = SmtpPlace(certificate)
    umlaut = "b\N{LATIN SMALL LETTER U WITH DIAERESIS}cher@builder.test"
    assert send(place, "submissions", umlaut).reply
    assert place.messages[0][0].smtputf8


# -- servers that misbehave -----------------------------------------------------------------------------------

EHLO = b"250-mx.test\r\n250-STARTTLS\r\n250 AUTH PLAIN\r\n"


@pytest.mark.parametrize(
    ("turns", "words"),
    [
        ([b"554 5.7.1 go away\r\n"], "554 5.7.1 go away"),
        ([b"220 hi\r\n", b"421 4.3.2 too busy\r\n"], "421 4.3.2 too busy"),
        ([b"220 hi\r\n", b"550 no\r\n", b"550 no\r\n"], "550 no"),
        ([b"220 hi\r\n", EHLO, b"454 4.7.0 no TLS today\r\n"], "STARTTLS: 454 4.7.0 no TLS today"),
        ([b"220 hi\r\n", EHLO, b"220 go\r\n250 injected\r\n"], "text between STARTTLS and the handshake"),
        ([b"220 hi\r\n", EHLO, b"220 go\r\n", b"this is no TLS\r\n"], "TLS did not start"),
        ([b"220 hi\r\n"], "the connection was lost"),
        ([b"HTTP/1.1 400 Bad Request\r\n"], "not an SMTP reply"),
        ([b""], "the connection was lost"),
    ],
)
def test_what_goes_wrong_is_said_in_plain_words(turns: list[bytes], words: str) -> None:
    with listening(scripted(*turns)) as port, pytest.raises(ClientError) as caught:
        submit(
            parse_place(f"submission://alice@127.0.0.1:{port}", SUBMISSION),
            Trust(),
            letter(),
            password=lambda: pytest.fail("the password was asked for"),
            now=lambda: 0,
        )
    assert words in str(caught.value) and f"127.0.0.1:{port}: " in str(caught.value)


def test_a_server_that_is_not_there_is_named() -> None:
    with listening(scripted(b"")) as port:
        pass
    place = parse_place(f"smtp://127.0.0.1:{port}", SUBMISSION)
    with pytest.raises(ClientError, match=rf"127\.0\.0\.1:{port}: connection refused"):
        submit(place, Trust(), letter(), password=str, now=lambda: 0)


def test_a_server_that_speaks_no_tls_on_the_tls_port_is_named() -> None:
    with listening(scripted(b"220 hi\r\n")) as port:
        place = parse_place(f"submissions://a@127.0.0.1:{port}", SUBMISSION)
        with pytest.raises(ClientError, match=r"TLS did not start: .*STARTTLS \(usually 587\), write submission://"):
            submit(place, Trust(), letter(), password=str, now=lambda: 0)


@pytest.mark.parametrize("scheme", ["submission", "smtp"])
def test_a_server_whose_port_begins_with_tls_is_named_with_the_scheme_for_it(scheme: str) -> None:
    def serve(connection: socket.socket) -> None:
        connection.sendall(b"\x15\x03\x03\x00\x02\x02\x46\n")  # an alert: what comes is no handshake
        connection.close()

    with listening(serve) as port:
        place = parse_place(f"{scheme}://127.0.0.1:{port}", SUBMISSION)
        with pytest.raises(ClientError, match=r"TLS from the first octet \(usually 465\), write submissions://"):
            submit(place, Trust(), letter(), password=str, now=lambda: 0)


def test_a_server_that_hangs_up_inside_the_message_is_told_apart(certificate: Certificate) -> None:
    def serve(connection: socket.socket) -> None:
        with certificate.context.wrap_socket(connection, server_side=True) as secured:
            for turn in (b"220 hi\r\n", b"250 mx\r\n", b"250 ok\r\n", b"250 ok\r\n", b"354 go\r\n"):
                secured.sendall(turn)
                secured.recv(65536)

    with listening(serve) as port:
        place = parse_place(f"submissions://127.0.0.1:{port}", SUBMISSION)
        submitted = submit(place, Trust(ca=certificate.file), letter(), password=str, now=lambda: 0)
    assert submitted.reply is None
    assert "the connection was lost" in str(submitted.refused[0].reply)
