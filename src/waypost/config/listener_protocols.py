"""The table of the protocols that a listener may speak: one row a protocol, with all that depends on it alone.

A row can't be left incomplete: every column is required, and a worker does not start if
`service/session_makers.py` can't make the sessions of a row. Nothing else lists protocols (docs/decisions/0035).
"""

from enum import Enum, StrEnum, auto


class Encryption(Enum):
    """How TLS begins on a listener."""

    NEVER = auto()
    ON_REQUEST = auto()  # STARTTLS, STLS; where the settings have a certificate
    AT_ONCE = auto()  # from the first octet (RFC 8314)


class Clients(Enum):
    """Who connects to a listener."""

    MAIL_SERVERS = auto()  # any mail server, with mail for addresses here
    FRONT_END = auto()  # our own mail server that passes mail to this one
    DEVICES = auto()  # devices that can't log in; their IP address identifies them
    SENDERS = auto()  # people, who log in and send mail
    READERS = auto()  # people, who log in and read mail


_NEVER, _ON_REQUEST, _AT_ONCE = Encryption
_SMTP_REFUSAL, _POP3_REFUSAL = "{reply}", "-ERR [SYS/TEMP] {text}"  # POP3 has no other code for us (RFC 3206 4)


class ListenerProtocol(StrEnum):
    """The protocol of a listener. `speaks` is its common name, and `port` the usual port.

    `refusal` is the form of a reply instead of a greeting: it holds `{reply}` (an SMTP reply) or only its `{text}`;
    `sessions` is the function of `service/session_makers.py` that makes its sessions.
    """

    _value_: str
    speaks: str
    port: int
    encryption: Encryption
    clients: Clients
    refusal: str
    sessions: str

    def __new__(
        cls, name: str, speaks: str, port: int, encryption: Encryption, clients: Clients, refusal: str, sessions: str
    ) -> "ListenerProtocol":
        """Make a row: all columns are required."""
        row = str.__new__(cls, name)
        row._value_ = name
        row.speaks, row.port, row.encryption = speaks, port, encryption
        row.clients, row.refusal, row.sessions = clients, refusal, sessions
        return row

    SMTP = "smtp", "SMTP", 25, _ON_REQUEST, Clients.MAIL_SERVERS, _SMTP_REFUSAL, "reception"
    SUBMISSION = "submission", "SMTP", 587, _ON_REQUEST, Clients.SENDERS, _SMTP_REFUSAL, "submission"
    SUBMISSIONS = "submissions", "SMTP", 465, _AT_ONCE, Clients.SENDERS, _SMTP_REFUSAL, "submission"
    TRUSTED_SUBMISSION = "trusted-submission", "SMTP", 587, _ON_REQUEST, Clients.DEVICES, _SMTP_REFUSAL, "devices"
    LMTP = "lmtp", "LMTP", 24, _NEVER, Clients.FRONT_END, _SMTP_REFUSAL, "local_mail"
    POP3 = "pop3", "POP3", 110, _ON_REQUEST, Clients.READERS, _POP3_REFUSAL, "pop3"
    POP3S = "pop3s", "POP3", 995, _AT_ONCE, Clients.READERS, _POP3_REFUSAL, "pop3"

    @property
    def implicit_tls(self) -> bool:
        """True where TLS begins with the first octet."""
        return self.encryption is Encryption.AT_ONCE

    @property
    def login(self) -> bool:
        """True where clients log in, and so need TLS."""
        return self.clients in (Clients.SENDERS, Clients.READERS)

    @property
    def from_servers(self) -> bool:
        """True where mail servers connect: TLS accepts what old servers support, and there is no login."""
        return self.clients in (Clients.MAIL_SERVERS, Clients.FRONT_END)
