"""The POP3 client engine: answers in order, content unstuffed, and no belief in what a server says."""

import base64
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from waypost.protocol.pop3.client import (
    MAX_LINE,
    Answered,
    ContentChunk,
    ContentEnded,
    Pop3Client,
    Pop3ClientEvent,
    Pop3Disconnected,
)
from waypost.protocol.sasl import PlainClient, ScramClient

HELLO = b"+OK ready\r\n"


def events(client: Pop3Client) -> list[Pop3ClientEvent]:
    """All events, neighbouring pieces of content joined."""
    found: list[Pop3ClientEvent] = []
    while (event := client.next_event()) is not None:
        if isinstance(event, ContentChunk) and found and isinstance(found[-1], ContentChunk):
            found[-1] = ContentChunk(found[-1].octets + event.octets)
        else:
            found.append(event)
    return found


def greeted(*commands: Callable[[Pop3Client], None]) -> Pop3Client:
    client = Pop3Client()
    client.receive(HELLO)
    assert events(client) == [Answered(True, "ready")]
    for command in commands:
        command(client)
    return client


def test_a_refused_greeting_is_an_answer() -> None:
    client = Pop3Client()
    client.receive(b"-ERR [SYS/TEMP] try later\r\n")
    assert events(client) == [Answered(False, "try later", "SYS/TEMP")]


def test_commands_are_written_as_lines() -> None:
    client = greeted(
        *[Pop3Client.capabilities, Pop3Client.utf8, Pop3Client.list, Pop3Client.unique_ids],
        *[lambda c: c.user("bob"), lambda c: c.password("s\N{LATIN SMALL LETTER U WITH DIAERESIS}ß !")],
        *[lambda c: c.retrieve(3), lambda c: c.top(3, 0), lambda c: c.delete(3), Pop3Client.quit],
    )
    assert client.take_output().decode() == (
        "CAPA\r\nUTF8\r\nLIST\r\nUIDL\r\nUSER bob\r\nPASS süß !\r\nRETR 3\r\nTOP 3 0\r\nDELE 3\r\nQUIT\r\n"
    )
    assert client.take_output() == b""


@pytest.mark.parametrize("text", ["bob\r\nDELE 1", "bob\n", "bob\0"])
def test_a_name_or_password_smuggles_no_command(text: str) -> None:
    client = greeted()
    with pytest.raises(ValueError, match="line break or a NUL"):
        client.user(text)
    with pytest.raises(ValueError, match="line break or a NUL"):
        client.password(text)
    assert client.take_output() == b""


def test_answers_come_in_the_order_of_the_commands() -> None:
    client = greeted(lambda c: c.top(1, 0), lambda c: c.delete(9), lambda c: c.retrieve(2))
    client.receive(b"+OK\r\nA: b\r\n\r\n..dot\r\n.\r\n-ERR no such message\r\n+OK 3 octets\r\n.\r\n")
    assert events(client) == [
        Answered(True, ""),
        ContentChunk(b"A: b\r\n\r\n.dot\r\n"),
        ContentEnded(),
        Answered(False, "no such message"),
        Answered(True, "3 octets"),
        ContentEnded(),
    ]


STREAM = b"+OK\r\n.." + b"x\r\n...y\r\n\n.\n\r.\r\n.\r\n+OK bye\r\n"


@given(st.lists(st.integers(0, len(STREAM))))
def test_any_split_of_the_same_octets_gives_the_same_events(cuts: list[int]) -> None:
    whole = greeted(lambda c: c.retrieve(1), Pop3Client.quit)
    whole.receive(STREAM)
    parts = greeted(lambda c: c.retrieve(1), Pop3Client.quit)
    for start, end in zip([0, *sorted(cuts)], [*sorted(cuts), len(STREAM)], strict=True):
        parts.receive(STREAM[start:end])
    expected = events(whole)
    assert expected[1] == ContentChunk(b".x\r\n..y\r\n\n.\n\r.\r\n")
    assert isinstance(expected[-1], Pop3Disconnected)
    assert events(parts) == expected


@given(st.lists(st.integers(0, 44)))
def test_a_server_that_ends_lines_with_lf_alone_is_understood(cuts: list[int]) -> None:
    client = Pop3Client()
    stream = b"+OK hi\n+OK\r\n..x\r\n" + b"y\n...z\n.\n+OK bye\n"
    client.retrieve(1)
    client.quit()
    for start, end in zip([0, *sorted(cuts)], [*sorted(cuts), len(stream)], strict=True):
        client.receive(stream[start:end])
    told = events(client)
    assert [event.text for event in told if isinstance(event, Answered)] == ["hi", "", "bye"]
    assert b"".join(event.octets for event in told if isinstance(event, ContentChunk)) == b".x\r\ny\r\n..z\r\n"
    assert isinstance(told[-1], Pop3Disconnected)


def test_a_dot_between_bare_line_ends_ends_no_message_of_a_server_that_writes_crlf() -> None:
    client = greeted(lambda c: c.retrieve(1))
    client.receive(b"+OK\r\nbefore\n.\n+OK forged\r\n.\r\n")
    assert events(client)[1:] == [ContentChunk(b"before\n.\n+OK forged\r\n"), ContentEnded()]


@given(st.lists(st.binary(max_size=80)), st.binary(max_size=10))
def test_no_input_crashes_it_or_grows_it_without_bound(pieces: list[bytes], repeated: bytes) -> None:
    client = greeted(
        Pop3Client.start_tls,
        lambda c: c.retrieve(1),
        lambda c: c.authenticate(PlainClient("bob", "secret")),
        Pop3Client.quit,
    )
    for piece in [b"-ERR no\r\n", *pieces, *[repeated] * 100]:
        client.receive(piece)
        assert len(client._buffer) <= MAX_LINE + 90
        events(client)
    client.receive_eof()


@pytest.mark.parametrize(
    "said",
    [
        b"HTTP/1.1 400 Bad Request\r\n",
        b"+OKAY\r\n",
        b"* OK IMAP4rev1\r\n",
        b"+ \r\n",
        b"x" * (MAX_LINE + 1),
        b"+OK " + b"x" * MAX_LINE + b"\r\n",
    ],
)
def test_what_is_no_answer_ends_the_session(said: bytes) -> None:
    client = greeted(Pop3Client.list)
    client.receive(said)
    [event] = events(client)
    assert isinstance(event, Pop3Disconnected)
    client.receive(b"+OK\r\n")
    assert events(client) == []


def test_what_was_not_asked_ends_the_session() -> None:
    client = greeted()
    client.receive(b"-ERR [SYS/TEMP] idle for too long\r\n")
    assert events(client) == [Pop3Disconnected("the server sent an answer that nothing asked for: idle for too long")]


def test_a_lost_connection_ends_the_session_once() -> None:
    client = greeted(Pop3Client.list)
    client.receive_eof()
    client.receive_eof()
    assert events(client) == [Pop3Disconnected("the connection was lost")]


def test_quit_ends_the_session_with_its_answer() -> None:
    client = greeted(Pop3Client.quit)
    client.receive(b"-ERR some were not removed\r\n")
    assert events(client) == [Answered(False, "some were not removed"), Pop3Disconnected("the session is over")]


# -- TLS ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("pieces", [[b"+OK begin\r\n+OK injected\r\n"], [b"+OK begin\r\n", b"+OK injected\r\n"]])
def test_nothing_between_stls_and_the_handshake_is_believed(pieces: list[bytes]) -> None:
    client = greeted(Pop3Client.start_tls)
    for piece in pieces:
        client.receive(piece)
    *_, last = events(client)
    assert last == Pop3Disconnected("the server sent text between STLS and the handshake")


def test_after_the_handshake_the_session_goes_on() -> None:
    client = greeted(Pop3Client.start_tls)
    client.receive(b"+OK begin\r\n")
    client.tls_started()
    client.capabilities()
    client.receive(b"+OK\r\nUIDL\r\n.\r\n")
    assert events(client)[1:] == [Answered(True, ""), ContentChunk(b"UIDL\r\n"), ContentEnded()]


def test_stls_may_be_refused() -> None:
    client = greeted(Pop3Client.start_tls)
    client.receive(b"-ERR no\r\n")
    assert events(client) == [Answered(False, "no")]


# -- login ----------------------------------------------------------------------------------------------------


def test_plain_is_sent_with_the_command() -> None:
    client = greeted(lambda c: c.authenticate(PlainClient("bob", "secret")))
    assert client.take_output() == b"AUTH PLAIN " + base64.b64encode(b"\0bob\0secret") + b"\r\n"
    client.receive(b"+OK welcome\r\n")
    assert events(client) == [Answered(True, "welcome")]


def test_an_initial_response_that_is_too_long_for_a_line_comes_after_the_prompt() -> None:
    client = greeted(lambda c: c.authenticate(PlainClient("bob", "secret" * 40)))
    assert client.take_output() == b"AUTH PLAIN\r\n"
    client.receive(b"+ \r\n")
    assert client.take_output() == base64.b64encode(b"\0bob\0" + b"secret" * 40) + b"\r\n"


def test_yes_without_the_servers_proof_is_a_lie() -> None:
    client = greeted(lambda c: c.authenticate(ScramClient("bob", "secret", plus=False, nonce="abc")))
    client.receive(b"+OK welcome\r\n")
    assert events(client) == [
        Pop3Disconnected("the server accepted the login without the proof that it knows the password")
    ]


@pytest.mark.parametrize("challenge", [b"+ !!!\r\n", b"+ " + base64.b64encode(b"r=other,s=AAAA,i=4096") + b"\r\n"])
def test_a_server_that_must_not_be_trusted_is_told_so(challenge: bytes) -> None:
    client = greeted(lambda c: c.authenticate(ScramClient("bob", "secret", plus=False, nonce="abc")))
    client.take_output()
    client.receive(challenge)
    assert client.take_output() == b"*\r\n"
    [answer] = events(client)
    assert isinstance(answer, Answered) and not answer.ok and "wrong" in answer.text
    client.receive(b"-ERR cancelled\r\n")
    client.quit()
    client.receive(b"+OK bye\r\n")
    assert events(client)[0] == Answered(True, "bye"), "the answer to the cancellation is nobody else's"
