"""A POP3 client that leaves mail on the server: it fetches what it has not seen, by UIDL (RFC 1939 section 7)."""

from dataclasses import dataclass, field

import msgspec
from argon2 import PasswordHasher

from waypost.access.pop3 import Pop3Session
from waypost.login.desk import LoginDesk
from waypost.login.passwords import make_credentials
from waypost.protocol.session import Peer, TlsInfo
from waypost.storage import Storage

PASSWORD = "can we keep it?"
# A cheap hash: a torture logs in thousands of times.
CREDENTIALS = msgspec.structs.replace(
    make_credentials(PASSWORD), argon2=PasswordHasher(time_cost=1, memory_cost=8, parallelism=1).hash(PASSWORD)
)
_TLS = TlsInfo("TLSv1.3", "TLS_AES_256_GCM_SHA384", server_end_point=b"e" * 32)
_PEER = Peer("192.0.2.1", 40000, "192.0.2.2", 995, _TLS)


@dataclass
class Keeper:
    """One mail program. `kept` has what it fetched, by UIDL; `fetched` counts how often each message came."""

    address: str
    kept: dict[bytes, bytes] = field(default_factory=dict)
    fetched: dict[bytes, int] = field(default_factory=dict)

    async def visit(self, storage: Storage, now: int) -> list[bytes]:
        """Fetch what is new, and return it; assert that no UIDL names another message than before."""
        desk = LoginDesk(storage.directory, now=lambda: now)
        session = Pop3Session(
            desk=desk, mailboxes=storage.mailboxes, now=lambda: now, hostname="mx.keeper.test", starttls=False
        )
        try:
            await session.start(_PEER)
            await self._say(session, f"USER {self.address}\r\nPASS {PASSWORD}\r\n".encode())
            listing = (await self._say(session, b"UIDL\r\n")).split(b"\r\n")
            names = dict(line.split(b" ", 1) for line in listing if line[:1].isdigit())
            new = []
            for number, name in names.items():
                octets = (await self._say(session, b"RETR " + number + b"\r\n")).partition(b"\r\n")[2]
                if name not in self.kept:
                    self.kept[name] = octets
                    self.fetched[octets] = self.fetched.get(octets, 0) + 1
                    new.append(octets)
                assert self.kept[name] == octets, f"{name!r} names another message"
            await self._say(session, b"QUIT\r\n")
        finally:
            session.closed()
            desk.close()
        return new

    @staticmethod
    async def _say(session: Pop3Session, octets: bytes) -> bytes:
        session.receive(octets)
        said = bytearray()
        while True:
            await session.advance()
            more = session.take_output()
            if not more:
                return bytes(said)
            said += more
