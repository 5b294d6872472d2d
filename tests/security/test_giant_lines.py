"""Giant lines and endless input: an answer, an end, and bounded memory (as chasquid before 1.10 had not)."""

import asyncio
import tracemalloc
from collections.abc import Callable
from pathlib import Path

import pytest
from tests.protocol.test_pop3_server import Owner as Pop3Owner
from tests.protocol.test_smtp_server import Owner as SmtpOwner
from tests.security.live import host

from waypost.config.settings import ListenerProtocol

MIB = 1024 * 1024
PIECE = 16 * 1024


def peak(work: Callable[[], None]) -> int:
    """Return how many octets a piece of work had allocated at once."""
    tracemalloc.start()
    try:
        work()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("before", [b"", b"EHLO x.test\r\n", b"EHLO x\r\nMAIL FROM:<", b"EHLO x\r\nAUTH PLAIN "])
@pytest.mark.parametrize("octet", [b"A", b"\r", b" ", b"\xff", b"("])
def test_an_endless_line_of_smtp_ends_the_session_and_costs_nothing(before: bytes, octet: bytes) -> None:
    owner = SmtpOwner(tls=True, mechanisms=("PLAIN",))
    owner.send(before)
    piece = octet * PIECE
    swallowed = 0

    def pour() -> None:
        nonlocal swallowed
        for _ in range(10 * MIB // PIECE):
            if not owner.engine.wants_input:
                return
            owner.send(piece)
            swallowed += PIECE

    assert peak(pour) < 20 * PIECE
    assert owner.engine.closed and swallowed <= 2 * PIECE
    assert owner.output.split(b"\r\n")[-2].startswith((b"500 5.5.6", b"554 5.5.2"))


@pytest.mark.parametrize("before", [b"", b"AUTH PLAIN\r\n", b"USER "])
def test_an_endless_line_of_pop3_ends_the_session_and_costs_nothing(before: bytes) -> None:
    owner = Pop3Owner()
    owner.send(before)
    assert peak(lambda: owner.send(b"A" * PIECE)) < 20 * PIECE
    assert owner.engine.closed and owner.output.split(b"\r\n")[-2].startswith(b"-ERR Line too long")


@pytest.mark.parametrize(
    ("protocol", "farewell"), [(ListenerProtocol.SMTP, b"500 5.5.6"), (ListenerProtocol.POP3, b"-ERR Line too long")]
)
async def test_ten_megabytes_without_a_line_end_get_one_answer_and_a_closed_connection(
    tmp_path: Path, protocol: ListenerProtocol, farewell: bytes
) -> None:
    async with host(tmp_path, "here.test") as here:
        wire = await here.client(protocol)
        pouring = asyncio.create_task(_pour(wire.writer))
        said = await wire.rest()
        await pouring
        assert [line[: len(farewell)] for line in said.split(b"\r\n")[1:-1]] == [farewell]
        await wire.close()
        await here.assembly.listening.connections.gone()
        assert here.assembly.listening.admission.open == 0, "its place was given back"


async def _pour(writer: asyncio.StreamWriter) -> None:
    try:
        for _ in range(10):
            writer.write(b"A" * MIB)
            await writer.drain()
    except ConnectionError:
        return


def test_a_message_without_line_ends_is_a_message_and_is_not_held() -> None:
    """RFC 5321 4.5.3.1.6 asks for lines of 1,000 octets; more must not cost more than their octets."""
    owner = SmtpOwner(max_message_size=20 * MIB)
    owner.send(b"EHLO x\r\nMAIL FROM:<a@b.test>\r\nRCPT TO:<b@server.test>\r\nDATA\r\n")
    owner._arriving = _Nothing()

    def pour() -> None:
        for _ in range(10 * MIB // PIECE):
            owner.send(b"A" * PIECE)

    assert peak(pour) < 20 * PIECE
    assert owner.send(b"\r\n.\r\n").startswith(b"250")


class _Nothing(list[bytes]):
    def append(self, piece: bytes) -> None:
        """Keep nothing: what the engine hands over is somebody else's memory."""


def test_many_small_commands_in_one_packet_are_worked_through_in_linear_time() -> None:
    work = []
    for count in (1000, 2000):
        owner = SmtpOwner(max_junk=2000)
        owner.send(b"EHLO x\r\n")
        data = b"NOOP\r\n" * count
        before = len(owner.output)
        owner.send(data)
        work.append(len(owner.output) - before)
    assert work[1] == 2 * work[0]
