"""What is said in one turn of the loop is written at its end, in order, and nothing of it is lost."""

import asyncio

import pytest

from waypost.service.sockets.outbox import Outbox


class Recorder(asyncio.Transport):
    """A transport that notes in one list, for all of them, who wrote what."""

    def __init__(self, name: str, written: list[tuple[str, bytes]]) -> None:
        super().__init__()
        self.name = name
        self.closing = False
        self._written = written

    def write(self, data: bytes | bytearray | memoryview) -> None:
        self._written.append((self.name, bytes(data)))

    def is_closing(self) -> bool:
        return self.closing


@pytest.fixture
def written() -> list[tuple[str, bytes]]:
    return []


@pytest.fixture
def pair(written: list[tuple[str, bytes]]) -> tuple[Recorder, Recorder]:
    return Recorder("a", written), Recorder("b", written)


async def test_answers_of_one_turn_are_written_together_at_its_end(
    pair: tuple[Recorder, Recorder], written: list[tuple[str, bytes]]
) -> None:
    outbox = Outbox()
    outbox.write(pair[0], b"1")
    outbox.write(pair[1], b"2")
    assert written == []
    await asyncio.sleep(0)
    assert written == [("a", b"1"), ("b", b"2")]


async def test_who_speaks_alone_is_written_at_once(
    pair: tuple[Recorder, Recorder], written: list[tuple[str, bytes]]
) -> None:
    outbox = Outbox()
    outbox.write(pair[0], b"1")
    await asyncio.sleep(0)
    outbox.write(pair[0], b"2")
    assert written == [("a", b"1"), ("a", b"2")]


async def test_what_one_says_keeps_its_order(pair: tuple[Recorder, Recorder], written: list[tuple[str, bytes]]) -> None:
    outbox = Outbox()
    outbox.write(pair[0], b"1")
    outbox.write(pair[1], b"2")
    outbox.write(pair[0], b"3")
    outbox.write(pair[1], b"x" * 20_000)
    assert [who + said[:1].decode() for who, said in written] == ["a1", "a3", "b2", "bx"]
    await asyncio.sleep(0)
    assert len(written) == 4


async def test_much_is_written_at_once(pair: tuple[Recorder, Recorder], written: list[tuple[str, bytes]]) -> None:
    Outbox().write(pair[0], b"x" * 20_000)
    assert written == [("a", b"x" * 20_000)]


async def test_what_waits_is_released_before_the_end(
    pair: tuple[Recorder, Recorder], written: list[tuple[str, bytes]]
) -> None:
    outbox = Outbox()
    outbox.write(pair[0], b"221")
    outbox.release(pair[0])
    outbox.release(pair[1])
    assert written == [("a", b"221")]
    await asyncio.sleep(0)
    assert written == [("a", b"221")]


async def test_a_transport_that_was_closed_meanwhile_spoils_nothing_for_others(
    pair: tuple[Recorder, Recorder], written: list[tuple[str, bytes]]
) -> None:
    outbox = Outbox()
    outbox.write(pair[0], b"1")
    outbox.write(pair[1], b"2")
    pair[0].closing = True
    await asyncio.sleep(0)
    assert written == [("b", b"2")]
    outbox.write(pair[0], b"3")
    outbox.release(pair[0])
    assert written == [("b", b"2")]


async def test_a_write_that_fails_keeps_no_other_from_its_answer(
    pair: tuple[Recorder, Recorder], written: list[tuple[str, bytes]]
) -> None:
    class Broken(Recorder):
        def write(self, data: bytes | bytearray | memoryview) -> None:
            raise RuntimeError("this transport is broken")

    told: list[object] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: told.append(context["exception"]))
    outbox = Outbox()
    for transport in (pair[0], Broken("broken", written), pair[1]):
        outbox.write(transport, b"1")
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert written == [("a", b"1"), ("b", b"1")]
    assert [str(error) for error in told] == ["this transport is broken"]
