"""Replies of a server, as the client engine reads them: whole, bounded, printable."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from waypost.protocol.reply import Reply, reply
from waypost.protocol.smtp.reply_reader import MAX_LINE, MAX_LINES, MAX_REPLY, MAX_WORDS, ReplyError, ReplyReader


def read(data: bytes) -> list[Reply]:
    reader = ReplyReader()
    reader.receive(data)
    return list(iter(reader.next, None))


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        (b"250 2.1.0 Sender ok\r\n", reply(250, "2.1.0", "Sender ok")),
        (b"250\r\n", reply(250, None, "")),
        (b"250 \r\n", reply(250, None, "")),
        (b"250\ttaken\r\n", reply(250, None, "taken")),
        (b"550 5.1.1\r\n", reply(550, "5.1.1", "")),
        (b"550 User 5.1.1 unknown\r\n", reply(550, None, "User 5.1.1 unknown")),
        (b"550 4.2.2 the classes differ\r\n", reply(550, None, "4.2.2 the classes differ")),
        (b"354 2.0.0 go\r\n", reply(354, None, "2.0.0 go")),
        (b"550 5.7.1234 no\r\n", reply(550, None, "5.7.1234 no")),
        (b"250-one\r\n250 two\r\n", reply(250, None, "one", "two")),
        (b"550-5.1.1 first\r\n550 5.1.1 second\r\n", reply(550, "5.1.1", "first", "second")),
        ("250 grüß Gott\r\n".encode(), reply(250, None, "grüß Gott")),
    ],
)
def test_a_reply_is_read_in_the_forms_that_servers_use(line: bytes, expected: Reply) -> None:
    assert read(line) == [expected]


@pytest.mark.parametrize(
    "line",
    [
        b"hello\r\n",
        b"25 x\r\n",
        b"2500 x\r\n",
        b"199 x\r\n",
        b"650 x\r\n",
        b"250_x\r\n",
        b"\r\n",
        b"250 nul \0\r\n",
        b"250-one\r\n251 two\r\n",
        b"250 " + b"x" * MAX_LINE,
        b"250-x\r\n" * (MAX_LINES + 1),
        (b"250-" + b"x" * 4000 + b"\r\n") * (MAX_REPLY // 4000 + 1),
    ],
)
def test_what_is_no_reply_is_refused(line: bytes) -> None:
    with pytest.raises(ReplyError):
        read(line)


@pytest.mark.parametrize(
    ("octets", "expected"),
    [
        (b"220 lf.test ESMTP\n", reply(220, None, "lf.test ESMTP")),
        (b"250-lf.test\n250-SIZE 10\r\n250 DSN\n", reply(250, None, "lf.test", "SIZE 10", "DSN")),
        (b"250 2.0.0 taken\n", reply(250, "2.0.0", "taken")),
        (b"250\n", reply(250, None, "")),
    ],
)
def test_lines_that_end_with_lf_alone_are_read(octets: bytes, expected: Reply) -> None:
    assert read(octets) == [expected]


def test_words_can_forge_no_line_of_a_log() -> None:
    [answer] = read("550 a\rb\x1b[2Jc\u202ed\te\x85f\r\n".encode())
    assert answer.text == "a\\rb\\x1b[2Jc\\u202ed e\\x85f"
    [answer] = read(b"550 \xff\r\n")
    assert answer.text == "\\xff"


@pytest.mark.parametrize("octet", [b"x", b"\xff", b"\x01"])
@pytest.mark.parametrize("length", [100, 4000])
def test_of_a_long_text_the_beginning_is_kept_and_of_each_line_its_first_word(octet: bytes, length: int) -> None:
    """A server may say so much of each of a thousand recipients, and each of these octets may become four."""
    line = b"550-5.1.1 " + octet * length + b"\r\n"
    long = line * min((MAX_REPLY - 100) // len(line), MAX_LINES - 1) + b"550 5.1.1 no\r\n"
    first, second = read(long + b"250-x\r\n250 SIZE\r\n")
    assert sum(map(len, first.lines)) <= 4 * (MAX_WORDS + 64 * MAX_LINES)
    assert len(first.lines[0]) >= min(length, MAX_WORDS - 6)
    assert (first.enhanced, first.lines[-1]) == ("5.1.1", "no")
    assert second == reply(250, None, "x", "SIZE"), "the next reply has all the room again"


def test_bytes_behind_a_reply_are_told() -> None:
    reader = ReplyReader()
    reader.receive(b"220 go\r\n2")
    assert reader.next() == reply(220, None, "go")
    assert reader.buffered
    reader.receive(b"50 x\r\n")
    assert reader.next() == reply(250, None, "x")
    assert not reader.buffered


_PIECES = st.sampled_from(
    [b"250 ok\r\n", b"550-5.1.1 no\r\n550 5.1.1 no\r\n", b"354\r\n", b"250-", b"x\r\n", b"\n", b"2"]
)


def outcome(pieces: list[bytes]) -> list[object]:
    reader = ReplyReader()
    seen: list[object] = []
    try:
        for piece in pieces:
            reader.receive(piece)
            seen += iter(reader.next, None)
    except ReplyError as error:
        seen.append(str(error))
    return seen


@given(st.lists(st.one_of(_PIECES, st.binary(max_size=20)), max_size=20), st.data())
def test_any_split_of_the_same_bytes_gives_the_same_replies(pieces: list[bytes], data: st.DataObject) -> None:
    stream = b"".join(pieces)
    cuts = sorted(data.draw(st.lists(st.integers(0, len(stream)), max_size=8)))
    split = [stream[begin:end] for begin, end in zip([0, *cuts], [*cuts, len(stream)], strict=True)]
    assert outcome(split) == outcome([stream])


@given(st.lists(st.one_of(_PIECES, st.binary(max_size=200)), max_size=30))
def test_replies_are_always_printable_text(pieces: list[bytes]) -> None:
    for answer in outcome(pieces):
        if isinstance(answer, Reply):
            assert answer.text.isprintable()
            assert 200 <= answer.code <= 599
