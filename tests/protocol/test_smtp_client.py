"""Sessions of the SMTP and LMTP client engine: greeting, EHLO, STARTTLS, AUTH, and how they end."""

import base64

import pytest
from tests.protocol.smtp_talk import BOB, CONTENT, ENVELOPE, Talk

from waypost.protocol.reply import reply
from waypost.protocol.smtp.client import ClientOptions, SmtpClient
from waypost.protocol.smtp.client_events import (
    Authenticated,
    AuthenticationFailed,
    Disconnected,
    Greeted,
    HelloRefused,
    TlsProceeds,
    TlsRefused,
    Welcomed,
)
from waypost.protocol.smtp.client_login import MAX_CHALLENGES

LINES = b"MAIL FROM:<alice@client.test>\r\nRCPT TO:<bob@server.test>\r\n"


class Mechanism:
    """Answers each challenge with its reverse; content with the server after `proof`."""

    name = "REVERSE"

    def __init__(self, first: bytes = b"hello", proof: bytes | None = None) -> None:
        self._first = first
        self._proof = proof
        self.done = proof is None

    def start(self) -> bytes:
        return self._first

    def step(self, challenge: bytes) -> bytes:
        if challenge == b"lie":
            raise ValueError("a lie")
        self.done = self.done or challenge == self._proof
        return challenge[::-1]


# -- beginning and end -----------------------------------------------------------------------------------------


def test_a_session_begins_with_the_greeting_and_ehlo() -> None:
    talk = Talk(welcome=False)
    assert talk.hear("220 server.test ready") == b""
    assert talk.last == Greeted(reply(220, None, "server.test ready"))
    talk.engine.hello()
    assert talk.said() == b"EHLO client.test\r\n"
    talk.hear("250-server.test", "250-SIZE 1000", "250-AUTH PLAIN scram-sha-256", "250 PIPELINING")
    assert isinstance(talk.last, Welcomed) and talk.last.extended
    assert talk.engine.capabilities.size == 1000
    assert talk.engine.capabilities.mechanisms == {"PLAIN", "SCRAM-SHA-256"}


@pytest.mark.parametrize("line", ["521 no mail here", "554 go away", "421 busy", "451 later"])
def test_a_refusal_in_the_greeting_is_told_and_quit_follows(line: str) -> None:
    talk = Talk(welcome=False)
    talk.hear(line)
    assert isinstance(talk.last, Greeted) and not talk.last.reply.positive
    talk.engine.quit()
    assert talk.said() == b"QUIT\r\n"
    talk.hear("221 bye")
    assert isinstance(talk.last, Disconnected) and talk.engine.over


@pytest.mark.parametrize("code", [500, 501, 502, 504, 550])
def test_a_server_that_does_not_know_ehlo_gets_helo(code: int) -> None:
    talk = Talk(welcome=False)
    talk.hear("220 old.test")
    talk.engine.hello()
    assert talk.hear(f"{code} what?") == b"EHLO client.test\r\nHELO client.test\r\n"
    talk.hear("250 old.test")
    assert talk.last == Welcomed(talk.engine.capabilities, False)
    assert talk.begin() == b"MAIL FROM:<alice@client.test>\r\n", "no extension is used after HELO"


@pytest.mark.parametrize("line", ["421 busy", "451 later", "554 no", "521 never"])
def test_a_server_that_refuses_ehlo_is_not_asked_again(line: str) -> None:
    talk = Talk(welcome=False)
    talk.hear("220 server.test")
    talk.engine.hello()
    assert talk.hear(line) == b"EHLO client.test\r\n"
    assert isinstance(talk.last, HelloRefused | Disconnected)


def test_helo_may_be_refused_too() -> None:
    talk = Talk(welcome=False)
    talk.hear("220 old.test")
    talk.engine.hello()
    talk.hear("500 what?", "550 no")
    assert talk.last == HelloRefused(reply(550, None, "no"))


def test_lmtp_says_lhlo_and_never_helo() -> None:
    talk = Talk(lmtp=True, welcome=False)
    talk.hear("220 lmtp.test")
    talk.engine.hello()
    assert talk.hear("500 what?") == b"LHLO client.test\r\n"
    assert isinstance(talk.last, HelloRefused)


def test_a_lost_connection_is_told_once() -> None:
    talk = Talk()
    talk.engine.receive_eof()
    talk.engine.receive_eof()
    talk.hear("250 too late")
    assert [event for event in talk.events if isinstance(event, Disconnected)] == [
        Disconnected("the connection was lost", "4.4.2")
    ]


def test_a_421_between_transactions_ends_the_session() -> None:
    talk = Talk("PIPELINING")
    talk.hear("421 4.3.2 idle for too long")
    assert isinstance(talk.last, Disconnected) and talk.last.reply == reply(421, "4.3.2", "idle for too long")


def test_an_answer_to_nothing_ends_the_session() -> None:
    talk = Talk("PIPELINING")
    talk.hear("250 2.0.0 by the way")
    assert talk.last == Disconnected("the server sent a reply that nothing asked for", "4.5.0")


def test_a_transaction_on_a_session_that_is_over_is_untried() -> None:
    talk = Talk()
    talk.engine.receive_eof()
    assert talk.begin() == b""
    assert talk.ended.untried and talk.fates == ["(451 4.4.2 the connection was lost)"]


# -- STARTTLS (RFC 3207) ---------------------------------------------------------------------------------------


def test_after_the_handshake_everything_is_asked_anew() -> None:
    talk = Talk("STARTTLS", "PIPELINING", "SIZE 1000", "AUTH PLAIN")
    talk.engine.start_tls()
    assert talk.said() == b"STARTTLS\r\n"
    talk.hear("220 go")
    assert talk.last == TlsProceeds()
    talk.engine.tls_started()
    assert not talk.engine.capabilities.keywords
    talk.engine.hello()
    assert talk.said() == b"EHLO client.test\r\n"
    talk.hear("250-server.test", "250 SIZE 2000")
    assert talk.engine.capabilities.size == 2000 and not talk.engine.capabilities.pipelining
    assert talk.begin() == b"MAIL FROM:<alice@client.test> SIZE=%d\r\n" % len(CONTENT)


def test_a_refused_starttls_leaves_the_session_as_it_is() -> None:
    talk = Talk("STARTTLS", "PIPELINING")
    talk.engine.start_tls()
    talk.hear("454 4.7.0 not now")
    assert talk.last == TlsRefused(reply(454, "4.7.0", "not now"))
    assert talk.begin() == LINES + b"DATA\r\n"


@pytest.mark.parametrize("injected", [b"220 go\r\n250 x\r\n", b"220 go\r\n2", b"220 go\r\n\x16\x03\x01"])
def test_text_in_the_packet_of_the_220_ends_the_session(injected: bytes) -> None:
    talk = Talk("STARTTLS")
    talk.engine.start_tls()
    talk.engine.receive(injected)
    talk.said()
    assert talk.last == Disconnected("the server sent text between STARTTLS and the handshake", "4.7.0")


def test_text_in_front_of_the_handshake_ends_the_session() -> None:
    talk = Talk("STARTTLS")
    talk.engine.start_tls()
    talk.hear("220 go")
    talk.hear("250-evil.test", "250 AUTH PLAIN")
    assert talk.last == Disconnected("the server sent text between STARTTLS and the handshake", "4.7.0")


# -- AUTH (RFC 4954) -------------------------------------------------------------------------------------------


def test_a_login_sends_the_initial_response_and_answers_challenges() -> None:
    talk = Talk()
    talk.engine.authenticate(Mechanism())
    assert talk.said() == b"AUTH REVERSE " + base64.b64encode(b"hello") + b"\r\n"
    assert talk.hear(b"334 " + base64.b64encode(b"abc")) == base64.b64encode(b"cba") + b"\r\n"
    assert talk.hear("334 ") == b"\r\n"
    talk.hear("235 2.7.0 welcome")
    assert talk.last == Authenticated(reply(235, "2.7.0", "welcome"))


def test_an_empty_initial_response_is_an_equals_sign() -> None:
    talk = Talk()
    talk.engine.authenticate(Mechanism(first=b""))
    assert talk.said() == b"AUTH REVERSE =\r\n"


def test_a_refused_login_is_told_with_the_servers_words() -> None:
    talk = Talk()
    talk.engine.authenticate(Mechanism())
    talk.hear("535 5.7.8 wrong")
    assert talk.last == AuthenticationFailed(reply(535, "5.7.8", "wrong"), False)


def test_success_without_proof_ends_the_session() -> None:
    talk = Talk()
    talk.engine.authenticate(Mechanism(proof=b"proof"))
    talk.hear("235 2.7.0 welcome")
    assert isinstance(talk.last, Disconnected) and talk.engine.over


def test_a_server_that_proves_itself_is_believed() -> None:
    talk = Talk()
    talk.engine.authenticate(Mechanism(proof=b"proof"))
    talk.hear(b"334 " + base64.b64encode(b"proof"), "235 2.7.0 welcome")
    assert isinstance(talk.last, Authenticated)


@pytest.mark.parametrize("challenge", [base64.b64encode(b"lie"), b"no base64!", "334 ü".encode()])
def test_a_challenge_that_is_wrong_cancels_the_login(challenge: bytes) -> None:
    talk = Talk()
    talk.engine.authenticate(Mechanism())
    assert talk.hear(b"334 " + challenge).endswith(b"*\r\n")
    assert isinstance(talk.last, AuthenticationFailed) and talk.last.local
    talk.hear("501 5.7.0 cancelled")
    assert not talk.engine.over


def test_a_server_can_not_ask_for_ever() -> None:
    talk = Talk()
    talk.engine.authenticate(Mechanism())
    talk.said()
    for _ in range(MAX_CHALLENGES):
        assert talk.hear("334 ") == b"\r\n"
    assert talk.hear("334 ") == b"*\r\n"
    assert isinstance(talk.last, AuthenticationFailed)


def test_a_response_that_does_not_fit_on_a_line_is_not_sent() -> None:
    talk = Talk()
    talk.engine.authenticate(Mechanism(first=b"x" * 10000))
    assert talk.said() == b""
    assert isinstance(talk.last, AuthenticationFailed)


# -- what the owner may rely on --------------------------------------------------------------------------------


def test_a_name_that_is_not_ascii_is_the_owners_mistake() -> None:
    with pytest.raises(UnicodeEncodeError):
        SmtpClient(ClientOptions("büro.test"), now=lambda: 0)


def test_replies_are_counted_for_the_owners_timer() -> None:
    talk = Talk("PIPELINING")
    before = talk.engine.replies
    talk.begin()
    talk.engine.receive(b"250 o")
    assert talk.engine.replies == before, "a part of a reply is no answer"
    talk.engine.receive(b"k\r\n250 ok\r\n")
    assert talk.engine.replies == before + 2


def test_the_owner_can_end_a_transaction_by_its_time_out() -> None:
    talk = Talk("PIPELINING")
    talk.engine.begin(ENVELOPE, BOB, CONTENT)
    talk.engine.fail("the server did not answer in time", "4.4.2")
    talk.said()
    assert talk.fates == ["(451 4.4.2 the server did not answer in time)"]
    assert isinstance(talk.last, Disconnected)
