"""The table of what a listener may speak: one row a protocol, and all that follows from the protocol alone is in it.

A row can't be left unfinished: each column is demanded here, and no worker starts with a row whose sessions nobody
makes (`service/ways_in.py`). Nothing else lists protocols. docs/decisions/0035.
"""

from enum import Enum, StrEnum, auto


class Encryption(Enum):
    """How TLS begins on a listener."""

    NEVER = auto()
    ON_REQUEST = auto()  # STARTTLS, STLS; where the settings have a certificate
    AT_ONCE = auto()  # from the first octet (RFC 8314)


class Clients(Enum):
    """Who connects to a listener."""

    MAIL_SERVERS = auto()  # anybody's, with mail for addresses here
    FRONT_END = auto()  # a mail server of ours in front of this one
    DEVICES = auto()  # known by their address; they can't log in
    SENDERS = auto()  # people, who log in and send mail
    READERS = auto()  # people, who log in and read mail


_NEVER, _ON_REQUEST, _AT_ONCE = Encryption
_SMTP_REFUSAL, _POP3_REFUSAL = "{reply}", "-ERR [SYS/TEMP] {text}"  # POP3 has no other code for us (RFC 3206 4)


class ListenerProtocol(StrEnum):
    """What is spoken on a listener. `speaks` is the protocol as people know it, and `port` the usual one.

    `refusal` is what a client hears instead of a greeting, made of `{reply}` (an SMTP reply) or its `{text}` alone;
    `sessions` is the function of `service/ways_in.py` that makes its sessions.
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
        """Make a row: all columns are demanded."""
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
        """True where mail servers connect: TLS takes what old ones know, and nobody logs in."""
        return self.clients in (Clients.MAIL_SERVERS, Clients.FRONT_END)
