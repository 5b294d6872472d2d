"""What an intake session knows of its client: who connected, what it said of itself, who logged in. Values only."""

from dataclasses import dataclass

from waypost.protocol.session import Peer
from waypost.storage import Account


@dataclass(slots=True)
class Client:
    """One client. `helo` is what EHLO, HELO or LHLO said; `account` is in whose name it sends, None for nobody.

    `trusted` is true where no login says so, but the network that the client connects from.
    """

    peer: Peer
    helo: str = ""
    extended: bool = False
    account: Account | None = None
    trusted: bool = False

    @property
    def authenticated(self) -> bool:
        """True after a login."""
        return self.account is not None and not self.trusted

    @property
    def tls(self) -> str | None:
        """The TLS of the connection for trace and journal: `TLSv1.3 TLS_AES_256_GCM_SHA384`; None for plain text."""
        tls = self.peer.tls
        return f"{tls.version} {tls.cipher}" if tls else None

    @property
    def facts(self) -> dict[str, str]:
        """Who this is, for a line of the log."""
        if self.account is None:
            return {"peer": self.peer.address}
        return {"peer": self.peer.address, "account": self.account.address}
