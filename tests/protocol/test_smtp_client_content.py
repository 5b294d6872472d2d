"""Content on its way out: no bare CR, LF or NUL behind DATA, every dot doubled, however the content is cut."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.protocol.smtp_talk import BOB, ENVELOPE, Talk, cut, to

from waypost.message.envelope import BodyType, Envelope
from waypost.protocol.smtp.client_events import ContentWanted, Disconnected
from waypost.protocol.smtp.content import DotReader
from waypost.protocol.smtp.outgoing import (
    ContentError,
    ContentFacts,
    ContentScanner,
    DotStuffer,
    LineGuard,
    scan,
    stuff_whole,
)

# Pieces that lie across every border that matters, beside arbitrary octets.
_PIECE = st.one_of(
    st.sampled_from([b"\r\n", b"\r", b"\n", b".", b"\r\n.\r\n", b".\r\n", b"\r\n.", b"\0", b"a", b"\r\n\r\n", b""]),
    st.binary(max_size=4),
    st.text(max_size=3).map(str.encode),
)
_CLEAN_PIECE = st.sampled_from([b"\r\n", b".", b"..", b"a", b".\r\n", b"\r\n.\r\n", b"\xc3\xa4"])
PIECES = st.lists(_PIECE, max_size=24)
CLEAN = st.lists(_CLEAN_PIECE, max_size=24).map(b"".join)


def bare(data: bytes) -> bool:
    """True when a CR or LF stands alone, or there is a NUL (RFC 5321 2.3.8)."""
    rest = data.replace(b"\r\n", b"")
    return b"\r" in rest or b"\n" in rest or b"\0" in rest


def stuffed(pieces: list[bytes]) -> bytes:
    stuffer = DotStuffer()
    return b"".join([*(stuffer.stuff(piece) for piece in pieces), stuffer.finish()])


CUTS = st.lists(st.integers(0, 1000), max_size=6)


@given(PIECES, CUTS)
def test_what_is_stuffed_is_clean_and_ends_once(pieces: list[bytes], cuts: list[int]) -> None:
    content = b"".join(pieces)
    try:
        wire = stuffed(cut(content, cuts))
    except ContentError:
        assert bare(content), "only what is unclean is refused"
        return
    assert not bare(content), "and everything that is unclean"
    assert not bare(wire)
    lines = wire.split(b"\r\n")
    assert lines[-2:] == [b".", b""]
    assert b"." not in lines[:-2], "the end comes once, at the end"
    assert all(line.startswith(b"..") for line in lines[:-2] if line.startswith(b"."))


@given(PIECES)
def test_stuffed_as_a_whole_is_stuffed_in_pieces(pieces: list[bytes]) -> None:
    content = b"".join(pieces)
    if scan(content).line_clean:
        assert stuff_whole(content) == stuffed(pieces)


@given(CLEAN, CUTS)
def test_a_server_reads_exactly_what_was_given(content: bytes, cuts: list[int]) -> None:
    reader = DotReader()
    read, rest = reader.feed(stuffed(cut(content, cuts)))
    assert rest == b"" and reader.clean
    assert read == content or (read == content + b"\r\n" and not content.endswith(b"\r\n"))


@given(PIECES, CUTS)
def test_facts_do_not_depend_on_the_pieces(pieces: list[bytes], cuts: list[int]) -> None:
    content = b"".join(pieces)
    scanner = ContentScanner()
    for piece in cut(content, cuts):
        scanner.feed(piece)
    facts = scanner.facts()
    assert facts == scan(content)
    assert facts.size == len(content)
    assert facts.line_clean != bare(content)
    assert facts.eight_bit == any(octet > 127 for octet in content)


@pytest.mark.parametrize(
    ("content", "header_ascii"),
    [(b"A: b\r\n\r\n\xc3\xa4", True), (b"A: \xc3\xa4\r\n\r\nb", False), (b"A: \xc3\xa4", False), (b"", True)],
)
def test_the_header_is_told_from_the_body(content: bytes, header_ascii: bool) -> None:
    assert scan(content).header_ascii == header_ascii


@given(PIECES, CUTS)
def test_a_guard_passes_the_same_octets_or_refuses(pieces: list[bytes], cuts: list[int]) -> None:
    content = b"".join(pieces)
    guard = LineGuard()
    try:
        passed = b"".join(guard.check(piece) for piece in cut(content, cuts))
        guard.finish()
    except ContentError:
        assert bare(content)
        return
    assert passed == content and not bare(content)


# -- streams: what is on the wire, by every way ----------------------------------------------------------------

_HOP = {
    "DATA": (),
    "DATA, pipelined": ("PIPELINING",),
    "BDAT": ("PIPELINING", "CHUNKING"),
    "BDAT, binary": ("CHUNKING", "BINARYMIME"),
}


def send(hop: str, pieces: list[bytes], facts: ContentFacts, envelope: Envelope = ENVELOPE) -> tuple[Talk, bytes]:
    """Send a content in pieces; return the talk and the octets of DATA or the chunks of BDAT, joined."""
    talk = Talk("8BITMIME", *_HOP[hop])
    talk.engine.begin(envelope, BOB, facts)
    talk.said()
    wire = b""
    for answer in ("250 ok", "250 ok", "354 go"):
        if not talk.events or not isinstance(talk.last, ContentWanted):
            wire = talk.hear(answer)
    assert isinstance(talk.last, ContentWanted)
    assert not wire
    for piece in pieces:
        talk.engine.send_content(piece)
        wire += talk.said()
        while talk.engine.streaming and not talk.engine.wants_content:
            wire += talk.hear("250 chunk")
    talk.engine.end_content()
    wire += talk.said()
    return talk, wire


def unchunked(wire: bytes) -> bytes:
    content = b""
    while wire:
        line, _, wire = wire.partition(b"\r\n")
        words = line.split()
        size = int(words[1])
        content, wire = content + wire[:size], wire[size:]
        assert words[0] == b"BDAT" and (words[2:] == [b"LAST"]) == (not wire)
    return content


@pytest.mark.parametrize("hop", [*_HOP][:3])
@given(content=CLEAN, cuts=CUTS)
def test_a_streamed_content_arrives_whole(hop: str, content: bytes, cuts: list[int]) -> None:
    talk, wire = send(hop, cut(content, cuts), scan(content))
    if hop == "BDAT":
        assert unchunked(wire) == content
    else:
        assert wire == stuffed([content])
    assert not talk.engine.over


@given(content=st.binary(max_size=64), cuts=CUTS)
def test_a_streamed_binary_content_arrives_octet_by_octet(content: bytes, cuts: list[int]) -> None:
    talk, wire = send("BDAT, binary", cut(content, cuts), scan(content), Envelope(None, body=BodyType.BINARY))
    while talk.engine.awaits_final:
        wire += talk.hear("250 chunk")
    assert unchunked(wire) == content


@pytest.mark.parametrize("hop", [*_HOP][:3])
@given(pieces=PIECES)
def test_a_content_that_lied_about_itself_never_ends_well(hop: str, pieces: list[bytes]) -> None:
    content = b"".join(pieces)
    claimed = ContentFacts(len(content), True, False, True)
    talk, wire = send(hop, pieces, claimed)
    if not bare(content):
        assert not talk.engine.over
        return
    assert talk.engine.over and isinstance(talk.last, Disconnected)
    assert talk.fates[0].startswith("(554 5.6.1")
    if hop == "BDAT":
        assert b"LAST" not in wire
        assert not bare(wire)
    else:
        assert not bare(wire)
        assert b"\r\n.\r\n" not in b"\r\n" + wire


def test_chunks_wait_for_each_other_without_pipelining() -> None:
    talk = Talk("CHUNKING", "BINARYMIME")
    talk.engine.begin(Envelope(None, body=BodyType.BINARY), BOB, ContentFacts(8, False, False, True))
    talk.said()
    talk.hear("250 ok", "250 ok")
    talk.engine.send_content(b"\0one")
    assert talk.said() == b"BDAT 4\r\n\0one"
    assert talk.engine.wants_content, "one chunk may wait"
    talk.engine.send_content(b"\0two")
    assert talk.said() == b""
    assert not talk.engine.wants_content and talk.engine.streaming
    assert talk.hear("250 chunk") == b"BDAT 4\r\n\0two"
    assert talk.engine.wants_content
    talk.engine.end_content()
    assert talk.hear("250 chunk") == b"BDAT 0 LAST\r\n"
    talk.hear("250 taken")
    assert talk.fates == ["250 taken"]


@pytest.mark.parametrize("hop", [*_HOP][:3])
def test_a_server_may_break_off_a_stream(hop: str) -> None:
    talk = Talk(*_HOP[hop])
    talk.engine.begin(ENVELOPE, to("a@server.test", "b@server.test"), ContentFacts(9, True, False, True))
    talk.said()
    for answer in ("250 ok", "250 ok", "550 no", "354 go"):
        if not talk.events or not isinstance(talk.last, ContentWanted):
            talk.hear(answer)
    talk.engine.send_content(b"a\r\n")
    talk.said()
    talk.hear("552 5.3.4 enough")
    assert talk.fates == ["552 5.3.4 enough", "550 no"]
    assert talk.engine.over and not talk.engine.wants_content
    talk.engine.send_content(b"b\r\n")
    talk.engine.end_content()
    assert talk.said() == b""


def test_an_early_yes_in_the_middle_of_a_stream_is_no_acceptance() -> None:
    talk = Talk("PIPELINING")
    talk.engine.begin(ENVELOPE, BOB, ContentFacts(9, True, False, True))
    talk.said()
    talk.hear("250 ok", "250 ok", "354 go", "250 taken")
    assert talk.fates == ["(451 4.5.0 the server sent a reply that nothing asked for)"]
