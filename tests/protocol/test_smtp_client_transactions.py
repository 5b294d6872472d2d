"""Mail transactions of the SMTP and LMTP client engine: what is sent when, and the fate of each recipient."""

import pytest
from tests.protocol.smtp_talk import CONTENT, Talk, to

from waypost.protocol.smtp.client_events import Disconnected, TransactionEnded
from waypost.protocol.smtp.client_transaction import PIPELINED_BDAT

THREE = to("a@server.test", "b@server.test", "c@server.test")
DOT = CONTENT + b".\r\n"
LINES = b"MAIL FROM:<alice@client.test>\r\nRCPT TO:<bob@server.test>\r\n"


def test_without_pipelining_each_command_waits_for_its_answer() -> None:
    talk = Talk()
    assert talk.begin(THREE) == b"MAIL FROM:<alice@client.test>\r\n"
    assert talk.hear("250 ok") == b"RCPT TO:<a@server.test>\r\n"
    assert talk.hear("250 ok") == b"RCPT TO:<b@server.test>\r\n"
    assert talk.hear("550 5.1.1 no such user") == b"RCPT TO:<c@server.test>\r\n"
    assert talk.hear("251 forwarded") == b"DATA\r\n"
    assert not talk.engine.awaits_final
    assert talk.hear("354 go") == DOT
    assert talk.engine.awaits_final
    talk.hear("250 2.0.0 taken")
    assert talk.fates == ["250 2.0.0 taken", "550 5.1.1 no such user", "250 2.0.0 taken"]
    assert not talk.engine.awaits_final


def test_with_pipelining_the_envelope_goes_out_at_once() -> None:
    talk = Talk("PIPELINING")
    assert talk.begin() == LINES + b"DATA\r\n"
    assert talk.hear("250 ok", "250 ok", "354 go") == DOT
    talk.hear("250 2.0.0 taken")
    assert talk.fates == ["250 2.0.0 taken"]


def test_with_chunking_the_whole_message_goes_out_at_once() -> None:
    talk = Talk("PIPELINING", "CHUNKING")
    assert talk.begin() == LINES + b"BDAT %d LAST\r\n" % len(CONTENT) + CONTENT
    talk.hear("250 ok", "250 ok")
    assert talk.engine.awaits_final
    talk.hear("250 2.0.0 taken")
    assert talk.fates == ["250 2.0.0 taken"]


def test_chunking_can_be_switched_off_and_is_not_used_without_pipelining() -> None:
    assert Talk("PIPELINING", "CHUNKING", chunking=False).begin() == LINES + b"DATA\r\n"
    talk = Talk("CHUNKING")
    talk.begin()
    talk.hear("250 ok", "250 ok")
    assert talk.hear("354 go") == DOT


def test_a_large_chunk_waits_until_a_recipient_was_accepted() -> None:
    content = b"x" * 70 + b"\r\n"
    content *= PIPELINED_BDAT // 72 + 1
    talk = Talk("PIPELINING", "CHUNKING")
    assert talk.begin(content=content) == LINES
    talk.hear("250 ok")
    assert talk.hear("250 ok") == b"BDAT %d LAST\r\n" % len(content) + content
    talk = Talk("PIPELINING", "CHUNKING")
    talk.begin(content=content)
    assert talk.hear("250 ok", "550 no") == b"", "and for nobody it is not sent"
    assert talk.fates == ["550 no"]


def test_messages_follow_each_other_without_rset() -> None:
    talk = Talk("PIPELINING")
    for _ in range(3):
        assert talk.begin() == LINES + b"DATA\r\n"
        talk.hear("250 ok", "250 ok", "354 go", "250 taken")


@pytest.mark.parametrize("answers", [("250 ok", "550 no", "503 nobody"), ("451 later", "503 no", "503 no")])
def test_rset_comes_in_front_of_the_next_mail_when_one_failed(answers: tuple[str, ...]) -> None:
    talk = Talk("PIPELINING")
    talk.begin()
    talk.hear(*answers)
    assert talk.begin() == b"RSET\r\n" + LINES + b"DATA\r\n"
    talk.hear("250 forgotten", "250 ok", "250 ok", "354 go", "250 taken")
    assert talk.fates == ["250 taken"]


def test_rset_waits_for_its_answer_without_pipelining() -> None:
    talk = Talk()
    talk.begin()
    talk.hear("250 ok", "550 no")
    assert talk.fates == ["550 no"]
    assert talk.begin() == b"RSET\r\n"
    assert talk.hear("250 forgotten") == b"MAIL FROM:<alice@client.test>\r\n"


@pytest.mark.parametrize("offers", [(), ("PIPELINING",), ("PIPELINING", "CHUNKING")])
def test_a_refused_sender_decides_every_recipient(offers: tuple[str, ...]) -> None:
    talk = Talk(*offers)
    talk.begin(THREE)
    talk.hear("550 5.7.1 not you", *(["503 no MAIL"] * (4 if offers else 0)))
    assert talk.fates == ["550 5.7.1 not you"] * 3
    assert not talk.engine.over


def test_a_server_that_goes_on_without_recipients_gets_an_empty_content() -> None:
    talk = Talk("PIPELINING")
    talk.begin()
    assert talk.hear("250 ok", "550 no", "354 go") == b".\r\n"
    talk.hear("554 nobody")
    assert talk.fates == ["550 no"]
    assert talk.begin().startswith(b"RSET\r\n")


def test_a_refusal_of_data_decides_the_accepted_recipients() -> None:
    talk = Talk("PIPELINING")
    talk.begin(THREE)
    talk.hear("250 ok", "250 ok", "550 no", "250 ok", "452 4.3.1 disk full")
    assert talk.fates == ["452 4.3.1 disk full", "550 no", "452 4.3.1 disk full"]


@pytest.mark.parametrize("stage", range(5))
def test_a_421_in_a_transaction_defers_who_has_no_answer(stage: int) -> None:
    talk = Talk("PIPELINING")
    talk.begin(to("a@server.test", "b@server.test"))
    talk.hear(*["250 ok", "550 no", "250 ok", "354 go"][:stage], "421 4.3.2 stopping")
    assert talk.fates[0] == ("550 no" if stage >= 2 else "421 4.3.2 stopping")
    assert talk.fates[1] == "421 4.3.2 stopping"
    assert talk.ended.untried == (stage == 0)
    assert isinstance(talk.last, Disconnected) and talk.engine.over


@pytest.mark.parametrize("stage", range(5))
def test_a_lost_connection_in_a_transaction_defers_who_has_no_answer(stage: int) -> None:
    talk = Talk("PIPELINING")
    talk.begin(to("a@server.test", "b@server.test"))
    talk.hear(*["250 ok", "550 no", "250 ok", "354 go"][:stage])
    talk.engine.receive_eof()
    talk.said()
    lost = "(451 4.4.2 the connection was lost)"
    assert talk.fates == ["550 no" if stage >= 2 else lost, lost]
    assert talk.ended.untried == (stage == 0)


@pytest.mark.parametrize("answers", [[], ["250 ok"], ["250 ok", "250 ok"], ["250 ok", "250 ok", "354 go"]])
def test_an_answer_of_the_wrong_kind_ends_the_session_and_loses_nobody(answers: list[str]) -> None:
    for offers in [("PIPELINING",), ("PIPELINING", "CHUNKING")]:
        talk = Talk(*offers)
        talk.begin()
        talk.hear(*(answers if "CHUNKING" not in offers else answers[:2]), "334 what?")
        assert talk.fates[0].startswith("(451 4.5.0") and talk.engine.over


def test_data_answered_with_250_is_no_acceptance() -> None:
    talk = Talk("PIPELINING")
    talk.begin()
    talk.hear("250 ok", "250 ok", "250 taken?")
    assert talk.fates == ["(451 4.5.0 the reply to DATA has a code that DATA can't have)"]


def test_garbage_ends_the_session() -> None:
    talk = Talk("PIPELINING")
    talk.begin()
    talk.hear("HTTP/1.1 400 Bad Request")
    assert talk.fates == ["(451 4.5.0 the answer is not an SMTP reply)"] and talk.engine.over


# -- LMTP (RFC 2033) -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("offers", [("PIPELINING",), ("PIPELINING", "CHUNKING")])
@pytest.mark.parametrize(
    "finals",
    [
        ("250 2.1.5 a has it", "452 4.2.2 c is full"),
        ("452 4.2.2 a is full", "250 2.1.5 c has it"),
        ("550 5.2.1 a is closed", "550 5.2.1 c is closed"),
    ],
)
def test_lmtp_has_an_answer_for_each_accepted_recipient(offers: tuple[str, ...], finals: tuple[str, str]) -> None:
    talk = Talk(*offers, lmtp=True)
    talk.begin(THREE)
    talk.hear("250 ok", "250 ok", "550 5.1.1 no b", "250 ok", *(["354 go"] if "CHUNKING" not in offers else []))
    talk.hear(finals[0])
    assert not isinstance(talk.last, TransactionEnded)
    talk.hear(finals[1])
    assert talk.fates == [finals[0], "550 5.1.1 no b", finals[1]]
    assert not talk.engine.over


def test_lmtp_without_accepted_recipients_has_one_answer() -> None:
    talk = Talk("PIPELINING", lmtp=True)
    talk.begin()
    talk.hear("250 ok", "550 5.1.1 no", "503 5.5.1 nobody")
    assert talk.fates == ["550 5.1.1 no"] and not talk.engine.over


def test_lmtp_sends_no_chunk_before_a_recipient_was_accepted() -> None:
    talk = Talk("PIPELINING", "CHUNKING", lmtp=True)  # nobody would answer it (RFC 2033 4.3)
    assert "BDAT" not in str(talk.begin())
    assert "BDAT" not in str(talk.hear("250 ok", "550 5.1.1 no"))
    assert talk.fates == ["550 5.1.1 no"] and not talk.engine.over


def test_lmtp_that_goes_on_without_recipients_is_left() -> None:
    talk = Talk("PIPELINING", lmtp=True)
    talk.begin()
    talk.hear("250 ok", "550 5.1.1 no", "354 go")
    assert talk.fates == ["550 5.1.1 no"] and talk.engine.over


def test_lmtp_that_breaks_off_its_answers_defers_the_others() -> None:
    talk = Talk("PIPELINING", lmtp=True)
    talk.begin(to("a@server.test", "b@server.test"))
    talk.hear("250 ok", "250 ok", "250 ok", "354 go", "250 2.1.5 a has it")
    talk.engine.receive_eof()
    talk.said()
    assert talk.fates == ["250 2.1.5 a has it", "(451 4.4.2 the connection was lost)"]
