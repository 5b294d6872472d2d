"""How many messages a second are downloaded by POP3 over TLS, beside Dovecot.

    python -m bench.pop3 [--sessions N] [--messages N] [--size OCTETS] [--rounds N]

Every session has a mailbox of its own. All mailboxes hold the same messages, and both servers store each of those once
(Dovecot's Maildirs by hard links). Sessions log in before the clock starts: what a login costs is a choice of the
password's hash, not of the server.
"""

import argparse
import asyncio
import os
import time
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path

from tests.peers.dovecot import Dovecot

from bench.clients import prepared, shares
from bench.harness import Run, last_line, need, report, running, scratch, take_turns
from bench.meter import Meter, cpu_of_session
from bench.smtp_source import letter
from bench.waypost_server import WaypostContender, now
from bench.world import DOMAIN, PASSWORD, World
from waypost.message.address import Address
from waypost.message.envelope import Envelope
from waypost.message.trace import TraceIdMaker
from waypost.storage import MailboxDelivery, NewMessage, Storage

_PROCESSES = 2
_AT_ONCE = 50
AIM = 1.0


def _letters(options: argparse.Namespace) -> list[bytes]:
    content = letter(options.size).removesuffix(b".")
    return [content.replace(b"%b", b"%d" % number) for number in range(options.messages)]


def _waypost(options: argparse.Namespace) -> Run:
    with scratch() as folder:
        server = WaypostContender(folder, World(mailboxes=options.sessions, pop3=True))
        fill(server, options)
        with running(server):
            return download(server.address, server.pid, folder, options)


def fill(server: WaypostContender, options: argparse.Namespace) -> None:
    """Put the same messages into each mailbox of a Waypost that does not run."""
    asyncio.run(_fill(server, options))


async def _fill(server: WaypostContender, options: argparse.Namespace) -> None:
    opened = await server.open()
    accounts = [await opened.storage.directory.account(f"user{n}@{DOMAIN}") for n in range(options.sessions)]
    deliveries = tuple(MailboxDelivery(account.inbox, b"") for account in accounts if account is not None)
    ids = TraceIdMaker(1023, now)
    letters = _letters(options)
    for start in range(0, len(letters), _AT_ONCE):
        await asyncio.gather(
            *(_deliver(opened.storage, ids, deliveries, each) for each in letters[start : start + _AT_ONCE])
        )
    await opened.close()


async def _deliver(
    storage: Storage, ids: TraceIdMaker, deliveries: tuple[MailboxDelivery, ...], content: bytes
) -> None:
    body = storage.spool.new_body()
    await body.write(content)
    envelope = Envelope(Address("sender", "elsewhere.test"))
    await storage.spool.accept(NewMessage(ids(), now(), envelope, head=b"", body=body, deliveries=deliveries))


def _dovecot(options: argparse.Namespace) -> Run:
    need("dovecot")
    with scratch() as folder:
        certified = WaypostContender(folder, World(mailboxes=0))
        users = {f"user{number}@{DOMAIN}": PASSWORD for number in range(options.sessions)}
        server = Dovecot(folder / "dovecot", address="127.0.8.4", tls=certified.tls, users=users)
        _link(server, [user.partition("@")[0] for user in users], options)
        with running(server):
            return download(server.address, server.pid, folder, options)


def _link(server: Dovecot, users: list[str], options: argparse.Namespace) -> None:
    """Fill Maildirs. Lines end in CRLF and names hold both sizes, which saves Dovecot work (its `mail_save_crlf`)."""
    store = server.directory / "mail" / "store"
    store.mkdir()
    names = []
    for number, content in enumerate(_letters(options)):
        names.append(f"{int(time.time())}.M{number}.bench,S={len(content)},W={len(content)}:2,")
        (store / names[-1]).write_bytes(content)
    for user in users:
        folder = server.maildir(user) / "cur"
        for name in names:
            os.link(store / name, folder / name)
    server.own()
    os.sync()


def download(
    address: str,
    leader: int,
    folder: Path,
    options: argparse.Namespace,
    around: AbstractContextManager[None] | None = None,
) -> Run:
    """Log all sessions in, then measure until the last message is there; `around` is entered meanwhile.

    `leader` is the process whose session the server is.
    """
    first = 0
    arguments: list[list[str]] = []
    for share in shares(options.sessions, _PROCESSES):
        counts = {"sessions": share, "first": first, "messages": options.messages}
        arguments.append([address, "995", *(f"--{name}={value}" for name, value in counts.items())])
        first += share
    began = time.monotonic()
    with prepared("pop3_source", arguments) as clients:
        print(f"    {options.sessions} logins took {time.monotonic() - began:.1f} s", flush=True)
        meter = Meter(lambda: cpu_of_session(leader), folder, load=clients.pids)
        with around or nullcontext():
            clients.go()
        return Run(options.sessions * options.messages, meter.stop())


def main(arguments: Sequence[str] | None = None) -> None:
    """Run both in turn and print the ratio."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sessions", type=int, default=200)
    parser.add_argument("--messages", type=int, default=1000)
    parser.add_argument("--size", type=int, default=4096)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args(arguments)
    title = f"pop3: {options.sessions} sessions, {options.messages} messages of {options.size} octets each"
    print(title)
    contenders = [("waypost", lambda: _waypost(options)), ("dovecot", lambda: _dovecot(options))]
    last_line(report(title, "message", take_turns(contenders, options.rounds), aim=AIM))


if __name__ == "__main__":
    main()
