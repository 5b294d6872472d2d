"""What an intake session knows of its client: who connected, what it said of itself, who logged in. Values only."""

from dataclasses import dataclass, field

from waypost.intake.tasks import Patience
from waypost.message.verdict import Verdict
from waypost.protocol.session import Peer
from waypost.storage import Account


@dataclass(slots=True)
class Client:
    """One client. `helo` is what EHLO, HELO or LHLO said; `account` is in whose name it sends, None for nobody.

    `trusted` is true where no login says so, but the network that the client connects from. `verdicts` is what was
    found out about the client itself, by method: it holds for all its messages. `patience` is for how long its replies
    may still wait for that, None where nothing was asked yet.
    """

    peer: Peer
    helo: str = ""
    extended: bool = False
    account: Account | None = None
    trusted: bool = False
    verdicts: dict[str, Verdict] = field(default_factory=dict)
    patience: Patience | None = None

    @property
    def authenticated(self) -> bool:
        """True after a login."""
        return self.account is not None and not self.trusted

    @property
    def name(self) -> str | None:
        """The name of the client's address in DNS, where it leads back to the address; None where that is not known."""
        reverse = self.verdicts.get("iprev")
        return reverse.value if reverse is not None and reverse.result == "pass" else None

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
