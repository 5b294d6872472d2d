"""Content while it arrives: the header apart, and the rest on its way."""

import asyncio
import itertools

from hypothesis import given
from hypothesis import strategies as st

from waypost.intake.content import ArrivingContent
from waypost.protocol.smtp import replies

MESSAGE = b"From: a@b.test\r\nSubject: x\r\n\r\n" + b"line\r\n" * 2000 + b"\r\n\r\nend\r\n"


class Written:
    """A body that keeps what was written."""

    def __init__(self) -> None:
        self.pieces: list[bytes] = []
        self.discarded = False

    @property
    def size(self) -> int:
        return sum(map(len, self.pieces))

    async def write(self, data: bytes) -> None:
        self.pieces.append(data)

    def discard(self) -> None:
        self.discarded = True


def read(pieces: list[bytes], *, limit: int = 1000) -> tuple[ArrivingContent, Written]:
    """Give pieces to a content, as a session does."""
    body = Written()
    content = ArrivingContent(lambda: body, limit)

    async def give() -> None:
        for piece in pieces:
            await content.write(piece)
        await content.finish()

    asyncio.run(give())
    return content, body


def cut(data: bytes, cuts: list[int]) -> list[bytes]:
    edges = [0, *sorted(cuts), len(data)]
    return [data[start:end] for start, end in itertools.pairwise(edges) if end > start]


def test_the_header_is_apart_and_the_rest_is_written() -> None:
    content, body = read([MESSAGE])
    assert content.header == b"From: a@b.test\r\nSubject: x\r\n\r\n"
    assert content.header + b"".join(body.pieces) == MESSAGE and content.size == len(MESSAGE)


def test_a_message_may_be_all_header_or_have_none() -> None:
    assert read([b"From: a@b.test\r\n"])[0].header == b"From: a@b.test\r\n"
    content, body = read([b"\r\nhello\r\n"])
    assert content.header == b"\r\n" and body.pieces == [b"hello\r\n"]
    assert read([])[0].header == b""


@given(st.lists(st.integers(0, len(MESSAGE)), max_size=30))
def test_any_split_of_the_same_octets_gives_the_same_message(cuts: list[int]) -> None:
    whole, split = read([MESSAGE]), read(cut(MESSAGE, cuts))
    assert split[0].header == whole[0].header
    assert b"".join(split[1].pieces) == b"".join(whole[1].pieces)
    assert split[0].size == whole[0].size


def test_few_octets_at_a_time_are_written_together() -> None:
    content, body = read([MESSAGE[i : i + 1] for i in range(len(MESSAGE))])
    assert len(body.pieces) == 1 and content.size == len(MESSAGE)
    large = MESSAGE * 20
    _, body = read([large[i : i + 10] for i in range(0, len(large), 10)])
    assert len(body.pieces) < 30 and b"".join(body.pieces).endswith(b"end\r\n")


def test_a_header_over_the_limit_is_refused_and_nothing_of_it_is_kept() -> None:
    for pieces in ([b"A: " + b"x" * 2000 + b"\r\n\r\nbody"], [b"A: x\r\n"] * 500):
        content, body = read(pieces)
        assert content.failure == replies.HEADER_TOO_LARGE
        assert body.discarded and body.pieces == []


def test_a_failure_drops_what_there_is_and_what_comes() -> None:
    body = Written()
    content = ArrivingContent(lambda: body, 1000)

    async def fail() -> None:
        await content.write(b"A: x\r\n\r\n")
        content.fail(replies.INTERNAL)
        await content.write(b"y" * 5000)
        await content.finish()

    asyncio.run(fail())
    assert body.discarded and body.pieces == [] and content.failure == replies.INTERNAL
