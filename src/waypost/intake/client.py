"""The facts about the client of an intake session: its address, its EHLO name, its account. Values only."""

from dataclasses import dataclass, field

from waypost.intake.tasks import ReplyDelay
from waypost.message.verdict import Verdict
from waypost.protocol.session import Peer
from waypost.storage import Account


@dataclass(slots=True)
class Client:
    """One client. `helo` is the name in EHLO, HELO or LHLO; `account` is the account it sends for, or None.

    `trusted` is True where `account` comes from the client's network, not from a login. `verdicts` are the results of
    checks on the client itself, by method; they hold for all its messages. `patience` is how long its replies may
    still wait for these checks; None before the first check.
    """

    peer: Peer
    helo: str = ""
    extended: bool = False
    account: Account | None = None
    trusted: bool = False
    verdicts: dict[str, Verdict] = field(default_factory=dict)
    patience: ReplyDelay | None = None

    @property
    def authenticated(self) -> bool:
        """True after a login."""
        return self.account is not None and not self.trusted

    @property
    def name(self) -> str | None:
        """The DNS name of the client's address, if it leads back to the address; None when it is not known."""
        reverse = self.verdicts.get("iprev")
        return reverse.value if reverse is not None and reverse.result == "pass" else None

    @property
    def tls(self) -> str | None:
        """The TLS of the connection for trace and journal: `TLSv1.3 TLS_AES_256_GCM_SHA384`; None for plain text."""
        tls = self.peer.tls
        return f"{tls.version} {tls.cipher}" if tls else None

    @property
    def facts(self) -> dict[str, str]:
        """The fields of a log line that identify the client."""
        if self.account is None:
            return {"peer": self.peer.address}
        return {"peer": self.peer.address, "account": self.account.address}
