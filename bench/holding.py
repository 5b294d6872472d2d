"""The deeds of `bench/hold.py`: what is large, how it is made, and when it is done."""

import json
import poplib
import signal
import smtplib
import ssl
import subprocess
import sys
import threading
import time
import zlib
from collections.abc import Callable, Iterator, Mapping
from typing import Any, ClassVar, Protocol

import apsw

from bench import deep_queue
from bench.harness import wait_until
from bench.waypost_server import WaypostContender
from bench.world import DOMAIN, PASSWORD
from waypost.message.trace import TraceId
from waypost.storage.sqlite import DATABASE
from waypost.storage.sqlite.segments.segments import HEADER, record_header, segment_path

LIMITS = ("messages_per_hour", "messages_per_day", "recipients_per_hour", "recipients_per_day")
_NOBODY = ("127.0.9.9", 9)
"""Nothing listens there: a connection is refused at once."""
_NUMBERS = "WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < :count) "
_DEAD = "d0.deep.test"


def lines(text: str) -> Iterator[dict[str, float]]:
    """Read what the workers tell of their holds."""
    return map(json.loads, text.splitlines())


class Signals(Protocol):
    """Workers that can be told to keep house."""

    def tell(self, what: Any) -> None:
        """Send each a signal."""
        ...


class _Deed:
    """A deed: `fill` before the start, then `prepare` for each round, which returns the doing."""

    ways: ClassVar[Mapping[str, tuple[str, int]]] = {}
    environment: ClassVar[Mapping[str, str]] = {}

    def __init__(self, scale: float, rounds: int) -> None:
        self.scale = scale
        self.rounds = rounds

    def size(self, whole: int) -> int:
        """Return a number, scaled."""
        return max(10, round(whole * self.scale))

    def fill(self, server: WaypostContender) -> None:
        """Make what is large."""

    def prepare(self, server: WaypostContender, workers: Signals, number: int) -> Callable[[], None]:
        """Make ready for a round."""
        raise NotImplementedError


class EmptyMailbox(_Deed):
    """A mailbox of 100,000 messages is emptied by POP3 (DELE, then QUIT)."""

    def fill(self, server: WaypostContender) -> None:
        """Fill a mailbox for each round."""
        count = self.size(100_000)
        deep_queue.fill(server.data, entries=count, destinations=2)
        connection = apsw.Connection(str(server.data / DATABASE))
        with connection:
            for table in ("entry", "destination"):
                connection.execute(f"DELETE FROM {table}").fetchall()
            for number in range(1, self.rounds + 1):
                (box,) = connection.execute(
                    "SELECT inbox FROM account WHERE address = ?", (f"user{number}@{DOMAIN}",)
                ).fetchone() or (0,)
                connection.execute(
                    "INSERT INTO mailbox_message (mailbox, uid, message, head, size, internal_date, modseq, flags) "
                    "SELECT ?, row_number() OVER (ORDER BY id), id, '', length, 1, 1, '[]' FROM message",
                    (box,),
                ).fetchall()
                connection.execute("UPDATE mailbox SET uidnext = ? WHERE id = ?", (count + 1, box)).fetchall()
            connection.execute("UPDATE message SET refs = ?", (self.rounds,)).fetchall()
        connection.close()

    def prepare(self, server: WaypostContender, workers: Signals, number: int) -> Callable[[], None]:
        """Log in: opening a mailbox is another matter."""
        context = ssl.create_default_context()
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
        client = poplib.POP3_SSL(server.address, 995, timeout=300, context=context)
        client.user(f"user{number + 1}@{DOMAIN}")
        client.pass_(PASSWORD)
        count, _ = client.stat()
        assert count == self.size(100_000), count

        def empty() -> None:
            for first in range(1, count + 1, 500):
                part = range(first, min(first + 500, count + 1))
                client.sock.sendall(b"".join(b"DELE %d\r\n" % message for message in part))
                for _ in part:
                    assert client.file.readline().startswith(b"+OK")
            client.sock.sendall(b"QUIT\r\n")
            assert client.file.readline().startswith(b"+OK")
            client.close()

        return empty


class _Deep(_Deed):
    ways: ClassVar[Mapping[str, tuple[str, int]]] = dict.fromkeys((deep_queue.LARGE, _DEAD), _NOBODY)


class DeadDestination(_Deep):
    """A round of a dead destination with 200,000 entries."""

    def fill(self, server: WaypostContender) -> None:
        """Fill the queue with entries that are due, though nobody looks at them yet."""
        deep_queue.fill(server.data, entries=-(-self.size(200_000) * 10 // 9), destinations=2)
        connection = apsw.Connection(str(server.data / DATABASE))
        connection.execute("UPDATE entry SET next_attempt = queued_at WHERE destination = ?", (_DEAD,)).fetchall()
        connection.close()

    def prepare(self, server: WaypostContender, workers: Signals, number: int) -> Callable[[], None]:
        """Choose one entry: to retry it wakes its destination."""
        entry = server.one("SELECT max(id) FROM entry WHERE destination = ?", _DEAD)
        command = [sys.executable, "-m", "waypost", "queue", "retry", "--id", str(entry)]
        counts = "SELECT count(*) FROM pragma_table_info('destination') WHERE name = 'failed_at'"
        in_its_row = server.one(counts)
        began = time.time_ns() // 1000

        def over() -> bool:
            """The round is in the row of the destination, or each entry is planned anew."""
            if in_its_row:
                ended = "SELECT failed_at > ? AND owner = -1 FROM destination WHERE name = ?"
                return bool(server.one(ended, began, _DEAD))
            left = "SELECT EXISTS (SELECT 1 FROM entry WHERE destination = ? AND next_attempt <= ?)"
            return not server.one(left, _DEAD, time.time_ns() // 1000)

        def fail() -> None:
            told = subprocess.DEVNULL
            subprocess.run([*command, "--config", str(server.config)], env=server.environment, stdout=told, check=True)
            wait_until(over, seconds=600, what="the round is over", every=0.1)

        return fail


class Retry(_Deep):
    """`waypost queue retry` of 100,000 entries."""

    def fill(self, server: WaypostContender) -> None:
        """Fill the queue."""
        deep_queue.fill(server.data, entries=-(-self.size(100_000) * 10 // 9), destinations=2)

    def prepare(self, server: WaypostContender, workers: Signals, number: int) -> Callable[[], None]:
        """Nothing more is needed."""
        command = [sys.executable, "-m", "waypost", "queue", "retry", "--domain", _DEAD]

        def retry() -> None:
            done = subprocess.run(
                [*command, "--config", str(server.config)],
                env=server.environment,
                capture_output=True,
                text=True,
                check=False,
            )
            assert "entries were made due" in done.stdout, done

        return retry


class LargeMessages(_Deed):
    """Eight messages of 45 MiB that end together, on a disk of 100 MB/s."""

    environment: ClassVar[Mapping[str, str]] = {"WAYPOST_BENCH_DISK": "100e6"}

    def prepare(self, server: WaypostContender, workers: Signals, number: int) -> Callable[[], None]:
        """Send all but the last octets of each."""
        line = b"x" * 998 + b"\r\n"
        chunk = line * 1000
        clients = [smtplib.SMTP(server.address, server.port, "large.test", timeout=300) for _ in range(8)]

        def send(client: smtplib.SMTP) -> None:
            client.ehlo()
            client.mail("sender@elsewhere.test")
            client.rcpt(f"user1@{DOMAIN}")
            client.putcmd("data")
            assert client.getreply()[0] == 354
            client.send(b"Subject: large\r\n\r\n")
            for _ in range(self.size(47)):
                client.send(chunk)

        def end(client: smtplib.SMTP) -> None:
            client.send(b".\r\n")
            assert client.getreply()[0] == 250

        _at_once(send, clients)
        time.sleep(0.5)

        def finish() -> None:
            _at_once(end, clients)
            for client in clients:
                client.close()

        return finish


def _at_once(work: Callable[[smtplib.SMTP], None], clients: list[smtplib.SMTP]) -> None:
    failed: list[BaseException] = []

    def run(client: smtplib.SMTP) -> None:
        try:
            work(client)
        except BaseException as error:  # noqa: BLE001  raised below
            failed.append(error)

    threads = [threading.Thread(target=run, args=(client,)) for client in clients]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if failed:
        raise failed[0]


class Segments(_Deed):
    """Housekeeping beside 200,000 segments of large messages."""

    def fill(self, server: WaypostContender) -> None:
        """Give each message of a deep queue a segment of its own, a small file."""
        count, length, crc = self.size(200_000), len(deep_queue.OCTETS), zlib.crc32(deep_queue.OCTETS)
        deep_queue.fill(server.data, entries=count, destinations=2)
        connection = apsw.Connection(str(server.data / DATABASE))
        with connection:
            connection.execute(
                _NUMBERS + "INSERT INTO segment (worker, sealed, size, live) SELECT 1023, 1, :size, :live FROM n",
                {"count": count, "size": HEADER.size + length, "live": length},
            ).fetchall()
            connection.execute(
                "UPDATE message SET segment = 1 + numbered.number, offset = ? "
                "FROM (SELECT id, row_number() OVER (ORDER BY id) AS number FROM message) AS numbered "
                "WHERE message.id = numbered.id",
                (HEADER.size,),
            ).fetchall()
            connection.execute("UPDATE segment SET live = 0 WHERE id = 1").fetchall()
            rows = connection.execute("SELECT id, segment FROM message").fetchall()
        connection.close()
        for trace, segment in rows:
            octets = record_header(TraceId(trace), length, crc) + deep_queue.OCTETS
            segment_path(server.data / "segments", segment).write_bytes(octets)

    def prepare(self, server: WaypostContender, workers: Signals, number: int) -> Callable[[], None]:
        """Nothing more is needed."""

        def keep_house() -> None:
            workers.tell(signal.SIGUSR2)
            time.sleep(5.0)

        return keep_house


DEEDS: dict[str, type[_Deed]] = {
    "pop3": EmptyMailbox,
    "dead": DeadDestination,
    "large": LargeMessages,
    "retry": Retry,
    "segments": Segments,
}
"""All deeds, by the names that the command line knows."""
